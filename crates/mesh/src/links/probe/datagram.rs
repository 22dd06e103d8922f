//! Probes as they travel: datagrams of 12 bytes. `docs/formats/mesh.md`, probes.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Version of the layout.
const VERSION: u8 = 1;

/// A probe or its echo, with the probe's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::links) enum Datagram {
    Probe(u64),
    Echo(u64),
}

impl Datagram {
    pub(in crate::links) fn encode(self) -> Bytes {
        let (kind, number) = match self {
            Self::Probe(number) => (1, number),
            Self::Echo(number) => (2, number),
        };
        let mut out = BytesMut::with_capacity(12);
        out.put_u8(VERSION);
        out.put_u8(kind);
        out.put_u16(0);
        out.put_u64(number);
        out.freeze()
    }

    /// `None` for all that is not a probe of this version.
    pub(in crate::links) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, kind, 0, 0], number) = bytes.split_first_chunk::<4>()? else { return None };
        let number = u64::from_be_bytes(number.try_into().ok()?);
        match (version, kind) {
            (VERSION, 1) => Some(Self::Probe(number)),
            (VERSION, 2) => Some(Self::Echo(number)),
            _ => None,
        }
    }
}
