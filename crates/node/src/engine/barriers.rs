//! Reads of the whole state that find no quiet instant, because something is written all the time: each becomes a command
//! that touches every slot and changes nothing. Where that is executed here, the state has all that was ordered before it and
//! nothing else, and so all that anyone was told of before the read was asked for.

use types::command::Op;
use types::{Command, CommandId, Epoch};

use super::{Loop, Reading, Submitted, refused};
use crate::clock;
use crate::error::WriteError;
use crate::keys::random;

impl Loop {
    /// Orders a read among the writes.
    pub(crate) fn order(&mut self, reading: Reading) {
        if self.shared.membership().logic < catalog::LOGIC_WITH_BARRIERS {
            let reason = WriteError::SlowDown("what is to be listed changes without a pause");
            return Submitted::Read(reading).refuse(reason);
        }
        let command = Command { salt: random(), principal: String::new(), request: None, op: Op::Barrier };
        let submission = match crate::write::accept::submission(&command) {
            Ok(submission) => submission,
            Err(error) => return Submitted::Read(reading).refuse(error),
        };
        match self.replica.handle_submit(clock::now(), command, submission) {
            Ok((epoch, id)) => {
                self.barriers.insert(id, (epoch, reading));
            }
            Err(error) if self.passes(error, reading.since_ns) => self.again.push(reading),
            Err(error) => Submitted::Read(reading).refuse(refused(error)),
        }
    }

    /// A command was executed, and none behind it yet.
    pub(crate) fn passed(&mut self, id: CommandId) {
        let Some((_, reading)) = self.barriers.remove(&id) else { return };
        self.shared.metrics.ordered_read();
        let view = reading.whole.then(|| self.shared.view_now());
        // The receiver may be gone: its client went away.
        let _ = reading.answer.send(Ok(view));
    }

    /// What came of a command is not known here, or it came to nothing: the read is tried again. False for other commands.
    pub(crate) fn read_again(&mut self, id: CommandId) -> bool {
        let barrier = self.barriers.remove(&id);
        let is_barrier = barrier.is_some();
        self.again.extend(barrier.map(|(_, reading)| reading));
        is_barrier
    }

    /// An epoch is not served any more: nor are its commands.
    pub(crate) fn read_again_after(&mut self, epoch: Epoch) {
        let of_it = self.barriers.extract_if(|_, (of, _)| *of == epoch);
        self.again.extend(of_it.map(|(_, (_, reading))| reading));
    }
}
