//! What a core of a schedule puts out: done, and shown to the judge.

use dace::{Core, Output, Record};
use types::journal::{RecordKind, decode_proposal};
use types::{CommandId, Timestamp};

use super::node::Item;
use super::world::{MS, World};
use crate::group::check::{Checked, ensure, violation};

impl World {
    /// Does what a core puts out.
    pub(super) fn drain(&mut self, at: usize) -> Checked {
        loop {
            let Some(output) = self.nodes[at].core.as_mut().and_then(Core::poll_output) else { return Ok(()) };
            match output {
                Output::Append(record) => self.appended(at, record)?,
                Output::Keep(kept) => self.nodes[at].append(Item::Kept(kept)),
                Output::Execute { timestamp, id, body, .. } => self.execute(at, timestamp, id, &body)?,
                Output::Cut { timestamp } => {
                    self.say(at, || format!("cuts at {timestamp}"));
                    if self.nodes[at].rolled_back.is_none() {
                        self.judge.cut(at, timestamp)?;
                    }
                }
                Output::Send { to, message } => {
                    let to = usize::try_from(to.0).expect("a small number") - 1;
                    self.messages.push_back((at, to, message));
                }
                Output::ReadReady { read } | Output::LeasedReady { read } => {
                    if let Some(slots) = self.nodes[at].reads.remove(&read) {
                        self.say(at, || format!("answers read {read}"));
                        self.judge.read_ended(at, read, &slots)?;
                    }
                }
                Output::ReadContended { read } | Output::LeasedContended { read } => {
                    self.nodes[at].reads.remove(&read);
                    self.judge.read_dropped(at, read);
                }
                Output::WantSnapshot { cut } => {
                    let wants = &mut self.nodes[at].wants;
                    *wants = (*wants).max(Some(cut));
                }
                // It is in the state that was installed: its client is not told its outcome.
                Output::Covered { id } => {
                    self.nodes[at].waiting.remove(&id);
                    let holds = self.nodes[at].rolled_back.is_some() || self.judge.sees(at, id);
                    ensure(holds, "outcome", || format!("replica {} lacks {id}, which it says it holds", at + 1))?;
                }
                Output::Pends { .. } | Output::Settles { .. } | Output::Lease { .. } => {
                    unreachable!("nobody reads beside the loop")
                }
                Output::Void { .. } | Output::ReadAgain { .. } | Output::Ended { .. } => {
                    unreachable!("nobody proposes a Reconfig")
                }
            }
        }
    }

    fn appended(&mut self, at: usize, record: Record) -> Checked {
        let header = record.header;
        self.say(at, || {
            let (id, timestamp, ballot) = (header.id, header.timestamp.0 % (60_000 * MS), header.ballot);
            let flags = header.flags;
            format!("says #{} {:?} {id} at {timestamp} ballot {ballot} flags {flags}", header.position, header.kind)
        });
        self.nodes[at].append(Item::Said(record));
        // Above ballot 0 the value is fixed already.
        if header.kind == RecordKind::Commit && header.ballot > 0 { self.committed(at, &header) } else { Ok(()) }
    }

    fn execute(&mut self, at: usize, timestamp: Timestamp, id: CommandId, body: &[u8]) -> Checked {
        self.say(at, || format!("executes {id} at {}", timestamp.0 % (60_000 * MS)));
        let slots = match decode_proposal(body) {
            Ok((slots, _)) => slots,
            Err(error) => return violation("integrity", format!("the body of {id} at replica {}: {error}", at + 1)),
        };
        if self.nodes[at].rolled_back.is_some() {
            return Ok(());
        }
        self.judge.executed(at, (timestamp, id), &slots)?;
        self.answer(at, id, timestamp)
    }
}
