//! Join tokens: their text, and the proof in them by which whoever keeps the authority knows them again. That one is good
//! once is seen to by who is asked about newcomers ([`crate::links::Porter`]). `docs/formats/mesh.md`, join tokens.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use sha2::{Digest as _, Sha256};
use types::ClusterId;
use types::limits::{MESH_ADDRESSES_MAX, TEXT_LEN_MAX};
use zeroize::Zeroizing;

use super::IdentityError;
use super::keypair::random;

/// What a token's text begins with.
const PREFIX: &str = "entangle_join_";
/// Version of what stands behind it.
const VERSION: u8 = 2;
/// Put before the bytes to make the checksum.
const CHECK_DOMAIN: &[u8] = b"entangle/join-token-check/v1\n";
/// Put before a ticket to make the name under which its use is remembered.
const NAME_DOMAIN: &[u8] = b"entangle/join-token-name/v2\n";
/// Put before the authority's seed to make the key of the proofs.
const KEY_DOMAIN: &[u8] = b"entangle/join-token-key/v2\n";
/// Put before what a proof is of.
const PROOF_DOMAIN: &[u8] = b"entangle/join-token-proof/v2\n";
/// Bytes of the checksum.
const CHECK_LEN: usize = 4;
/// The digits of RFC 4648, section 6, in lower case.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What the holder of a token shows: a random number, when it expires (seconds since the Unix epoch), and the proof that an
/// authority has given it out.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::links) struct Ticket(Zeroizing<[u8; Ticket::LEN]>);

impl Ticket {
    pub(in crate::links) const LEN: usize = 40;
    /// Where the proof begins.
    const PROOF_AT: usize = 24;

    pub(super) fn issue(authority: &hmac::Key, cluster: ClusterId, expires_s: u64) -> Self {
        Self::with_nonce(authority, cluster, random(), expires_s)
    }

    fn with_nonce(authority: &hmac::Key, cluster: ClusterId, nonce: [u8; 16], expires_s: u64) -> Self {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        bytes[..16].copy_from_slice(&nonce);
        bytes[16..Self::PROOF_AT].copy_from_slice(&expires_s.to_be_bytes());
        let proof = proof(authority, cluster, &bytes[..Self::PROOF_AT]);
        bytes[Self::PROOF_AT..].copy_from_slice(proof.as_slice());
        Self(bytes)
    }

    pub(in crate::links) fn from_bytes(bytes: Zeroizing<[u8; Self::LEN]>) -> Self {
        Self(bytes)
    }

    pub(in crate::links) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    pub(super) fn expires_s(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[16..Self::PROOF_AT]);
        u64::from_be_bytes(bytes)
    }

    /// Whether an authority with this key has given it out.
    pub(super) fn is_of(&self, authority: &hmac::Key, cluster: ClusterId) -> bool {
        let (content, shown) = self.0.split_at(Self::PROOF_AT);
        verify_slices_are_equal(proof(authority, cluster, content).as_slice(), shown).is_ok()
    }

    /// By which its use is remembered: who reads that cannot use it.
    pub(super) fn name(&self) -> [u8; 32] {
        Sha256::new().chain_update(NAME_DOMAIN).chain_update(self.0.as_slice()).finalize().into()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket(until {})", self.expires_s())
    }
}

/// The key of the proofs, made of the authority's seed: whoever keeps the authority knows a token without having seen it.
pub(super) fn proof_key(seed: &[u8; 32]) -> hmac::Key {
    let key = Sha256::new().chain_update(KEY_DOMAIN).chain_update(seed).finalize();
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

fn proof(key: &hmac::Key, cluster: ClusterId, content: &[u8]) -> Zeroizing<[u8; 16]> {
    let mut context = hmac::Context::with_key(key);
    [PROOF_DOMAIN, &cluster.0, content].into_iter().for_each(|part| context.update(part));
    let mut proof = Zeroizing::new([0; 16]);
    proof.copy_from_slice(&context.sign().as_ref()[..16]);
    proof
}

/// A join token: what a newcomer needs to find the cluster, to know it, and to be let in once. Its text form is
/// [`ToString`] and [`str::parse`]; it is a secret until it was used.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(super) cluster: ClusterId,
    pub(super) pin: [u8; 32],
    pub(super) ticket: Ticket,
    pub(super) addresses: Vec<String>,
}

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like one.
    #[error("this is not a join token: it does not begin with `{PREFIX}`")]
    NotAToken,
    /// A character, the length or the checksum is wrong.
    #[error("the join token is damaged: copy all of it, once more")]
    Damaged,
    /// A later version.
    #[error("the join token has version {0}, which this build does not know")]
    Version(u8),
}

impl Token {
    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Where to join, as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// When it expires, in seconds since the Unix epoch.
    #[must_use]
    pub fn expires_s(&self) -> u64 {
        self.ticket.expires_s()
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![VERSION]);
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.pin);
        bytes.extend_from_slice(self.ticket.as_bytes());
        bytes.push(u8::try_from(self.addresses.len()).expect("MESH_ADDRESSES_MAX was checked when it was made"));
        for address in &self.addresses {
            bytes.push(u8::try_from(address.len()).expect("TEXT_LEN_MAX was checked when it was made"));
            bytes.extend_from_slice(address.as_bytes());
        }
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        let version = *bytes.first().ok_or(TokenError::Damaged)?;
        let (content, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(TokenError::Damaged)?;
        if checksum(content) != *check {
            return Err(TokenError::Damaged);
        }
        if version != VERSION {
            return Err(TokenError::Version(version));
        }
        fields(content).ok_or(TokenError::Damaged)
    }
}

fn fields(content: &[u8]) -> Option<Token> {
    let (_, rest) = content.split_first()?;
    let (cluster, rest) = rest.split_first_chunk::<16>()?;
    let (pin, rest) = rest.split_first_chunk::<32>()?;
    let (ticket, rest) = rest.split_first_chunk::<{ Ticket::LEN }>()?;
    let (&count, mut rest) = rest.split_first()?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        let (&len, after) = rest.split_first()?;
        let (address, after) = after.split_at_checked(usize::from(len))?;
        addresses.push(String::from_utf8(address.to_vec()).ok()?);
        rest = after;
    }
    (rest.is_empty() && (1..=MESH_ADDRESSES_MAX).contains(&addresses.len())).then(|| Token {
        cluster: ClusterId(*cluster),
        pin: *pin,
        ticket: Ticket(Zeroizing::new(*ticket)),
        addresses,
    })
}

fn checksum(content: &[u8]) -> [u8; CHECK_LEN] {
    let hash = Sha256::new().chain_update(CHECK_DOMAIN).chain_update(content).finalize();
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&hash[..CHECK_LEN]);
    check
}

/// The text: one word of lower-case letters and digits, so that it is selected, wrapped and pasted as one.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        let (mut bits, mut held) = (0_u32, 0);
        for byte in self.to_bytes().iter() {
            (bits, held) = (bits << 8 | u32::from(*byte), held + 8);
            while held >= 5 {
                held -= 5;
                write!(f, "{}", char::from(DIGITS[(bits >> held & 31) as usize]))?;
            }
        }
        if held > 0 { write!(f, "{}", char::from(DIGITS[(bits << (5 - held) & 31) as usize])) } else { Ok(()) }
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        // what a terminal or a mail program does to a long word is undone first
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect());
        let digits = text.strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() * 5 / 8));
        let (mut bits, mut held) = (0_u32, 0);
        for digit in digits.bytes() {
            let value = DIGITS.iter().position(|known| *known == digit).ok_or(TokenError::Damaged)?;
            (bits, held) = ((bits << 5 | value as u32) & 0xfff, held + 5);
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held & 0xff) as u8);
            }
        }
        if held >= 5 || bits & ((1 << held) - 1) != 0 {
            return Err(TokenError::Damaged);
        }
        Self::from_bytes(&bytes)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(of cluster {}, until {})", self.cluster, self.expires_s())
    }
}

/// Checks an address of the form `host:port`, as far as that can be done without looking it up.
pub(super) fn check_address(address: &str) -> Result<(), IdentityError> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse().ok());
    let is_text = address.len() <= TEXT_LEN_MAX && !address.contains(char::is_whitespace);
    match port {
        Some(1_u16..) if is_text => Ok(()),
        _ => Err(IdentityError::Unusable(format!("`{address}` is not an address of the form host:port"))),
    }
}

/// The token of the vectors in `docs/formats/mesh.md`: the pin in it, its text and bytes, its ticket and the name of that.
#[cfg(test)]
pub(in crate::links) fn example(cluster: ClusterId) -> ([u8; 32], (String, Vec<u8>), Ticket, [u8; 32]) {
    let key = super::keypair::Key::from_seed(Zeroizing::new(core::array::from_fn(|at| at as u8)));
    let pin = super::certificate::pin(key.public());
    let nonce = core::array::from_fn(|at| 0xa0 + at as u8);
    let ticket = Ticket::with_nonce(&proof_key(key.seed()), cluster, nonce, 1_800_003_600);
    let token = Token { cluster, pin, ticket: ticket.clone(), addresses: vec!["tokyo.example:7001".to_owned()] };
    let name = ticket.name();
    (pin, (token.to_string(), token.to_bytes().to_vec()), ticket, name)
}
