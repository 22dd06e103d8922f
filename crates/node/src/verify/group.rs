//! Whose folder it is: the group, the replica in it, and its journals, one for each epoch that it still serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::query;
use dace::Membership;
use store::disk::Disk;
use store::state::{FjallOptions, FjallState};
use types::command::Member;
use types::sign::Signer as _;
use types::{ClusterId, Epoch};

use super::shadow::ShadowDisk;
use super::{CACHE_LEN, Found, VerifyError, open_shadow};
use crate::config::GroupConfig;
use crate::epochs::{EpochFolders, FIRST};
use crate::folder::DataFolder;
use crate::keys::Keys;
use crate::recover::Places;
use crate::start::alone;

/// The group that a state is of, and the replica that has the node's key in it. A state that cannot be read, or is empty, is
/// taken for that of a lone node; what is wrong with it is found later.
pub(super) fn of(state: &Path, keys: &Keys, cluster: ClusterId, found: &mut Found) -> Option<GroupConfig> {
    let key = keys.node.public_key();
    let options = FjallOptions { cache_len: CACHE_LEN, ..FjallOptions::default() };
    let lone = || Some(alone(cluster, key));
    let Ok(state) = FjallState::open(state, options) else { return lone() };
    let (Ok(Some(founding)), Ok(nodes)) = (query::genesis(&state), query::nodes(&state)) else { return lone() };
    let members = founding.genesis.members;
    let joined = nodes.into_iter().map(|row| row.node.member);
    let own = members.iter().cloned().chain(joined).find(|member: &Member| member.key == key);
    match own {
        Some(own) => {
            let faults = crate::change::faults_of(members.len());
            Some(GroupConfig { cluster, replica: own.replica, members, faults })
        }
        // Of a lone node the start says what is wrong.
        None if members.len() == 1 => lone(),
        None => {
            let what = "the key in the keys folder is of no node of this cluster; name the keys folder of the node whose data \
                        this is with --keys";
            found.finding("state", what);
            None
        }
    }
}

/// The journals, the ledger and the copy of the state of a folder, with writes going to memory.
pub(super) struct Shadows {
    first: Option<Arc<ShadowDisk>>,
    pub(super) later: Vec<(Membership, Arc<ShadowDisk>)>,
    over: Epoch,
    pub(super) ledger: Arc<ShadowDisk>,
    state: PathBuf,
}

/// Opens them; `None`, with a finding, where the folder does not say which there are.
pub(super) fn places(folder: &DataFolder, state: &Path, found: &mut Found) -> Result<Option<Shadows>, VerifyError> {
    let folders = EpochFolders::new(folder.root());
    let named = folders.list().and_then(|later| Ok((later, folders.over()?, folders.has_first()?)));
    let (later, over, has_first) = match named {
        Ok(named) => named,
        Err(error) => {
            found.finding("epochs", error);
            return Ok(None);
        }
    };
    // That of a lone node is there, whatever is in it.
    let first = has_first || (later.is_empty() && over < FIRST);
    let open = |membership: Membership| Ok((membership.clone(), open_shadow(folders.journal(membership.epoch))?));
    Ok(Some(Shadows {
        first: if first { Some(open_shadow(folder.journal())?) } else { None },
        later: later.into_iter().map(open).collect::<Result<_, VerifyError>>()?,
        over,
        ledger: open_shadow(folder.ledger())?,
        state: state.to_owned(),
    }))
}

impl Shadows {
    /// What they are called, and the journals on disk.
    pub(super) fn journals(&self) -> impl Iterator<Item = (String, &ShadowDisk)> {
        let first = self.first.iter().map(|disk| ("journal".to_owned(), disk.as_ref()));
        let later = self.later.iter();
        first.chain(later.map(|(of, disk)| (format!("epochs/{}/journal", of.epoch.0), disk.as_ref())))
    }

    /// As recovery takes them. An epoch that begins now is made nowhere.
    pub(super) fn open(&mut self) -> Places {
        let shadow = |disk: Arc<ShadowDisk>| disk as Arc<dyn Disk>;
        Places {
            journal: self.first.take().map(shadow),
            later: core::mem::take(&mut self.later).into_iter().map(|(of, disk)| (of, shadow(disk))).collect(),
            over: self.over,
            folders: None,
            ledger: self.ledger.clone(),
            state: self.state.clone(),
        }
    }
}
