//! Names of things: clusters, groups, epochs, replicas, commands.

use core::fmt;

use minicbor::{Decode, Encode};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// A replica of a group. Never reused within a cluster: a replaced disk is a new replica.
    ReplicaId(u32)
);
id!(
    /// Counts the starts of one replica. A new one is opened by every start (`consensus.md`, section 2).
    Incarnation(u32)
);
id!(
    /// A consensus group: a replica set with a journal stream and a ledger of its own.
    GroupId(u32)
);
id!(
    /// The number of a replica set of a group; starts at 1.
    Epoch(u32)
);

/// A cluster, drawn at random when it is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct ClusterId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// The name of a command: who coordinated it first, in which incarnation, and a counter there.
///
/// Ordered as `(replica, incarnation, counter)`; the order breaks ties between equal timestamps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct CommandId {
    /// The first coordinator.
    #[n(0)]
    pub replica: ReplicaId,
    /// Its incarnation when it proposed.
    #[n(1)]
    pub incarnation: Incarnation,
    /// Dense within the incarnation, from 1.
    #[n(2)]
    pub counter: u64,
}

impl CommandId {
    /// Encoded size in bytes.
    pub const LEN: usize = 16;
    /// Above every id that a replica can have: the id of what a block itself says.
    pub const MAX: Self = Self { replica: ReplicaId(u32::MAX), incarnation: Incarnation(u32::MAX), counter: u64::MAX };

    /// Big endian, so that byte order is id order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&self.replica.0.to_be_bytes());
        out[4..8].copy_from_slice(&self.incarnation.0.to_be_bytes());
        out[8..].copy_from_slice(&self.counter.to_be_bytes());
        out
    }

    /// The inverse of [`CommandId::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        Self {
            replica: ReplicaId(u32::from_be_bytes([a, b, c, d])),
            incarnation: Incarnation(u32::from_be_bytes([e, f, g, h])),
            counter: u64::from_be_bytes(rest),
        }
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}.{}.{}", self.replica, self.incarnation, self.counter)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
