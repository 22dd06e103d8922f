//! The bodies that s3s reads itself: XML documents. Read on first poll, checked before s3s parses them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::digest::Hashes;
use super::{BodyFault, Digests, Expected, Payload};
use crate::context::RequestContext;
use crate::limits::DOCUMENT_LEN_MAX;
use crate::preflight::PayloadHash;

type Collected = Pin<Box<dyn Future<Output = Result<Bytes, BodyFault>> + Send>>;

/// A body that is collected, checked, and given out whole. Where it is never polled, nothing is read, and
/// the body stays in the context.
pub(crate) enum Document {
    /// Not asked for yet.
    Unread {
        /// The request.
        context: Arc<RequestContext>,
        /// What its head says of the body.
        expected: Option<Expected>,
        /// The idle time-out.
        idle: Duration,
    },
    /// Being read.
    Reading(Collected),
    /// Given out.
    Done,
}

async fn collect(context: Arc<RequestContext>, expected: Expected, idle: Duration) -> Result<Bytes, BodyFault> {
    let declared = context.preflight.payload_len().unwrap_or(0);
    let mut payload = Payload::new(&context, idle, declared, None);
    let refused = if declared > DOCUMENT_LEN_MAX as u64 {
        Some(BodyFault::TooLarge)
    } else if matches!(context.preflight.payload, PayloadHash::Chunked(_)) {
        // s3s would decode it a second time; no SDK sends a document so.
        Some(BodyFault::Framing("a document cannot be aws-chunked"))
    } else {
        None
    };
    if let Some(fault) = refused {
        payload.fail(fault.clone());
        return Err(fault);
    }
    let mut bytes = BytesMut::new();
    while let Some(piece) = payload.next().await? {
        bytes.extend_from_slice(&piece);
    }
    let mut digests = Digests::default();
    let mut hashes = Hashes::all(expected.wanted());
    hashes.update(&bytes);
    hashes.finish(expected.wanted(), &mut digests);
    if let Err(fault) = expected.check(&digests, payload.trailers()) {
        payload.fail(fault.clone());
        return Err(fault);
    }
    Ok(bytes.freeze())
}

impl Body for Document {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Self::Unread { context, expected, idle } = &mut *self {
            let Some(expected) = expected.take() else { return Poll::Ready(None) };
            let collected: Collected = Box::pin(collect(Arc::clone(context), expected, *idle));
            *self = Self::Reading(collected);
        }
        let Self::Reading(collected) = &mut *self else { return Poll::Ready(None) };
        let result = core::task::ready!(collected.as_mut().poll(cx));
        *self = Self::Done;
        match result {
            Ok(bytes) if bytes.is_empty() => Poll::Ready(None),
            result => Poll::Ready(Some(result.map(Frame::data))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Unread { context, .. } => match context.preflight.payload_len() {
                Some(len) => SizeHint::with_exact(len),
                None => SizeHint::default(),
            },
            Self::Reading(_) => SizeHint::default(),
            Self::Done => SizeHint::with_exact(0),
        }
    }
}
