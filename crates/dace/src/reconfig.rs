//! What a Reconfig says, and what an epoch is: its members, its failures, and the Reconfig that it began with
//! (`consensus.md`, section 8; the bytes are in `docs/formats/consensus.md`).

use minicbor::{Decode, Encode};
use types::journal::{LayoutError, decode_proposal, encode_reconfig, reconfig_of};
use types::{CommandId, Epoch, GroupId, ReplicaId, Timestamp};

use crate::clock::SAID_MAX;
use crate::config::{Config, ConfigError};

/// The version byte that opens an encoded Reconfig, and an encoded membership.
const VERSION: u8 = 1;

/// The payload of a Reconfig: what the next epoch is like.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Reconfig {
    /// The members, strictly rising.
    #[n(0)]
    pub members: Vec<ReplicaId>,
    /// How many of them may fail.
    #[n(1)]
    pub f: u32,
    /// The version of the logic by which commands are executed. Equal members and another version is how old and new
    /// binaries change over at one place of the order.
    #[n(2)]
    pub logic: u32,
}

impl Reconfig {
    /// The body of its `Propose`.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let mut payload = vec![VERSION];
        minicbor::encode(self, &mut payload).expect("encoding into a vector cannot fail");
        encode_reconfig(&payload)
    }

    /// The Reconfig in the body of a `Propose`; `None` when that is of another command, or is malformed. Never panics.
    #[must_use]
    pub fn from_body(body: &[u8]) -> Option<Self> {
        let (version, cbor) = reconfig_of(body)?.split_first()?;
        let mut decoder = minicbor::Decoder::new(cbor);
        let change: Self = decoder.decode().ok()?;
        let sound = *version == VERSION && decoder.position() == cbor.len() && change.check().is_ok();
        sound.then_some(change)
    }

    /// Whether a group can be like this.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Some(first) = self.members.first() else { return Err(ConfigError::Members(Vec::new())) };
        let config =
            Config { group: GroupId(0), replica: *first, members: self.members.clone(), f: self.f, epoch: Epoch(0) };
        config.check()
    }
}

/// Whether the body of a `Propose` is the body of a Reconfig.
pub(crate) fn is_reconfig(body: &[u8]) -> bool {
    reconfig_of(body).is_some()
}

/// Whether the body of a command of a peer can be taken.
pub(crate) fn check_body(body: &[u8]) -> Result<(), LayoutError> {
    decode_proposal(body)?;
    if is_reconfig(body) && Reconfig::from_body(body).is_none() { Err(LayoutError::Proposal) } else { Ok(()) }
}

/// How an epoch began. It names the epoch: two Reconfigs of one epoch would make epochs of the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Entry {
    /// The Reconfig, of the epoch before.
    #[n(0)]
    pub reconfig: CommandId,
    /// Its timestamp: everything of the epoch before lies at or below it, everything of this one above.
    #[n(1)]
    pub at: Timestamp,
}

/// An epoch of a group. Equal at all replicas.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Membership {
    /// Its number; the first is 1.
    #[n(0)]
    pub epoch: Epoch,
    /// The members, strictly rising.
    #[n(1)]
    pub members: Vec<ReplicaId>,
    /// How many of them may fail.
    #[n(2)]
    pub f: u32,
    /// The version of the logic by which commands are executed.
    #[n(3)]
    pub logic: u32,
    /// How it began; `None`: it is the first.
    #[n(4)]
    pub entry: Option<Entry>,
}

impl Membership {
    /// The epoch that a Reconfig makes.
    ///
    /// Panics behind epoch `2^32 - 1`.
    #[must_use]
    pub fn after(epoch: Epoch, entry: Entry, change: Reconfig) -> Self {
        let epoch = Epoch(epoch.0.checked_add(1).expect("a group has fewer than 2^32 epochs"));
        let Reconfig { members, f, logic } = change;
        Self { epoch, members, f, logic, entry: Some(entry) }
    }

    /// For the head of the epoch's journal: a version byte, then CBOR.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        minicbor::encode(self, &mut bytes).expect("encoding into a vector cannot fail");
        bytes
    }

    /// The inverse of [`Membership::to_bytes`]; `None` when that is malformed. Never panics.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, cbor) = bytes.split_first()?;
        let mut decoder = minicbor::Decoder::new(cbor);
        let membership: Self = decoder.decode().ok()?;
        let whole = *version == VERSION && decoder.position() == cbor.len();
        (whole && membership.is_sound()).then_some(membership)
    }

    /// Whether it can be the epoch of a group.
    pub(crate) fn is_sound(&self) -> bool {
        let change = Reconfig { members: self.members.clone(), f: self.f, logic: self.logic };
        let begins = match self.entry {
            None => self.epoch == Epoch(1),
            Some(entry) => self.epoch > Epoch(1) && entry.at > Timestamp::ZERO && entry.at <= SAID_MAX,
        };
        begins && change.check().is_ok()
    }

    /// Whether a replica is a member.
    #[must_use]
    pub fn has(&self, replica: ReplicaId) -> bool {
        self.members.binary_search(&replica).is_ok()
    }

    /// `n - f`: how many members hold the state of the epoch's beginning when the epoch before is not needed any more.
    #[must_use]
    pub fn recovery_size(&self) -> usize {
        self.members.len() - usize::try_from(self.f).unwrap_or(self.members.len())
    }

    pub(crate) fn config(&self, group: GroupId, replica: ReplicaId) -> Config {
        Config { group, replica, members: self.members.clone(), f: self.f, epoch: self.epoch }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use types::Incarnation;

    use super::*;

    fn change() -> Reconfig {
        Reconfig { members: vec![ReplicaId(1), ReplicaId(2), ReplicaId(4)], f: 1, logic: 1 }
    }

    fn entry() -> Entry {
        let reconfig = CommandId { replica: ReplicaId(2), incarnation: Incarnation(1), counter: 7 };
        Entry { reconfig, at: Timestamp(1_700_000_000_012_000_000) }
    }

    /// The test vectors of `docs/formats/consensus.md`.
    const BODY: [u8; 10] = [0xff, 0xfe, 0x01, 0x83, 0x83, 0x01, 0x02, 0x04, 0x01, 0x01];
    const MEMBERSHIP: [u8; 23] = [
        0x01, 0x85, 0x02, 0x83, 0x01, 0x02, 0x04, 0x01, 0x01, 0x82, 0x83, 0x02, 0x01, 0x07, 0x1b, 0x17, 0x97, 0x9c,
        0xfe, 0x36, 0xe1, 0x1b, 0x00,
    ];

    #[test]
    fn the_documented_vectors_hold() {
        assert_eq!(change().to_body(), BODY);
        assert_eq!(Reconfig::from_body(&BODY), Some(change()));
        let membership = Membership::after(Epoch(1), entry(), change());
        assert_eq!(membership.to_bytes(), MEMBERSHIP, "{:02x?}", membership.to_bytes());
        assert_eq!(Membership::from_bytes(&MEMBERSHIP), Some(membership));
    }

    #[test]
    fn groups_that_cannot_be_are_no_reconfigs() {
        let mut body = change();
        body.f = 2;
        assert_eq!(Reconfig::from_body(&body.to_body()), None);
        body = change();
        body.members = vec![ReplicaId(2), ReplicaId(1), ReplicaId(3)];
        assert_eq!(Reconfig::from_body(&body.to_body()), None);
        assert_eq!(Reconfig::from_body(&BODY[..9]), None);
        assert_eq!(Reconfig::from_body(&[&BODY[..], &[0]].concat()), None);
        assert!(check_body(&BODY[..9]).is_err() && check_body(&BODY).is_ok());
        let mut first = Membership::after(Epoch(1), entry(), change());
        first.entry = None;
        assert_eq!(Membership::from_bytes(&first.to_bytes()), None, "only the first epoch has no entry");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Membership::from_bytes(&bytes);
            let _ = Reconfig::from_body(&bytes);
            let _ = Reconfig::from_body(&[&[0xff, 0xfe, 1][..], &bytes].concat());
        }
    }
}
