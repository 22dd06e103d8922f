//! Sieges in which the holder starts again: what it was granted before must not count, nor be granted anew while something
//! waits for it.

use types::Epoch;

use super::check::Checked;
use super::machine::Stream;
use super::queue::MS;
use super::siege::{CALMS_MAX, Siege};
use super::world::World;

impl World {
    /// See [`Plot::Revenant`](super::siege::Plot::Revenant).
    pub(super) fn plot_revenant(&mut self, siege: &mut Siege) -> Checked {
        let (now, trip, at) = (self.queue.now(), self.trip(), siege.holder);
        match siege.stage {
            0 if !self.may_forget(at) => siege.left = 0,
            0 => {
                self.end_for(at, MS, MS + trip)?;
                siege.stage = 1;
            }
            1 | 2 if !self.has_started(at) => {}
            1 if !self.is_wanted(at, &siege.zone) => self.want_zone(at, &siege.zone)?,
            1 if self.holds(at, &siege.zone) && self.may_forget(at) => {
                // By then coordinators have given up on it, and votes are withheld on its account: it is granted nothing.
                self.end_for(at, 3 * trip, 3 * trip)?;
                siege.stage = 2;
            }
            2 => {
                self.deafen_to_all_but(at, siege.writer);
                if !self.is_wanted(at, &siege.zone) {
                    self.want_zone(at, &siege.zone)?;
                }
                siege.stage = 3;
            }
            3 if now >= siege.since + 2 * trip => {
                self.deafen(at);
                siege.stage = 4;
            }
            _ => {}
        }
        Ok(())
    }

    /// See [`Plot::Namesake`](super::siege::Plot::Namesake).
    pub(super) fn plot_namesake(&mut self, siege: &mut Siege) -> Checked {
        let (now, trip, term, at) = (self.queue.now(), self.trip(), self.leases.term_ns(), siege.holder);
        match siege.stage {
            0 if !self.may_forget(at) => siege.left = 0,
            0 => {
                self.end_for(at, MS, MS + trip)?;
                siege.stage = 1;
            }
            1 if siege.age > CALMS_MAX => siege.left = 0,
            2 | 3 if now >= siege.since + 3 * term => siege.left = 0,
            1 | 2 if !self.has_started(at) => {}
            1 if !self.is_wanted(at, &siege.zone) => self.want_zone(at, &siege.zone)?,
            1 if self.holds(at, &siege.zone) && self.is_calm() && self.may_forget(at) => {
                self.end_for(at, term * 5 / 4, trip)?;
                siege.stage = 2;
            }
            2 => {
                if !self.is_wanted(at, &siege.zone) {
                    self.want_zone(at, &siege.zone)?;
                }
                siege.stage = 3;
            }
            // It asks as soon as it may speak, and somebody's journal is about to come before anybody has read that.
            3 if self.speaks(at) && self.is_to_read(at) => {
                self.silence(at);
                siege.stage = 4;
            }
            4 if self.holds(at, &siege.zone) => {
                self.deafen(at);
                siege.stage = 5;
            }
            4 if now >= siege.since + 3 * trip => siege.left = 0,
            5 if self.is_answered(siege) => siege.stage = 6,
            _ => {}
        }
        Ok(())
    }

    /// Whether anybody's stream to it is open.
    fn is_to_read(&self, at: usize) -> bool {
        let lives = self.machines.iter().filter_map(|machine| machine.life.as_ref());
        let opens =
            |((_, peer), stream): (&(Epoch, usize), &Stream)| *peer == at && matches!(stream, Stream::Open { .. });
        lives.into_iter().any(|life| life.streams.iter().any(opens))
    }

    /// Whether the beginning of its life is durable.
    fn speaks(&self, at: usize) -> bool {
        let life = self.machines[at].life.as_ref();
        life.and_then(|life| life.core()).is_some_and(|core| core.hello().is_some())
    }
}
