//! This node's place in a cluster of several: founded by `entangle cluster init` or joined with a token, kept in the keys
//! folder, and carried by an endpoint of the mesh while the node is served.
//!
//! | part | file |
//! | --- | --- |
//! | what is known of the cluster: `cluster.toml` | `record.rs` |
//! | the first node | `found.rs` |
//! | a further node: token, certificate, cluster key | `join.rs` |
//! | what both sides say then | `words.rs` |
//! | newcomers at the door of a node that is served | `door.rs` |
//! | the directory of nodes, which the group replicates | `directory.rs` |
//! | the endpoint of a node that is served, and its links for `status` | `links.rs` |

mod directory;
mod door;
mod found;
mod join;
mod links;
mod record;
mod words;

use std::time::{SystemTime, UNIX_EPOCH};

use mesh::links::identity::IdentityError;

pub(crate) use found::{Founding, found, issue_token};
pub(crate) use join::join_once;
pub(crate) use links::Links;
pub(crate) use record::Record;

use crate::exit::Failure;

/// Where the mesh listens and is reached if nobody says otherwise.
pub(crate) const DEFAULT_PORT: u16 = 9700;

/// Most reasons name the file and what to do.
fn not_usable(error: &IdentityError) -> Failure {
    match error {
        IdentityError::Io { .. } => {
            Failure::failed(format!("{error}; check that the folder exists and that this user may write to it"))
        }
        error => Failure::failed(error.to_string()),
    }
}

/// A node's name, made of its region: unique enough to tell nodes apart in a list.
fn name_in(region: &str) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let region: String = region.chars().map(harmless).take(48).collect();
    let region = region.trim_matches('-');
    let region = if region.is_empty() { "node" } else { region };
    format!("{region}-{}", record::hex(&node::keys::random::<2>()))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_labels() {
        for region in ["us-east4", "-", "A_b", &"x".repeat(64)] {
            let name = super::name_in(region);
            let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() <= 63 && name.chars().all(label) && !name.ends_with('-'), "{name}");
        }
    }
}
