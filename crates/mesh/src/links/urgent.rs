//! The queue of urgent messages to one peer: bounded, never waited for; what is too much costs the oldest.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use types::limits::{MESH_URGENT_QUEUE_LEN_MAX, MESH_URGENT_QUEUE_MAX};

use super::frame::Kind;

/// What waits.
#[derive(Debug)]
struct Waiting {
    kind: Kind,
    /// A beat: newer ones of the same slot replace it.
    slot: Option<u8>,
    bytes: Bytes,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    len: usize,
    dropped: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct UrgentQueue {
    state: Mutex<State>,
    filled: Notify,
}

impl UrgentQueue {
    /// Puts a message at the end, in place of a beat of the same slot; drops the oldest while it is too much.
    pub(super) fn push(&self, kind: Kind, slot: Option<u8>, bytes: Bytes) {
        let mut state = self.state.lock();
        if let Some(at) = slot.and_then(|_| state.waiting.iter().position(|earlier| earlier.slot == slot)) {
            state.drop_at(at);
        }
        state.len += bytes.len();
        state.waiting.push_back(Waiting { kind, slot, bytes });
        while state.waiting.len() > MESH_URGENT_QUEUE_MAX || state.len > MESH_URGENT_QUEUE_LEN_MAX {
            state.drop_at(0);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Takes the oldest; waits for one.
    pub(super) async fn pop(&self) -> (Kind, Bytes) {
        loop {
            if let Some(first) = self.try_pop() {
                return first;
            }
            self.filled.notified().await;
        }
    }

    fn try_pop(&self) -> Option<(Kind, Bytes)> {
        let mut state = self.state.lock();
        let first = state.waiting.pop_front()?;
        state.len -= first.bytes.len();
        Some((first.kind, first.bytes))
    }

    /// How many wait, and how many were dropped or replaced.
    pub(super) fn counts(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.waiting.len(), state.dropped)
    }
}

impl State {
    fn drop_at(&mut self, at: usize) {
        if let Some(dropped) = self.waiting.remove(at) {
            self.len -= dropped.bytes.len();
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &UrgentQueue) -> Vec<Bytes> {
        core::iter::from_fn(|| queue.try_pop()).map(|(_, bytes)| bytes).collect()
    }

    #[test]
    fn too_many_cost_the_oldest() {
        let queue = UrgentQueue::default();
        for number in 0..MESH_URGENT_QUEUE_MAX as u64 + 3 {
            queue.push(Kind::Urgent, None, Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        assert_eq!(queue.counts(), (MESH_URGENT_QUEUE_MAX, 3));
        assert_eq!(drain(&queue).first().map(|first| first[..].to_vec()), Some(3_u64.to_be_bytes().to_vec()));
    }

    #[test]
    fn too_long_costs_the_oldest() {
        let queue = UrgentQueue::default();
        let fit = MESH_URGENT_QUEUE_LEN_MAX / 65_536;
        for _ in 0..fit + 2 {
            queue.push(Kind::Urgent, None, Bytes::from(vec![0; 65_536]));
        }
        assert_eq!(queue.counts(), (fit, 2));
        assert_eq!(drain(&queue).len(), fit);
        queue.push(Kind::Urgent, None, Bytes::from_static(b"room again"));
        assert_eq!(queue.counts(), (1, 2));
    }

    #[test]
    fn a_beat_takes_the_place_of_the_one_before() {
        let queue = UrgentQueue::default();
        queue.push(Kind::Urgent, Some(1), Bytes::from_static(b"old"));
        queue.push(Kind::Urgent, Some(2), Bytes::from_static(b"other"));
        queue.push(Kind::Urgent, None, Bytes::from_static(b"message"));
        queue.push(Kind::Urgent, Some(1), Bytes::from_static(b"new"));
        assert_eq!(queue.counts(), (3, 1));
        assert_eq!(drain(&queue), ["other", "message", "new"].map(Bytes::from));
    }
}
