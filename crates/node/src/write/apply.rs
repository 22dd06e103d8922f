//! Step *apply*: the catalog executes a committed command against the newest rows.

use std::sync::Arc;

use bytes::Bytes;
use types::fact::Fact;
use types::state::{ReadError, StateRead, Write};
use types::{Command, CommandId, Epoch, Op, Outcome, SlotSet, Timestamp};

use crate::replica::overlay::{Layered, Overlay};

/// A command as it was executed: its outcome, what it changed, and what the ledger is told.
#[derive(Debug)]
pub struct Executed {
    /// Its decided timestamp.
    pub timestamp: Timestamp,
    /// Its id.
    pub id: CommandId,
    /// The epoch that decided it.
    pub epoch: Epoch,
    /// The slots that it touched.
    pub slots: SlotSet,
    /// What it gave.
    pub outcome: Outcome,
    /// The rows that it changed.
    pub writes: Vec<Write>,
    /// One per ledger entry.
    pub facts: Vec<Fact>,
}

/// Why a committed command could not be executed. The replica stops: to skip it would be to diverge.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The state could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal holds a command that this build cannot decode.
    #[error("command {id} of the journal cannot be decoded ({reason}); start this folder with the build that wrote it")]
    Undecodable {
        /// The command.
        id: CommandId,
        /// Why not.
        reason: String,
    },
}

/// Decodes the command in a proposal's body, as a journal replay or a peer gives it.
pub(crate) fn decode(id: CommandId, body: &Bytes) -> Result<(SlotSet, Command), ApplyError> {
    let undecodable = |reason: String| ApplyError::Undecodable { id, reason };
    let (slots, start) = types::journal::decode_proposal(body).map_err(|error| undecodable(error.to_string()))?;
    let command = Command::from_bytes(&body[start..]).map_err(|error| undecodable(error.to_string()))?;
    if matches!(command.op, Op::BeginEpoch(_)) {
        return Err(undecodable("an epoch begins by a Reconfig only".to_owned()));
    }
    Ok((slots, command))
}

/// The salt of what a Reconfig does to the state: equal at every member, and no secret (`docs/formats/commands.md`).
pub(crate) fn reconfig_salt(id: CommandId, body: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let hasher = Sha256::new_with_prefix(b"entangle/reconfig/v1\n").chain_update(id.to_bytes());
    hasher.chain_update(body).finalize().into()
}

/// Executes `command` and makes its changes visible in the overlay.
pub(crate) fn apply<S: StateRead + ?Sized>(
    overlay: &Overlay,
    state: &S,
    epoch: Epoch,
    (timestamp, id): (Timestamp, CommandId),
    slots: SlotSet,
    command: &Command,
) -> Result<Arc<Executed>, ApplyError> {
    let execution = catalog::execute(&Layered { overlay, state }, timestamp, id, command)?;
    overlay.insert(timestamp, &slots, &execution.writes);
    Ok(Arc::new(Executed {
        timestamp,
        id,
        epoch,
        slots,
        outcome: execution.outcome,
        writes: execution.writes,
        facts: execution.facts,
    }))
}
