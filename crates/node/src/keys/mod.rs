//! The keys folder: the node's signing key and the cluster key. It lies outside the data folder, so that a
//! copy of the data alone can neither sign nor open a secret. `docs/formats/keys.md`.

mod seal;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use types::sign::Signer;
use zeroize::Zeroizing;

pub use seal::{ClusterKey, Secret, UnsealError};

use crate::error::StartError;

/// File name of the signing key.
const NODE_KEY: &str = "node.key";
/// File name of the cluster key.
const CLUSTER_KEY: &str = "cluster.key";
/// First line of the signing key file.
const NODE_KEY_HEADER: &str = "entangle-node-key-v1";
/// First line of the cluster key file.
const CLUSTER_KEY_HEADER: &str = "entangle-cluster-key-v1";

/// The node's Ed25519 key.
pub struct NodeKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl NodeKey {
    fn from_seed(seed: &[u8; 32], path: &Path) -> Result<Self, StartError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| unusable(path, "does not hold a usable Ed25519 seed; restore it from a copy"))?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Ok(Self { pair, public })
    }
}

impl Signer for NodeKey {
    fn public_key(&self) -> [u8; 32] {
        self.public
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

/// Both keys of a node.
pub struct Keys {
    /// Signs journal batches, checkpoints and receipts.
    pub node: Arc<NodeKey>,
    /// Seals the secrets of access keys.
    pub cluster: ClusterKey,
}

impl Keys {
    /// Reads the keys of a folder. With `create`, makes the ones that are missing; without, a missing one is
    /// an error (the data was made with it).
    pub fn open(folder: &Path, create: bool) -> Result<Self, StartError> {
        if create {
            make_folder(folder)?;
        }
        let node_path = folder.join(NODE_KEY);
        let cluster_path = folder.join(CLUSTER_KEY);
        let seed = open_key(&node_path, NODE_KEY_HEADER, create)?;
        let cluster = open_key(&cluster_path, CLUSTER_KEY_HEADER, create)?;
        Ok(Self { node: Arc::new(NodeKey::from_seed(&seed, &node_path)?), cluster: ClusterKey::new(&cluster) })
    }
}

/// Opens the signing key of a keys folder alone; with `create`, makes folder and key where they are missing. For a node
/// that joins a cluster: it has to show its key before it gets the cluster's.
pub fn open_node_key(folder: &Path, create: bool) -> Result<NodeKey, StartError> {
    if create {
        make_folder(folder)?;
    }
    let path = folder.join(NODE_KEY);
    NodeKey::from_seed(&*open_key(&path, NODE_KEY_HEADER, create)?, &path)
}

/// The cluster key of a keys folder, to be given to a node that joins.
pub fn read_cluster_key(folder: &Path) -> Result<Zeroizing<[u8; 32]>, StartError> {
    open_key(&folder.join(CLUSTER_KEY), CLUSTER_KEY_HEADER, false)
}

/// Writes the cluster key that a node was given when it joined, durably.
pub fn write_cluster_key(folder: &Path, key: &[u8; 32]) -> Result<(), StartError> {
    let path = folder.join(CLUSTER_KEY);
    write_key(&path, CLUSTER_KEY_HEADER, key).map_err(|source| io(&path, source))
}

fn make_folder(folder: &Path) -> Result<(), StartError> {
    fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(|source| io(folder, source))
}

/// 32 fresh random bytes from the operating system.
///
/// # Panics
/// When the operating system has no randomness to give: nothing safe can be done then.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

fn io(path: &Path, source: std::io::Error) -> StartError {
    StartError::Io { path: path.to_owned(), source }
}

fn unusable(path: &Path, reason: &str) -> StartError {
    StartError::Key { path: path.to_owned(), reason: reason.to_owned() }
}

fn open_key(path: &PathBuf, header: &str, create: bool) -> Result<Zeroizing<[u8; 32]>, StartError> {
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            Err(unusable(path, &format!("may be read by others than its owner; run: chmod 600 '{}'", path.display())))
        }
        Ok(_) => read_key(path, header),
        Err(missing) if missing.kind() == ErrorKind::NotFound && create => {
            let key = Zeroizing::new(random::<32>());
            write_key(path, header, &key).map_err(|source| io(path, source))?;
            Ok(key)
        }
        Err(missing) if missing.kind() == ErrorKind::NotFound => Err(StartError::KeyMissing { path: path.clone() }),
        Err(source) => Err(io(path, source)),
    }
}

fn read_key(path: &Path, header: &str) -> Result<Zeroizing<[u8; 32]>, StartError> {
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|source| io(path, source))?);
    let digits = text
        .strip_prefix(header)
        .and_then(|rest| rest.strip_prefix('\n'))
        .map(str::trim_end)
        .filter(|digits| digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let Some(digits) = digits else {
        return Err(unusable(path, &format!("is not a key file of this version (`{header}`); restore it from a copy")));
    };
    let mut key = Zeroizing::new([0; 32]);
    for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).expect("checked to be hex digits");
    }
    Ok(key)
}

/// Writes a key durably: a data folder must never outlive a key that it was made with.
fn write_key(path: &Path, header: &str, key: &[u8; 32]) -> std::io::Result<()> {
    let mut digits = Zeroizing::new(String::with_capacity(64));
    for byte in key {
        digits.push_str(&format!("{byte:02x}"));
    }
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(format!("{header}\n{}\n", digits.as_str()).as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = Keys::open(folder.path(), true).unwrap();
        let again = Keys::open(folder.path(), false).unwrap();
        assert_eq!(first.node.public_key(), again.node.public_key());
        let sealed = first.cluster.seal("AKID", &Secret::new("hush".to_owned()));
        assert_eq!(again.cluster.open("AKID", &sealed).unwrap().expose(), "hush");
        let mode = fs::metadata(folder.path().join(NODE_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_node_that_joins_shows_its_key_and_is_given_the_clusters() {
        let (first, joining) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of_first = Keys::open(first.path(), true).unwrap();
        let shown = open_node_key(joining.path(), true).unwrap().public_key();
        write_cluster_key(joining.path(), &read_cluster_key(first.path()).unwrap()).unwrap();
        let joined = Keys::open(joining.path(), false).unwrap();
        assert_eq!(joined.node.public_key(), shown);
        let sealed = of_first.cluster.seal("AKID", &Secret::new("hush".to_owned()));
        assert_eq!(joined.cluster.open("AKID", &sealed).unwrap().expose(), "hush");
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_broken_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Keys::open(folder.path(), true).unwrap();
        let path = folder.path().join(NODE_KEY);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Keys::open(folder.path(), false).err().unwrap().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(Keys::open(folder.path(), true), Err(StartError::Key { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(Keys::open(folder.path(), false), Err(StartError::KeyMissing { .. })));
    }
}
