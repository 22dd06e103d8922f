//! The checkers put to the proof by one of other hands: stateright's `LinearizabilityTester` must give the same
//! verdict of thousands of small histories, right ones and wrong ones.

mod keys;
mod slots;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::group::queue::Instant;
use crate::random::Random;

/// When an operation began and ended, and whose it was.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// One operation of a thread ends before its next begins; a client that gave up goes on as another.
    thread: usize,
    invoked: Instant,
    answered: Option<Instant>,
    /// When it happened.
    point: Instant,
}

/// Two to four clients with a few operations each, which overlap at random; some are never answered.
fn spans(random: &mut Random) -> Vec<Span> {
    let mut spans = Vec::new();
    let clients = 2 + random.index(3);
    let mut threads = clients;
    for client in 0..clients {
        let (mut thread, mut now) = (client, random.below(6));
        for _ in 0..1 + random.index(3) {
            let (invoked, end) = (now, now + random.below(8));
            let answered = (!random.one_in(8)).then_some(end);
            spans.push(Span { thread, invoked, answered, point: invoked + random.below(end - invoked + 1) });
            now = answered.unwrap_or(invoked) + 1 + random.below(4);
            if answered.is_none() {
                thread = threads;
                threads += 1;
            }
        }
    }
    // Who happened at the same instant happened in any order.
    let mut order: Vec<(Instant, u64, Span)> =
        spans.into_iter().map(|span| (span.point, random.word(), span)).collect();
    order.sort_by_key(|(point, tie, _)| (*point, *tie));
    order.into_iter().map(|(.., span)| span).collect()
}

/// An operation, and what it was answered.
type Told<S> = (Span, <S as SequentialSpec>::Op, Option<<S as SequentialSpec>::Ret>);

/// The other tester's verdict. What is never answered may have happened or not; what is answered with something at the
/// instant `MAX` has happened.
fn is_linearizable<S>(initial: S, operations: &[Told<S>]) -> bool
where
    S: SequentialSpec + Clone,
    S::Op: Clone + core::fmt::Debug,
    S::Ret: Clone + core::fmt::Debug + PartialEq,
{
    let mut moments: Vec<(Instant, bool, usize)> = Vec::new();
    for (index, (span, _, ret)) in operations.iter().enumerate() {
        moments.push((span.invoked, false, index));
        if ret.is_some() {
            moments.push((span.answered.unwrap_or(Instant::MAX), true, index));
        }
    }
    // Who begins when another ends is concurrent with it.
    moments.sort_unstable();
    let mut tester = LinearizabilityTester::new(initial);
    for (_, ends, index) in moments {
        let (span, op, ret) = &operations[index];
        let told = match ret {
            Some(ret) if ends => tester.on_return(span.thread, ret.clone()),
            _ => tester.on_invoke(span.thread, op.clone()),
        };
        told.expect("a thread does one thing at a time");
    }
    tester.is_consistent()
}
