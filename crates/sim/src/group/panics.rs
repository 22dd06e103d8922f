//! Assertions stay on in the core: one that fails ends a run, and is told with its place.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// What the last panic of a watched run said; `None` outside of one.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

static WATCH: Once = Once::new();

/// From now on, panics of watched runs are kept and not printed.
pub(crate) fn watch() {
    WATCH.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            let is_watched = SAID.with_borrow_mut(|said| said.as_mut().map(|said| *said = panic.to_string()).is_some());
            if !is_watched {
                others(panic);
            }
        }));
    });
}

/// Runs `run`; a panic gives its message and its place.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    SAID.set(Some(String::new()));
    let done = catch_unwind(AssertUnwindSafe(run));
    let said = SAID.take().unwrap_or_default();
    done.map_err(|_| said)
}
