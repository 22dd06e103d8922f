//! A request body as it comes in: idle time-out, length, chunk decoding.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::BodyFault;
use super::chunked::ChunkDecoder;
use crate::context::RequestContext;
use crate::preflight::PayloadHash;

/// The payload of one request, in the pieces in which it comes.
pub(crate) struct Payload {
    /// `None` once it was read to its end.
    incoming: Option<Incoming>,
    context: Arc<RequestContext>,
    idle: Duration,
    declared: u64,
    came: u64,
    /// Undecoded rest of the last piece.
    rest: Bytes,
    decoder: Option<ChunkDecoder>,
}

impl Payload {
    /// Takes the body out of the context. `declared` is the length of the decoded payload.
    pub(crate) fn new(context: &Arc<RequestContext>, idle: Duration, declared: u64, secret: Option<&str>) -> Self {
        let decoder = match &context.preflight.payload {
            PayloadHash::Chunked(chunking) => Some(ChunkDecoder::new(chunking.clone(), secret.unwrap_or_default())),
            PayloadHash::Unsigned | PayloadHash::Sha256(_) => None,
        };
        Self {
            incoming: context.take_body(),
            context: Arc::clone(context),
            idle,
            declared,
            came: 0,
            rest: Bytes::new(),
            decoder,
        }
    }

    /// The next piece; `None` at the end, once the length was found right.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        let result = self.advance().await;
        if let Err(fault) = &result {
            self.fail(fault.clone());
        }
        result
    }

    /// The trailers; complete after the end.
    pub(crate) fn trailers(&self) -> &[(String, String)] {
        self.decoder.as_ref().map_or(&[], ChunkDecoder::trailers)
    }

    /// Notes why the body is refused.
    pub(crate) fn fail(&self, fault: BodyFault) {
        self.context.set_fault(fault);
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, BodyFault> {
        loop {
            let piece = match &mut self.decoder {
                Some(decoder) => decoder.decode(&mut self.rest)?,
                None => Some(core::mem::take(&mut self.rest)).filter(|piece| !piece.is_empty()),
            };
            if let Some(piece) = piece {
                self.came += piece.len() as u64;
                if self.came > self.declared {
                    return Err(BodyFault::Incomplete { declared: self.declared, came: self.came });
                }
                return Ok(Some(piece));
            }
            if !self.read().await? {
                if let Some(decoder) = &mut self.decoder {
                    decoder.finish().map_err(|fault| self.short_or(fault))?;
                }
                if self.came != self.declared {
                    return Err(BodyFault::Incomplete { declared: self.declared, came: self.came });
                }
                return Ok(None);
            }
        }
    }

    /// A chunked body that ends early is short rather than malformed.
    fn short_or(&self, fault: BodyFault) -> BodyFault {
        match fault {
            BodyFault::Framing(_) if self.came < self.declared => {
                BodyFault::Incomplete { declared: self.declared, came: self.came }
            }
            other => other,
        }
    }

    /// Reads the next frame into `rest`; `false` at the end.
    async fn read(&mut self) -> Result<bool, BodyFault> {
        loop {
            let Some(incoming) = &mut self.incoming else { return Ok(false) };
            let frame = timeout(self.idle, incoming.frame()).await.map_err(|_| BodyFault::Stalled)?;
            match frame {
                None => {
                    self.incoming = None;
                    return Ok(false);
                }
                Some(Err(_)) => {
                    // The connection broke, or its framing did: nothing more can be read from it.
                    self.incoming = None;
                    return Err(BodyFault::Incomplete { declared: self.declared, came: self.came });
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.context.add_body_len(data.len());
                    self.rest = data;
                    return Ok(true);
                }
            }
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !incoming.is_end_stream()
        {
            self.context.put_body_back(incoming);
        }
    }
}
