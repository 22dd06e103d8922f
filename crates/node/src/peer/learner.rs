//! A node that is to become a member fetches most of the state before it is one: then it serves soon after the change, and
//! the group has not long to do without its vote. Who proposes the change asks it to, and waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minicbor::{Decode, Encode};
use parking_lot::Mutex;
use tokio::sync::Notify;
use types::ReplicaId;

use super::requests::{Request, decode, encode};
use super::{Link, intake};
use crate::change::{ABSENT_AFTER, ChangeError};
use crate::node::Shared;

/// A pass that took no longer leaves little to fetch.
const SHORT_PASS: Duration = Duration::from_secs(2);
/// Passes at a time: under a load that outruns the link none is short.
const PASSES_MAX: u32 = 5;
/// What was fetched is old after so long, and brought up to date when it is asked for.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// How long one answer may take to come: the asker is told how far it is then.
const ANSWER_AFTER: Duration = Duration::from_secs(1);
/// Who asks gives up when nothing came for so long, ...
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// ... and after so long at all.
const PATIENCE: Duration = Duration::from_secs(600);
/// A request may take no longer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// How far a node has come.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Learned {
    /// It has a state, as new as can be.
    #[n(0)]
    is_done: bool,
    /// Bytes that it has fetched so far.
    #[n(1)]
    fetched: u64,
    /// Why the last attempt failed; it is trying again.
    #[n(2)]
    trouble: Option<String>,
}

/// What a node that is no member does to become one.
#[derive(Default)]
pub(crate) struct Learner {
    state: Mutex<LearnerState>,
    told: Notify,
}

#[derive(Default)]
struct LearnerState {
    is_running: bool,
    /// When it was done last.
    done: Option<Instant>,
    trouble: Option<String>,
}

/// Answers who asks this node to fetch the state: fetches it, and says how far that is.
pub(crate) async fn learn(shared: &Arc<Shared>) -> Learned {
    let learner = &shared.learner;
    // A member has the state, or its core asks for it.
    let is_member = shared.membership().has(shared.replica);
    let is_fresh = |state: &LearnerState| state.done.is_some_and(|done| done.elapsed() < FRESH_FOR);
    let told = learner.told.notified();
    let begins = {
        let mut state = learner.state.lock();
        let begins = !is_member && !state.is_running && !is_fresh(&state);
        state.is_running |= begins;
        begins
    };
    if begins {
        let shared = shared.clone();
        tokio::spawn(async move {
            let outcome = passes(&shared).await;
            let mut state = shared.learner.state.lock();
            state.is_running = false;
            state.done = outcome.is_ok().then(Instant::now);
            state.trouble = outcome.err();
            drop(state);
            shared.learner.told.notify_waiters();
        });
    }
    let is_running = learner.state.lock().is_running;
    if is_running {
        // Elapsed: it goes on.
        let _ = tokio::time::timeout(ANSWER_AFTER, told).await;
    }
    let state = learner.state.lock();
    let is_done = is_member || (!state.is_running && is_fresh(&state));
    Learned { is_done, fetched: shared.metrics.fetched_state_bytes(), trouble: state.trouble.clone() }
}

/// Fetches the state, and then what has changed meanwhile.
async fn passes(shared: &Arc<Shared>) -> Result<(), String> {
    for _ in 0..PASSES_MAX {
        let began = Instant::now();
        intake::fetch_ahead(shared, shared.peers.links()).await.map_err(|error| error.to_string())?;
        if began.elapsed() <= SHORT_PASS {
            break;
        }
    }
    Ok(())
}

/// Waits until a node that is to become a member has fetched the state.
pub(crate) async fn await_learned(shared: &Arc<Shared>, node: ReplicaId) -> Result<(), ChangeError> {
    let began = Instant::now();
    let (mut fetched, mut progress) = (0, Instant::now());
    loop {
        shared.running()?;
        let Some(link) = shared.peers.link_to(node) else {
            // It has joined a moment ago, or its link was lost and comes again.
            if began.elapsed() >= ABSENT_AFTER {
                return Err(ChangeError::Absent(node));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let reason = match ask(link.as_ref()).await {
            Ok(Learned { is_done: true, fetched, .. }) => {
                tracing::info!(%node, bytes = fetched, "a node that is to become a member has the state");
                return Ok(());
            }
            Ok(Learned { fetched: so_far, trouble, .. }) => {
                if so_far > fetched {
                    (fetched, progress) = (so_far, Instant::now());
                }
                trouble
            }
            Err(reason) => Some(reason),
        };
        if progress.elapsed() >= STALLED_AFTER {
            let reason = reason.unwrap_or_else(|| "nothing comes from the members".to_owned());
            return Err(ChangeError::Stalled { node, fetched, reason });
        }
        if began.elapsed() >= PATIENCE {
            return Err(ChangeError::Learning { node, fetched });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ask(link: &dyn Link) -> Result<Learned, String> {
    let answer = tokio::time::timeout(REQUEST_PATIENCE, link.request(Request::Learn.to_bytes(), 4096)).await;
    let answer = answer.map_err(|_| "it does not answer".to_owned())?.map_err(|error| error.to_string())?;
    decode(&answer).map_err(|error| error.to_string())
}

/// What is answered to [`Request::Learn`].
pub(crate) async fn answer(shared: &Arc<Shared>) -> bytes::Bytes {
    encode(&learn(shared).await)
}
