//! The door for fuzzing: arbitrary bytes in the place of what a peer sends.

use std::pin::pin;
#[cfg(test)]
use std::task::Poll;
use std::task::{Context, Waker};

use bytes::Bytes;

#[cfg(test)]
use super::frame::{self, Kind};
use super::frame::{FrameError, Header, Reader, Source};
use super::greeting::{Hello, Welcome};
use super::identity::{JoinAnswer, JoinRequest, Token};
use super::probe::Datagram;

/// Bytes in memory as a stream that ends.
struct Memory<'a>(&'a [u8]);

impl Source for Memory<'_> {
    type Error = FrameError;

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FrameError> {
        // in small pieces, as a network gives it
        let len = buffer.len().min(self.0.len()).min(7);
        let (now, rest) = self.0.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.0 = rest;
        Ok(len)
    }
}

/// Reads `bytes` as a stream of frames, and as everything else that arrives from a network. Whatever is read is written
/// again and compared. Never panics.
pub fn fuzz_frames(bytes: &[u8]) {
    let mut stream = pin!(read_all(bytes));
    // nothing in memory is waited for
    let done = stream.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(done.is_ready(), "bytes in memory are there at once");
    read_message(&Bytes::copy_from_slice(bytes));
    if let Ok(text) = core::str::from_utf8(bytes)
        && let Ok(token) = text.parse::<Token>()
    {
        let again: Result<Token, _> = token.to_string().parse();
        assert!(again.is_ok_and(|again| again == token), "a token that was read can be written");
    }
}

async fn read_all(bytes: &[u8]) {
    let mut frames = Reader::new(Memory(bytes));
    while let Ok(Some(header)) = frames.header().await {
        assert!(header.len <= header.kind.len_max());
        assert_eq!(Header::decode(header.encode()), Ok(header));
        match frames.expect(&[header.kind]).await {
            Ok((kind, payload)) => {
                assert_eq!((kind, payload.len()), (header.kind, header.len));
                read_message(&payload);
            }
            Err(error) => {
                assert_eq!(error, FrameError::Torn);
                return;
            }
        }
    }
}

fn read_message(payload: &Bytes) {
    if let Some(hello) = Hello::decode(payload) {
        assert!(payload.starts_with(&hello.encode()));
    }
    if let Some(welcome) = Welcome::decode(payload) {
        assert!(payload.starts_with(&welcome.encode()));
    }
    if let Some(datagram) = Datagram::decode(payload) {
        assert_eq!(datagram.encode(), *payload);
    }
    if let Some(request) = JoinRequest::decode(payload.clone())
        && request.name.len() < 64
    {
        assert_eq!(request.encode(), *payload);
    }
    if let Some(answer @ JoinAnswer::Admitted { .. }) = JoinAnswer::decode(payload.clone()) {
        assert_eq!(answer.encode(), *payload);
    }
    super::identity::read_certificate(payload);
}

/// A stream as a peer may write it, for property tests.
#[cfg(test)]
fn write_all(frames: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    frames.iter().flat_map(|(kind, payload)| frame::encode(*kind, payload)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn poll<T>(work: impl Future<Output = T>) -> T {
        match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("bytes in memory are there at once"),
        }
    }

    fn frames() -> impl Strategy<Value = Vec<(Kind, Vec<u8>)>> {
        let kind = proptest::sample::select(&Kind::ALL[..]);
        let one = (kind, proptest::collection::vec(any::<u8>(), 0..200)).prop_map(|(kind, mut payload)| {
            payload.truncate(kind.len_max());
            (kind, payload)
        });
        proptest::collection::vec(one, 0..6)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(frames in frames()) {
            let bytes = write_all(&frames);
            let mut reader = Reader::new(Memory(&bytes));
            for (kind, payload) in frames {
                let header = poll(reader.header()).expect("a header").expect("one more");
                prop_assert_eq!(header, Header { kind, len: payload.len() });
                prop_assert_eq!(poll(reader.next(&[kind])), Ok(Some((kind, payload.into()))));
            }
            prop_assert_eq!(poll(reader.header()), Ok(None));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_frames(&bytes);
        }

        #[test]
        fn damaged_frames_are_read_without_panic(frames in frames(), at in any::<prop::sample::Index>(), by in 1_u8..) {
            let mut bytes = write_all(&frames);
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
                bytes.truncate(bytes.len() - usize::from(by) % 3);
            }
            fuzz_frames(&bytes);
        }
    }

    #[test]
    fn a_header_is_believed_only_where_every_byte_is_right() {
        let decode = Header::decode;
        assert_eq!(decode([1, 16, 0, 0, 0, 1, 0, 0]), Ok(Header { kind: Kind::Urgent, len: 65_536 }));
        assert_eq!(decode([2, 16, 0, 0, 0, 0, 0, 0]), Err(FrameError::Version(2)));
        assert_eq!(decode([1, 3, 0, 0, 0, 0, 0, 0]), Err(FrameError::Kind(3)));
        assert_eq!(decode([1, 16, 0, 1, 0, 0, 0, 0]), Err(FrameError::Reserved));
        let too_long = FrameError::TooLong { kind: Kind::Urgent, len: 65_537 };
        assert_eq!(decode([1, 16, 0, 0, 0, 1, 0, 1]), Err(too_long));
        let mut torn = Reader::new(Memory(&[1, 16, 0]));
        assert_eq!(poll(torn.header()), Err(FrameError::Torn));
        let mut misplaced = Reader::new(Memory(&[1, 64, 0, 0, 0, 0, 0, 0]));
        assert_eq!(poll(misplaced.expect(&[Kind::Hello])), Err(FrameError::Misplaced(Kind::Renew)));
    }
}
