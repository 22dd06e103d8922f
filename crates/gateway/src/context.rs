//! What the gateway knows of one request beside what s3s tells an operation: its id, its unread body, how
//! its body failed, and what it turned out to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Incoming;
use parking_lot::Mutex;
use s3s::{S3Request, S3Result, s3_error};

use crate::body::BodyFault;
use crate::preflight::Preflight;

/// The id of a request, as `x-amz-request-id` shows it: 16 upper-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId([u8; 16]);

impl RequestId {
    /// The digits.
    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }
}

/// Draws request ids: a permutation of a counter, so that no two of a process are equal.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(0) }
    }

    pub(crate) fn draw(&self) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        // SplitMix64's finaliser: a bijection on 64 bits.
        let mut word =
            self.seed.wrapping_add(self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        let mut digits = [0; 16];
        for (digit, byte) in digits.chunks_exact_mut(2).zip(word.to_be_bytes()) {
            digit[0] = DIGITS[usize::from(byte >> 4)];
            digit[1] = DIGITS[usize::from(byte & 15)];
        }
        RequestId(digits)
    }
}

/// State of one request, shared between the edge and the operation through the request's extensions.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// Its id.
    pub(crate) id: RequestId,
    /// What the head said, checked.
    pub(crate) preflight: Preflight,
    body: Mutex<Option<Incoming>>,
    fault: Mutex<Option<BodyFault>>,
    operation: Mutex<&'static str>,
    body_len: AtomicU64,
}

impl RequestContext {
    pub(crate) fn new(id: RequestId, preflight: Preflight, body: Option<Incoming>) -> Arc<Self> {
        Arc::new(Self {
            id,
            preflight,
            body: Mutex::new(body),
            fault: Mutex::new(None),
            operation: Mutex::new("Unknown"),
            body_len: AtomicU64::new(0),
        })
    }

    /// The context of a request that s3s passed on. `None` cannot happen to a request that came in through
    /// the edge; it answers as an internal error.
    pub(crate) fn of<T>(request: &S3Request<T>) -> S3Result<Arc<Self>> {
        request
            .extensions
            .get::<Arc<Self>>()
            .cloned()
            .ok_or_else(|| s3_error!(InternalError, "request without context"))
    }

    /// Names the operation, for metrics and traces.
    pub(crate) fn set_operation(&self, operation: &'static str) {
        *self.operation.lock() = operation;
    }

    pub(crate) fn operation(&self) -> &'static str {
        *self.operation.lock()
    }

    /// Takes the unread body.
    pub(crate) fn take_body(&self) -> Option<Incoming> {
        self.body.lock().take()
    }

    /// Puts a body back that was not read to its end, so that the edge can drain it.
    pub(crate) fn put_body_back(&self, body: Incoming) {
        *self.body.lock() = Some(body);
    }

    /// Notes why the body failed; the first reason stays.
    pub(crate) fn set_fault(&self, fault: BodyFault) {
        self.fault.lock().get_or_insert(fault);
    }

    pub(crate) fn fault(&self) -> Option<BodyFault> {
        self.fault.lock().clone()
    }

    /// Counts bytes of the body as they came over the wire.
    pub(crate) fn add_body_len(&self, len: usize) {
        self.body_len.fetch_add(len as u64, Ordering::Relaxed);
    }

    pub(crate) fn body_len(&self) -> u64 {
        self.body_len.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ() {
        let ids = RequestIds::new(7);
        let mut drawn: Vec<_> = (0..1000).map(|_| ids.draw().as_str().to_owned()).collect();
        assert!(drawn.iter().all(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn.len(), 1000);
    }
}
