//! A further node: shows its token once, and keeps what it is given.

use std::net::SocketAddr;

use bytes::Bytes;
use mesh::links::identity::{Authority, Identity, JoinError, Token, TokenError, join};
use mesh::links::{Clock, Refusal, RefusalKind};
use node::keys::{open_node_key, write_cluster_key};
use types::sign::Signer as _;

use super::record::Record;
use super::words::{Introduction, Welcome};
use super::{name_in, not_usable, now_s};
use crate::exit::{Exit, Failure};
use crate::settings::{Settings, Sourced};

/// Joins with the token of the settings, unless the keys folder shows that this node has joined before.
pub(crate) async fn join_once(settings: &Settings, given: &Sourced) -> anyhow::Result<()> {
    let token = read_token(given)?;
    let keys = &settings.keys;
    if let Some(_record) = Record::read(keys)? {
        let own = Identity::open(keys).map_err(|error| not_usable(&error))?;
        if own.cluster() == token.cluster() {
            return Ok(());
        }
        return Err(Failure::failed(format!(
            "{} is the keys folder of a node of cluster {}, and the join token is of cluster {}; start it without {}, or \
             give the new node folders of its own with --data",
            keys.display(),
            own.cluster(),
            token.cluster(),
            given.origin
        ))
        .into());
    }
    if settings.data.join("cluster").exists() {
        return Err(Failure::failed(format!(
            "{} holds data already, and a node joins with an empty folder; give it a new one with --data",
            settings.data.display()
        ))
        .into());
    }
    let key = open_node_key(keys, true)?.public_key();
    let mesh = settings.mesh_advertise.clone().or_else(|| settings.mesh.and_then(reachable));
    let introduction = Introduction { key, region: settings.region.clone(), mesh };
    let name = settings.name.clone().unwrap_or_else(|| name_in(&settings.region));
    let said = Bytes::from(introduction.to_text());
    let joined = join(&token, &name, said, &Clock::system()).await.map_err(|error| refused(&error, &token, given))?;
    let welcome = Welcome::parse(&joined.welcome).map_err(|reason| {
        Failure::failed(format!(
            "what the cluster told this node {reason}; use the same version of entangle at all nodes, and a new token"
        ))
    })?;
    let mut identity = joined.identity;
    write_cluster_key(keys, &welcome.cluster_key)?;
    identity.save(keys).map_err(|error| not_usable(&error))?;
    Authority::adopt(keys, &welcome.authority_key, &identity).map_err(|error| not_usable(&error))?;
    // Written last: what is there is complete.
    Record { region: Some(settings.region.clone()), nodes: welcome.nodes }.write(keys)?;
    tracing::info!(cluster = %identity.cluster(), replica = %identity.replica(), name, at = %joined.address, "joined");
    Ok(())
}

/// An address at which others may reach what listens there.
pub(super) fn reachable(listen: SocketAddr) -> Option<String> {
    (!listen.ip().is_unspecified() && listen.port() != 0).then(|| listen.to_string())
}

/// The token, or the file that holds it if it begins with `@`. Its text is never shown.
fn read_token(given: &Sourced) -> Result<Token, Failure> {
    let origin = &given.origin;
    let text = match given.text.strip_prefix('@') {
        None => given.text.clone(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("{origin}: {path}: {error}; name the file that holds the token"))
        })?,
    };
    text.parse().map_err(|error: TokenError| {
        let advice = "print one with `entangle cluster token` at any node of the cluster";
        Failure::usage(format!("{origin}: {error}; {advice}"))
    })
}

/// Why the node was not let in, and what to do.
fn refused(error: &JoinError, token: &Token, given: &Sourced) -> Failure {
    let again = "make a new one with `entangle cluster token` at a node of the cluster";
    let clocks = "set the clocks of both machines right";
    match error {
        JoinError::Unusable(reason) => Failure::usage(format!("{reason}; choose another name with --name")),
        JoinError::Unreachable(tried) => Failure::new(
            Exit::Unavailable,
            format!(
                "no node of the cluster answers ({tried}); check that `entangle serve` runs there, and that nothing in \
                 between keeps UDP out"
            ),
        ),
        JoinError::Refused(Refusal { kind: RefusalKind::Busy, reason, .. }) => Failure::new(
            Exit::Unavailable,
            format!("the cluster cannot take a node in now: {reason}; start this one again once that is over"),
        ),
        JoinError::Refused(Refusal { kind, reason, .. }) => Failure::failed(match kind {
            RefusalKind::TokenUsed => {
                format!("the join token of {} was used before, and is good for one node; {again}", given.origin)
            }
            RefusalKind::TokenExpired if now_s() > token.expires_s() => format!(
                "the join token of {} expired {} ago by the clock of this machine; {again}, and if that cannot be, {clocks}",
                given.origin,
                span(now_s() - token.expires_s())
            ),
            RefusalKind::TokenExpired => format!(
                "the join token of {} has expired by the cluster's clock, and not by that of this machine; {clocks}, or {again}",
                given.origin
            ),
            RefusalKind::TokenUnknown => format!(
                "the cluster does not know the join token of {}: it was changed on its way, or is of a cluster that was founded \
                 anew; {again}",
                given.origin
            ),
            RefusalKind::Expired => format!(
                "the certificate of the cluster's node has expired or is not valid yet by the clock of this machine; {clocks}"
            ),
            RefusalKind::ForeignCluster => format!(
                "the node at {} is of another cluster than the join token; {again} of that cluster, or check the address",
                token.addresses().join(", ")
            ),
            RefusalKind::NoAuthority => format!(
                "the node at {} does not keep the cluster's authority (authority.key in its keys folder); {again}, with the \
                 --address of one that does",
                token.addresses().join(", ")
            ),
            RefusalKind::Version => format!("{reason}; use the same version of entangle at all nodes"),
            _ => format!("the cluster did not let this node in: {reason} (the log of the node there may say more)"),
        }),
    }
}

/// `2 days`, `3 h`, `5 min`.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::settings::Origin;

    #[test]
    fn a_token_may_come_from_a_file_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "entangle_join_hush\n").unwrap();
        for text in [format!("@{}", path.display()), "entangle_join_hush".to_owned()] {
            let refused = read_token(&Sourced { text, origin: Origin::Flag("join") }).unwrap_err();
            assert!(refused.sentence.contains("damaged") && refused.sentence.contains("cluster token"), "{refused}");
            assert!(!refused.sentence.contains("hush"), "{refused}");
        }
        let missing = Sourced { text: "@/nowhere".to_owned(), origin: Origin::Variable("ENTANGLE_JOIN") };
        assert!(read_token(&missing).unwrap_err().sentence.contains("ENTANGLE_JOIN: /nowhere: "));
    }

    #[test]
    fn spans_read_well() {
        assert_eq!([10, 600, 10_000, 1_000_000].map(span), ["10 s", "10 min", "2 h", "11 days"]);
    }
}
