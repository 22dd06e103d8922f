//! Bringing journals, state and log to where they stood, and proving that what was recovered is what was signed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dace::{EpochJournal, Membership, Remains, Stored};
use ledger::Entry;
use store::disk::Disk;
use store::journal::{Journal, JournalOptions, KeptKind, Replayed};
use store::log::LogFiles;
use store::state::{FjallOptions, FjallState};
use types::command::Genesis;
use types::journal::RecordHeader;
use types::sign::Signer as _;
use types::{CommandId, Epoch};

use crate::clock;
use crate::config::GroupConfig;
use crate::engine::install::stored_membership;
use crate::engine::journals;
use crate::epochs::EpochFolders;
use crate::error::StartError;
use crate::keys::{Keys, random};
use crate::peer::feed::from_stored;
use crate::read::leased::Leased;
use crate::replica::overlay::{Layered, Overlay};
use crate::replica::{Replica, Step};
use crate::start::{GROUP, first, genesis};
use crate::write::seal::{Head, Sealer};

/// Where recovery reads and writes: the data folder, or a shadow of it.
pub(crate) struct Places {
    /// The journal of the first epoch; `None` once that is over.
    pub(crate) journal: Option<Arc<dyn Disk>>,
    /// The journals of later epochs, rising.
    pub(crate) later: Vec<(Membership, Arc<dyn Disk>)>,
    /// This epoch, and those before it, are over.
    pub(crate) over: Epoch,
    /// Where epochs that begin now are made; `None`: nowhere.
    pub(crate) folders: Option<EpochFolders>,
    pub(crate) ledger: Arc<dyn Disk>,
    pub(crate) state: PathBuf,
}

impl Places {
    /// Of a group of one that has never had other members.
    pub(crate) fn of_first(journal: Arc<dyn Disk>, ledger: Arc<dyn Disk>, state: PathBuf) -> Self {
        Self { journal: Some(journal), later: Vec::new(), over: Epoch(0), folders: None, ledger, state }
    }
}

/// What recovery gives: everything that the threads will own.
pub(crate) struct Recovered {
    /// By epoch.
    pub(crate) journals: BTreeMap<Epoch, (Membership, Journal)>,
    pub(crate) replica: Replica<FjallState>,
    pub(crate) sealer: Sealer<FjallState>,
    pub(crate) state: Arc<FjallState>,
    pub(crate) log: Arc<LogFiles>,
    pub(crate) overlay: Arc<Overlay>,
    /// What the journals say is pending, too.
    pub(crate) leased: Leased,
    folders: Option<EpochFolders>,
    options: JournalOptions,
    signer: Arc<dyn types::sign::Signer>,
    pub(crate) group: GroupConfig,
    pub(crate) genesis: Genesis,
    /// The newest epoch that is known.
    pub(crate) membership: Membership,
    /// Whether it has opened an incarnation: it is the only member of every epoch that is served, and needs nobody for that.
    pub(crate) has_started: bool,
}

/// Brings journals, state and log to where they stood, and opens an incarnation, if this replica needs nobody for that:
/// then everything durable was executed and sealed when it returns.
pub(crate) fn recover(
    places: Places,
    cache_len: u64,
    ledger: bool,
    keys: &Keys,
    group: GroupConfig,
) -> Result<Recovered, StartError> {
    let is_founder = is_founder(&group, keys)?;
    let Places { journal, later, over, folders, ledger: ledger_disk, state } = places;
    let options = JournalOptions::new(group.cluster, group.replica);
    let first = first(&group);
    let mut journals = BTreeMap::new();
    let firsts = journal.filter(|_| is_founder).map(|disk| (first.clone(), disk));
    for (membership, disk) in firsts.into_iter().chain(later) {
        let (journal, report) =
            Journal::open(disk, options, keys.node.clone()).map_err(|error| StartError::Journal(error.to_string()))?;
        if let Some(torn) = &report.torn {
            tracing::info!(file = %torn.file, offset = torn.offset, "removed a flush that a crash cut short; it was never acknowledged");
        }
        journals.insert(membership.epoch, (membership, journal));
    }
    let fjall = FjallOptions { cache_len, ..FjallOptions::default() };
    let state = Arc::new(FjallState::open(&state, fjall).map_err(|error| StartError::State(error.to_string()))?);
    let log = LogFiles::open(ledger_disk).map_err(|error| StartError::Ledger(error.to_string()))?;
    let log = Arc::new(log);
    let overlay = Arc::new(Overlay::default());
    let sealer = Sealer::resume(GROUP, state.clone(), log.clone(), overlay.clone(), ledger)
        .map_err(|error| StartError::Ledger(error.to_string()))?;
    let cut = sealer.cut();
    let stored = stored_membership(state.as_ref()).map_err(StartError::State)?;
    let stored = stored.or_else(|| (is_founder || cut > types::Timestamp::ZERO).then(|| first.clone()));
    let named = |(membership, journal): &(Membership, Journal)| EpochJournal {
        membership: membership.clone(),
        base: journal.base(GROUP).map(|base| base.bytes.to_vec()),
    };
    let remains = Remains {
        stored: stored.map(|membership| Stored { cut, membership }),
        journals: journals.values().map(named).collect(),
        over,
    };
    let consensus = dace::Replica::new(GROUP, group.replica, remains, Arc::new(crate::engine::zones::set_up))
        .map_err(|error| StartError::Core(error.to_string()))?;
    let membership = consensus.newest().cloned().unwrap_or(first);
    if membership.logic > catalog::LOGIC_VERSION {
        return Err(StartError::Logic { needed: membership.logic, known: catalog::LOGIC_VERSION });
    }
    // What was said in an epoch with others has to be vouched for by them.
    let has_started = consensus.epochs().all(|epoch| epoch.members == [group.replica]) && membership.has(group.replica);
    let replica = Replica::new(consensus, (state.clone(), cut), overlay.clone());
    let (genesis, signer) = (genesis(&group), keys.node.clone());
    let mut recovered = Recovered {
        journals,
        replica,
        sealer,
        state,
        log,
        overlay,
        leased: Leased::default(),
        folders,
        options,
        signer,
        group,
        genesis,
        membership,
        has_started,
    };
    if !has_started {
        // The rest needs the others.
        recovered.replay()?;
        recovered.is_founded()?;
        return Ok(recovered);
    }
    let sealed = recovered.last_sealed()?;
    recovered.replay()?;
    recovered.knows(sealed)?;
    recovered.open_incarnation()?;
    recovered.found()?;
    recovered.is_whole()?;
    Ok(recovered)
}

/// Whether this replica is a member of the first epoch; the group must name its key then.
fn is_founder(group: &GroupConfig, keys: &Keys) -> Result<bool, StartError> {
    let own = group.members.iter().find(|member| member.replica == group.replica);
    match own {
        Some(own) if own.key == keys.node.public_key() => Ok(true),
        Some(_) => Err(StartError::Core(format!(
            "the group names another key for replica {}; start it with the keys folder that was made for it",
            group.replica
        ))),
        None => Ok(false),
    }
}

impl Recovered {
    /// The rows as a request would see them.
    pub(crate) fn layered(&self) -> Layered<'_, FjallState> {
        Layered { overlay: &self.overlay, state: self.state.as_ref() }
    }

    /// The newest command of which the stored state has entries.
    fn last_sealed(&self) -> Result<Option<CommandId>, StartError> {
        for index in (0..self.sealer.head().size).rev() {
            let refused = |error: &dyn core::fmt::Display| StartError::Ledger(format!("entry {index}: {error}"));
            let bytes = self.log.entries(index..index + 1).map_err(|error| refused(&error))?;
            for bytes in bytes.as_chunks::<{ Entry::LEN }>().0 {
                let entry = Entry::from_bytes(bytes).map_err(|error| refused(&error))?;
                if !entry.is_block() {
                    return Ok(Some(entry.order.id));
                }
            }
        }
        Ok(None)
    }

    /// What was executed was in the journal before: without it, its end was lost, and the places of what it said
    /// would be given to something else, in the name of the same key.
    fn knows(&self, sealed: Option<CommandId>) -> Result<(), StartError> {
        let Some(status) = self.replica.status() else { return Ok(()) };
        match sealed.filter(|id| id.replica == self.group.replica) {
            Some(id) if (id.incarnation, id.counter) > (status.incarnation, status.counter) => {
                Err(StartError::Journal(format!(
                    "it ends before command {id}, which was executed and acknowledged: its end was lost or cut off; \
                     keep the folder for examination and restore a backup into a new one"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Executes again what the journal holds above the stored state, sealing on the way.
    fn replay(&mut self) -> Result<(), StartError> {
        let journal = |error: &dyn core::fmt::Display| StartError::Journal(error.to_string());
        let readers: Vec<_> = self.journals.iter().map(|(epoch, (_, journal))| (*epoch, journal.reader())).collect();
        for (epoch, reader) in readers {
            for replayed in reader.replay(GROUP) {
                let restored = match replayed.map_err(|error| journal(&error))? {
                    Replayed::Said(record) => self.replica.restore_record(epoch, from_stored(record)),
                    Replayed::Kept(kept) if kept.kind == KeptKind::COMMAND => {
                        let kept =
                            kept_command(&kept.bytes).ok_or_else(|| journal(&"a kept command does not decode"))?;
                        self.replica.consensus().restore_kept(epoch, &kept)
                    }
                    Replayed::Kept(_) => continue,
                };
                restored.map_err(|error| StartError::Core(error.to_string()))?;
                self.drain()?;
            }
        }
        Ok(())
    }

    /// Opens the new incarnation and makes that durable, together with the head that may be signed next.
    fn open_incarnation(&mut self) -> Result<(), StartError> {
        self.replica.handle_start(clock::now()).map_err(|error| StartError::Core(error.to_string()))?;
        self.drain()
    }

    /// On the first start: the genesis. On others: it must be that of these keys.
    fn found(&mut self) -> Result<(), StartError> {
        if self.is_founded()? {
            return Ok(());
        }
        let (command, submission) = founding(&self.genesis).map_err(|error| StartError::Core(error.to_string()))?;
        self.replica
            .handle_submit(clock::now(), command, submission)
            .map_err(|error| StartError::Core(error.to_string()))?;
        self.drain()
    }

    /// Whether the genesis is there; if so, it must be that of this group.
    fn is_founded(&self) -> Result<bool, StartError> {
        let found = catalog::query::genesis(&self.layered()).map_err(|error| StartError::State(error.to_string()))?;
        match found {
            Some(found) if found.genesis != self.genesis => Err(StartError::Ledger(
                "it begins with other members or keys; put the keys folder back that this data folder was made with"
                    .to_owned(),
            )),
            found => Ok(found.is_some()),
        }
    }

    /// Nothing that was signed or durable may be missing: a shorter log is an older copy.
    fn is_whole(&self) -> Result<(), StartError> {
        let head = self.sealer.head();
        let durable = self.log.durable_len();
        if durable > head.size {
            return Err(StartError::Ledger(format!(
                "its files hold {durable} entries, and journal and state give {}: these are older copies than the \
                 ledger; put back those that were there, or restore a backup into a new folder",
                head.size
            )));
        }
        match self.kept_head() {
            Some(kept) if kept.size > head.size => Err(StartError::Ledger(format!(
                "it holds {} entries, and this node has signed {}: this is an older copy, or files of it are gone; \
                 restore a backup into a new folder",
                head.size, kept.size
            ))),
            _ => Ok(()),
        }
    }

    /// The head that was made durable last, before it was signed.
    pub(crate) fn kept_head(&self) -> Option<Head> {
        kept_head(self.journals.values().map(|(_, journal)| journal))
    }

    /// Does what the replica wants done, here and now, until it wants nothing.
    fn drain(&mut self) -> Result<(), StartError> {
        loop {
            let mut said: Option<(Epoch, Vec<store::journal::Record>)> = None;
            while let Some(step) = self.replica.poll_step().map_err(|error| StartError::Core(error.to_string()))? {
                match step {
                    Step::Append(epoch, record) => {
                        if said.as_ref().is_some_and(|(of, _)| *of != epoch) {
                            self.append(said.take())?;
                        }
                        let record =
                            store::journal::Record { header: record.header, salt: record.salt, body: record.body };
                        said.get_or_insert_with(|| (epoch, Vec::new())).1.push(record);
                    }
                    // Before the start, a member of a larger group says and asks nothing; alone, nobody is there to hear it.
                    Step::Executed(..)
                    | Step::Keep(..)
                    | Step::Send(..)
                    | Step::ReadReady(..)
                    | Step::ReadContended(..)
                    | Step::ReadAgain(..)
                    | Step::WantSnapshot(_)
                    | Step::Covered(_)
                    | Step::Void(..)
                    | Step::Removed => {}
                    Step::Pends(slots) => self.leased.pends(&slots),
                    Step::Settles(slots) => self.leased.settles(&slots),
                    Step::Lease(epoch, zone, until) => self.leased.lease(epoch, &zone, until),
                    Step::Changed(membership) => self.note(membership),
                    Step::Begin(membership) => self.begin(membership)?,
                    Step::Over(epoch) => self.folders.iter().try_for_each(|folders| folders.set_over(epoch))?,
                    Step::Closed(epoch) => {
                        self.append(said.take())?;
                        if let Some(folders) = self.folders.as_ref().filter(|_| self.journals.remove(&epoch).is_some())
                        {
                            folders.end(epoch)?;
                        }
                    }
                    Step::Block(block) => {
                        let head = self.sealer.seal(&block).map_err(|error| StartError::Ledger(error.to_string()))?;
                        agree(self.kept_head(), head)?;
                    }
                }
            }
            if !self.append(said)? {
                return Ok(());
            }
        }
    }

    fn note(&mut self, membership: Membership) {
        if membership.epoch > self.membership.epoch {
            self.membership = membership;
        }
    }

    /// An epoch begins here that has no journal yet.
    fn begin(&mut self, membership: Membership) -> Result<(), StartError> {
        let epoch = membership.epoch;
        let Some(folders) = self.folders.as_ref().filter(|_| !self.journals.contains_key(&epoch)) else {
            return Ok(());
        };
        folders.begin(&membership)?;
        let journal = journals::open(folders, epoch, self.options, self.signer.clone())?;
        self.journals.insert(epoch, (membership.clone(), journal));
        self.note(membership);
        Ok(())
    }

    /// Makes records durable. False when there are none.
    fn append(&mut self, said: Option<(Epoch, Vec<store::journal::Record>)>) -> Result<bool, StartError> {
        let Some((epoch, said)) = said else { return Ok(false) };
        let position = said.last().expect("at least one record was said").header.position;
        let incarnation = self.replica.core_of(epoch).map(|core| core.status().incarnation).unwrap_or_default();
        let batch = store::journal::Batch { group: GROUP, incarnation, records: &said };
        let Some((_, journal)) = self.journals.get_mut(&epoch) else { return Ok(false) };
        journal.append(&[batch], &[]).map_err(|error| StartError::Journal(error.to_string()))?;
        self.replica.handle_durable(clock::now(), epoch, position);
        Ok(true)
    }
}

/// The command that founds a group.
pub(crate) fn founding(genesis: &Genesis) -> Result<(types::Command, dace::Submission), crate::error::WriteError> {
    let op = types::Op::Genesis(genesis.clone());
    let command = types::Command { salt: random(), principal: String::new(), request: None, op };
    let submission = crate::write::accept::submission(&command)?;
    Ok((command, submission))
}

/// The inverse of what the loop keeps of a peer's command (`docs/formats/journal.md`).
fn kept_command(bytes: &bytes::Bytes) -> Option<dace::Kept> {
    let (header, rest) = bytes.split_first_chunk::<{ RecordHeader::LEN }>()?;
    let (salt, _) = rest.split_first_chunk::<32>()?;
    let header = RecordHeader::from_bytes(header).ok()?;
    Some(dace::Kept { header, salt: *salt, body: bytes.slice(RecordHeader::LEN + 32..) })
}

/// The head that was made durable last, before it was signed, in whichever journal.
pub(crate) fn kept_head<'a>(journals: impl Iterator<Item = &'a Journal>) -> Option<Head> {
    let heads = journals.filter_map(|journal| Head::from_bytes(&journal.kept(GROUP, KeptKind::TREE_HEAD)?));
    heads.max_by_key(|head| head.size)
}

/// A head that was made durable before must come out the same again.
pub(crate) fn agree(kept: Option<Head>, head: Head) -> Result<(), StartError> {
    match kept {
        Some(kept) if kept.contradicts(&head) => Err(StartError::Ledger(format!(
            "at size {} it does not have the root that this node signed before; keep the folder for examination and \
             restore a backup into a new one",
            head.size
        ))),
        _ => Ok(()),
    }
}
