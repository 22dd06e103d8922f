//! Faults that a test asks of a running node, in builds with the feature `faults` only: what `tests/cluster` needs and cannot
//! do from outside. They stand in a file that is read again and again:
//!
//! ```text
//! flush_delay_ms = 80          every flush takes so much longer
//! clock_offset_s = -3600       the wall clock is off by so much
//! without = ack_before_durable rules taken out: one that this file names, or one of dace::Mutant
//! ```

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dace::{Core, Mutant};
use parking_lot::Mutex;

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The rule that nothing is called durable before it is.
const ACK_BEFORE_DURABLE: &str = "ack_before_durable";

static CLOCK_OFFSET_S: AtomicI64 = AtomicI64::new(0);
static MUTANT: Mutex<Option<Mutant>> = Mutex::new(None);

/// What a file asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Asked {
    flush_delay_ms: u64,
    clock_offset_s: i64,
    early: bool,
    /// A core can do without one rule at a time.
    mutant: Option<Mutant>,
}

impl Asked {
    fn parse(text: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is no `name = value`"))?;
            let (name, value) = (name.trim(), value.trim());
            let wrong = |error: &dyn std::fmt::Display| format!("{name}: {value:?}: {error}");
            match name {
                "flush_delay_ms" => asked.flush_delay_ms = value.parse().map_err(|error| wrong(&error))?,
                "clock_offset_s" => asked.clock_offset_s = value.parse().map_err(|error| wrong(&error))?,
                "without" if value == ACK_BEFORE_DURABLE => asked.early = true,
                "without" if asked.mutant.is_some() => return Err("one rule of the core at a time".to_owned()),
                "without" => asked.mutant = Some(Mutant::from_str(value).map_err(|error| wrong(&error))?),
                _ => return Err(format!("nothing is called {name:?}")),
            }
        }
        Ok(asked)
    }

    fn apply(&self) {
        store::faults::set_flush_delay_ms(self.flush_delay_ms);
        store::faults::set_answers_early(self.early);
        CLOCK_OFFSET_S.store(self.clock_offset_s, Ordering::Relaxed);
        *MUTANT.lock() = self.mutant;
    }
}

/// Does what the file says from now on, whatever it will say. Call it before a node starts: rules of the core are taken out
/// of those that begin afterwards.
///
/// # Errors
/// When it cannot be read, or says what makes no sense.
pub fn follow(path: PathBuf) -> Result<(), String> {
    let mut known = read(&path)?;
    tracing::warn!(?known, "FAULTS are asked for in {}: this is a test", path.display());
    known.apply();
    let look = move || {
        loop {
            std::thread::sleep(LOOK_EVERY);
            match read(&path) {
                Ok(asked) if asked == known => {}
                Ok(asked) => {
                    tracing::warn!(?asked, "other faults are asked for");
                    asked.apply();
                    known = asked;
                }
                Err(error) => tracing::error!(%error, "the faults stay as they are"),
            }
        }
    };
    std::thread::Builder::new().name("faults".to_owned()).spawn(look).map(drop).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Asked, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Asked::parse(&text)
}

/// How far the wall clock is off, in ns.
pub(crate) fn clock_offset_ns() -> i64 {
    CLOCK_OFFSET_S.load(Ordering::Relaxed).saturating_mul(1_000_000_000)
}

/// Whether a rule of the core is taken out: for those parts of it that are outside the core.
pub(crate) fn is_without(mutant: Mutant) -> bool {
    *MUTANT.lock() == Some(mutant)
}

/// Takes the rule out of a core that begins, if one is to be.
pub(crate) fn break_core(core: &mut Core) {
    if let Some(mutant) = *MUTANT.lock() {
        core.set_mutant(mutant);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_is_asked_for_and_nonsense_is_refused() {
        let text =
            "flush_delay_ms = 80\n\nclock_offset_s=-3600\nwithout = ack_before_durable\nwithout = grants_forgotten\n";
        let expected =
            Asked { flush_delay_ms: 80, clock_offset_s: -3600, early: true, mutant: Some(Mutant::GrantsForgotten) };
        assert_eq!(Asked::parse(text), Ok(expected));
        assert_eq!(Asked::parse(""), Ok(Asked::default()));
        for nonsense in ["flush_delay_ms", "flush_delay_ms = soon", "without = breakfast", "other = 1"] {
            assert!(Asked::parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
