//! The greeting: who we are and what we speak, before anything else. `docs/formats/mesh.md`, greeting.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use types::{ClusterId, ReplicaId};

use super::config::Versions;

/// What a dialler says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    /// What it speaks.
    pub(super) versions: Versions,
    /// Its cluster.
    pub(super) cluster: ClusterId,
    /// Itself.
    pub(super) from: ReplicaId,
    /// Whom it means.
    pub(super) to: ReplicaId,
    /// Drawn when its endpoint was bound.
    pub(super) instance: u64,
    /// Drawn for this connection.
    pub(super) link: u64,
    /// The last connection that was up at its side and is no longer; zero if none was.
    pub(super) ended: u64,
}

impl Hello {
    /// Bytes of this version's; later ones may be longer.
    const LEN: usize = 52;

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(Self::LEN);
        out.put_u16(self.versions.min);
        out.put_u16(self.versions.max);
        out.put_slice(&self.cluster.0);
        out.put_u32(self.from.0);
        out.put_u32(self.to.0);
        out.put_u64(self.instance);
        out.put_u64(self.link);
        out.put_u64(self.ended);
        out.freeze()
    }

    /// Reads what every version begins with; `None` if it is too short.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < Self::LEN {
            return None;
        }
        let versions = Versions { min: bytes.get_u16(), max: bytes.get_u16() };
        let mut cluster = [0; 16];
        bytes.copy_to_slice(&mut cluster);
        Some(Self {
            versions,
            cluster: ClusterId(cluster),
            from: ReplicaId(bytes.get_u32()),
            to: ReplicaId(bytes.get_u32()),
            instance: bytes.get_u64(),
            link: bytes.get_u64(),
            ended: bytes.get_u64(),
        })
    }
}

/// What a dialler is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Welcome {
    /// The version that both use.
    pub(super) version: u16,
    /// Who answers.
    pub(super) from: ReplicaId,
    /// Drawn when its endpoint was bound.
    pub(super) instance: u64,
}

impl Welcome {
    /// Bytes of this version's; later ones may be longer.
    const LEN: usize = 14;

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(Self::LEN);
        out.put_u16(self.version);
        out.put_u32(self.from.0);
        out.put_u64(self.instance);
        out.freeze()
    }

    /// Reads what every version begins with; `None` if it is too short.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < Self::LEN {
            return None;
        }
        Some(Self { version: bytes.get_u16(), from: ReplicaId(bytes.get_u32()), instance: bytes.get_u64() })
    }
}
