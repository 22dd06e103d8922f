//! The steps of a schedule, and their text: one a line, replicas counted from 1.

use core::fmt;
use core::str::FromStr;

use types::{Slot, SlotSet};

use super::SLOTS;

/// One step. What does not apply (a replica is down, nothing is there to read) is passed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// `submit 1 0,5` or `submit 1 *`: a client of replica 1 submits a command on these slots.
    Submit(usize, SlotSet),
    /// `flush 1`: what replica 1 has appended is durable; `flush 1 but 2`: without its last two records.
    Flush(usize, u64),
    /// `read 1>2`: replica 2 reads all that replica 1 has said, and a new beat behind it.
    ReadAll(usize, usize),
    /// `read 1>2 3`: replica 2 reads three more records of replica 1 (or what there is of them), and a beat that is
    /// true behind them: what is durable by now, and the last promise that was given by then.
    Read(usize, usize, usize),
    /// `beat 1`: replica 1 makes a beat, which raises its promise, and sends it to nobody.
    Beat(usize),
    /// `tick 1`: the timers of replica 1 that are due fire.
    Tick(usize),
    /// `advance 100ms`: all clocks go on.
    Advance(u64),
    /// `advance 1 100ms`: the clock of replica 1 goes on.
    AdvanceOne(usize, u64),
    /// `crash 1`: the process ends, and what is not durable is lost; `crash 1 keep 2`: but for two items of the journal.
    Crash(usize, usize),
    /// `start 1`: it starts again on what it has.
    Start(usize),
    /// `give 1>2`: the oldest message from replica 1 to replica 2 (fetches, reads and their answers) comes.
    Give(usize, usize),
    /// `drop 1>2`: it is lost.
    Drop(usize, usize),
    /// `get 1 0,5` or `get 1 *`: a client of replica 1 begins a quorum read of these slots.
    Get(usize, SlotSet),
    /// `want 1`: replica 1 wants the lease of everything, and asks for it again and again. From the first on clocks run
    /// at different rates, and are not set.
    Want(usize),
    /// `unwant 1`: it does not any more.
    Unwant(usize),
    /// `leased 1 0,5` or `leased 1 *`: a client of replica 1 begins a read of these slots under the lease.
    Leased(usize, SlotSet),
    /// `store 1`: the state of replica 1 at its last cut is durable.
    Store(usize),
    /// `trim 1`: it trims its journal as far as it may.
    Trim(usize),
    /// `snapshot 1>2`: replica 2 installs the stored state of replica 1.
    Snapshot(usize, usize),
    /// `suspect 1 2`: replica 1 is told that replica 2 does not answer.
    Suspect(usize, usize),
    /// `trust 1 2`: that it does.
    Trust(usize, usize),
    /// `prefer 1 3,2`: replica 1 prefers these for its fast quorums.
    Prefer(usize, Vec<usize>),
    /// `rollback 1 5`: the disk of replica 1, which is down, loses its last five items though they were durable.
    RollBack(usize, usize),
    /// `settle`, `settle without 1,2`: everything is mended but those named, which are gone for good; then what a live
    /// replica knows is decided and executed everywhere.
    Settle(Vec<usize>),
    /// `settle deaf 3`: the same, but replica 3 speaks and never hears again, which counts as a failure of it.
    SettleDeaf(usize),
}

/// A line that is no step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Its number, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is no step: {}", self.line, self.text)
    }
}

impl core::error::Error for ParseError {}

/// The steps of a text: one a line; blank lines, and what stands behind a `#`, are passed over.
pub fn parse(text: &str) -> Result<Vec<Step>, ParseError> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default()).enumerate();
    let steps = lines.filter(|(_, line)| !line.trim().is_empty());
    steps.map(|(at, line)| line.parse().map_err(|()| ParseError { line: at + 1, text: line.to_owned() })).collect()
}

impl FromStr for Step {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let step = match words[..] {
            ["submit", at, on] => Self::Submit(replica(at)?, slots(on)?),
            ["flush", at] => Self::Flush(replica(at)?, 0),
            ["flush", at, "but", count] => Self::Flush(replica(at)?, number(count)?),
            ["read", link] => pair(link).map(|(from, to)| Self::ReadAll(from, to))?,
            ["read", link, count] => Self::Read(pair(link)?.0, pair(link)?.1, number(count)?),
            ["beat", at] => Self::Beat(replica(at)?),
            ["tick", at] => Self::Tick(replica(at)?),
            ["advance", time] => Self::Advance(duration(time)?),
            ["advance", at, time] => Self::AdvanceOne(replica(at)?, duration(time)?),
            ["crash", at] => Self::Crash(replica(at)?, 0),
            ["crash", at, "keep", count] => Self::Crash(replica(at)?, number(count)?),
            ["start", at] => Self::Start(replica(at)?),
            ["give", link] => pair(link).map(|(from, to)| Self::Give(from, to))?,
            ["drop", link] => pair(link).map(|(from, to)| Self::Drop(from, to))?,
            ["get", at, on] => Self::Get(replica(at)?, slots(on)?),
            ["want", at] => Self::Want(replica(at)?),
            ["unwant", at] => Self::Unwant(replica(at)?),
            ["leased", at, on] => Self::Leased(replica(at)?, slots(on)?),
            ["store", at] => Self::Store(replica(at)?),
            ["trim", at] => Self::Trim(replica(at)?),
            ["snapshot", link] => pair(link).map(|(from, to)| Self::Snapshot(from, to))?,
            ["suspect", at, of] => Self::Suspect(replica(at)?, replica(of)?),
            ["trust", at, of] => Self::Trust(replica(at)?, replica(of)?),
            ["prefer", at, order] => Self::Prefer(replica(at)?, replicas(order)?),
            ["rollback", at, count] => Self::RollBack(replica(at)?, number(count)?),
            ["settle"] => Self::Settle(Vec::new()),
            ["settle", "without", gone] => Self::Settle(replicas(gone)?),
            ["settle", "deaf", at] => Self::SettleDeaf(replica(at)?),
            _ => return Err(()),
        };
        Ok(step)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(at, on) => write!(f, "submit {} {}", at + 1, On(on)),
            Self::Flush(at, 0) => write!(f, "flush {}", at + 1),
            Self::Flush(at, but) => write!(f, "flush {} but {but}", at + 1),
            Self::ReadAll(from, to) => write!(f, "read {}>{}", from + 1, to + 1),
            Self::Read(from, to, count) => write!(f, "read {}>{} {count}", from + 1, to + 1),
            Self::Beat(at) => write!(f, "beat {}", at + 1),
            Self::Tick(at) => write!(f, "tick {}", at + 1),
            Self::Advance(ns) => write!(f, "advance {}", Span(*ns)),
            Self::AdvanceOne(at, ns) => write!(f, "advance {} {}", at + 1, Span(*ns)),
            Self::Crash(at, 0) => write!(f, "crash {}", at + 1),
            Self::Crash(at, keep) => write!(f, "crash {} keep {keep}", at + 1),
            Self::Start(at) => write!(f, "start {}", at + 1),
            Self::Give(from, to) => write!(f, "give {}>{}", from + 1, to + 1),
            Self::Drop(from, to) => write!(f, "drop {}>{}", from + 1, to + 1),
            Self::Get(at, on) => write!(f, "get {} {}", at + 1, On(on)),
            Self::Want(at) => write!(f, "want {}", at + 1),
            Self::Unwant(at) => write!(f, "unwant {}", at + 1),
            Self::Leased(at, on) => write!(f, "leased {} {}", at + 1, On(on)),
            Self::Store(at) => write!(f, "store {}", at + 1),
            Self::Trim(at) => write!(f, "trim {}", at + 1),
            Self::Snapshot(from, to) => write!(f, "snapshot {}>{}", from + 1, to + 1),
            Self::Suspect(at, of) => write!(f, "suspect {} {}", at + 1, of + 1),
            Self::Trust(at, of) => write!(f, "trust {} {}", at + 1, of + 1),
            Self::Prefer(at, order) => write!(f, "prefer {} {}", at + 1, List(order)),
            Self::RollBack(at, count) => write!(f, "rollback {} {count}", at + 1),
            Self::Settle(gone) if gone.is_empty() => write!(f, "settle"),
            Self::Settle(gone) => write!(f, "settle without {}", List(gone)),
            Self::SettleDeaf(at) => write!(f, "settle deaf {}", at + 1),
        }
    }
}

/// Slots as text.
pub(super) struct On<'a>(pub(super) &'a SlotSet);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SlotSet::All => write!(f, "*"),
            SlotSet::Some(slots) => {
                let slots: Vec<String> = slots.iter().map(|slot| slot.0.to_string()).collect();
                write!(f, "{}", slots.join(","))
            }
        }
    }
}

/// Replicas as text.
struct List<'a>(&'a [usize]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(|at| (at + 1).to_string()).collect();
        write!(f, "{}", numbers.join(","))
    }
}

/// The units of time, the largest first.
const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// A time as text.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, ns) = UNITS.into_iter().find(|(_, ns)| self.0.is_multiple_of(*ns)).unwrap_or(("ns", 1));
        write!(f, "{}{unit}", self.0 / ns)
    }
}

fn duration(text: &str) -> Result<u64, ()> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let (_, ns) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(())?;
    number::<u64>(count)?.checked_mul(ns).ok_or(())
}

fn number<T: FromStr>(text: &str) -> Result<T, ()> {
    text.parse().map_err(drop)
}

fn replica(text: &str) -> Result<usize, ()> {
    number::<usize>(text)?.checked_sub(1).ok_or(())
}

fn replicas(text: &str) -> Result<Vec<usize>, ()> {
    text.split(',').map(replica).collect()
}

fn pair(text: &str) -> Result<(usize, usize), ()> {
    let (from, to) = text.split_once('>').ok_or(())?;
    let (from, to) = (replica(from)?, replica(to)?);
    if from == to { Err(()) } else { Ok((from, to)) }
}

fn slots(text: &str) -> Result<SlotSet, ()> {
    if text == "*" {
        return Ok(SlotSet::All);
    }
    let slots: Result<Vec<Slot>, ()> = text.split(',').map(|slot| number(slot).map(Slot)).collect();
    let slots = slots?;
    if slots.iter().all(|slot| slot.0 < SLOTS) { Ok(SlotSet::of(slots)) } else { Err(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_back_as_they_are_written() {
        let text = "submit 1 0,5\nsubmit 2 *\nflush 1\nflush 1 but 2\nread 1>2\nread 1>2 3\nbeat 3\ntick 2\nadvance 100ms\n\
                    advance 2 1500us\ncrash 1\ncrash 1 keep 2\nstart 1\ngive 1>2\ndrop 3>1\nget 2 5\nget 2 *\nwant 3\nunwant 3\nleased 3 0\nstore 1\ntrim 1\n\
                    snapshot 2>3\nsuspect 1 2\ntrust 1 2\nprefer 1 3,2\nrollback 1 5\nsettle\nsettle without 1,2\nsettle deaf 3\n";
        let steps = parse(text).unwrap();
        let written: String = steps.iter().map(|step| format!("{step}\n")).collect();
        assert_eq!(written, text);
        assert_eq!(parse("# one\n\ntick 2  # fires\n"), Ok(vec![Step::Tick(1)]));
    }

    #[test]
    fn what_is_no_step_is_named() {
        for bad in ["submit 0 1", "submit 1 99", "read 1>1", "advance 5h", "fly 1", "flush 1 but"] {
            let text = format!("# fine\n\n{bad}\n");
            assert_eq!(parse(&text), Err(ParseError { line: 3, text: bad.to_owned() }));
        }
    }
}
