//! Join tokens: their text, and the folder in which an authority remembers those that it gave out and those that were
//! used. `docs/formats/mesh.md`, join tokens.

use core::fmt;
use core::str::FromStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use types::limits::{MESH_ADDRESSES_MAX, TEXT_LEN_MAX};
use types::{ClusterId, ReplicaId};
use zeroize::Zeroizing;

use super::keypair::{PublicKey, random};
use super::{IdentityError, files};
use crate::links::refusal::RefusalKind;

/// What a token's text begins with.
const PREFIX: &str = "entangle_join_";
/// Version of what stands behind it.
const VERSION: u8 = 1;
/// Put before the bytes to make the checksum.
const CHECK_DOMAIN: &[u8] = b"entangle/join-token-check/v1\n";
/// Put before the secret to make the name under which the authority remembers it.
const NAME_DOMAIN: &[u8] = b"entangle/join-token-name/v1\n";
/// Bytes of the checksum.
const CHECK_LEN: usize = 4;
/// The digits of RFC 4648, section 6, in lower case.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// First line of the record of a token.
const RECORD_HEADER: &str = "entangle-join-token-v1";

/// What only the holder of a token knows.
pub(in crate::links) type TokenSecret = Zeroizing<[u8; 16]>;

/// A join token: what a newcomer needs to find the cluster, to know it, and to be let in once. Its text form is
/// [`ToString`] and [`str::parse`]; it is a secret until it was used.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(super) cluster: ClusterId,
    pub(super) pin: [u8; 32],
    pub(super) secret: TokenSecret,
    pub(super) expires_s: u64,
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
        self.expires_s
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![VERSION]);
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.pin);
        bytes.extend_from_slice(self.secret.as_slice());
        bytes.extend_from_slice(&self.expires_s.to_be_bytes());
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
    let (secret, rest) = rest.split_first_chunk::<16>()?;
    let (expires, rest) = rest.split_first_chunk::<8>()?;
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
        secret: Zeroizing::new(*secret),
        expires_s: u64::from_be_bytes(*expires),
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
        write!(f, "Token(of cluster {}, until {})", self.cluster, self.expires_s)
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

/// The folder of an authority that remembers its tokens: one file per token, and one more when it was used. Several
/// processes may use it at once.
#[derive(Debug, Clone)]
pub(super) struct Records {
    folder: PathBuf,
}

/// What is remembered of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) replica: ReplicaId,
    pub(super) expires_s: u64,
}

impl Records {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.join("tokens") }
    }

    /// Takes the next replica id that was not given away: a file for each, made exclusively and never removed.
    pub(super) fn take_replica(&self) -> Result<ReplicaId, IdentityError> {
        let folder = self.folder.join("replicas");
        files::make_folder(&folder)?;
        let mut replica = 1;
        loop {
            let path = folder.join(format!("{replica}"));
            match files::create(&path, "") {
                Ok(()) => return Ok(ReplicaId(replica)),
                Err(there) if there.kind() == ErrorKind::AlreadyExists => replica += 1,
                Err(source) => return Err(files::io(&path, source)),
            }
        }
    }

    /// Makes a secret and remembers it; forgets those that expired.
    pub(super) fn issue(&self, record: Record, now_s: u64) -> Result<TokenSecret, IdentityError> {
        files::make_folder(&self.folder)?;
        self.forget_expired(now_s);
        let secret = Zeroizing::new(random::<16>());
        let path = self.path(&secret, "token");
        let text = format!("{RECORD_HEADER}\n{}\n{}\n", record.replica, record.expires_s);
        files::create(&path, &text).map_err(|source| files::io(&path, source))?;
        Ok(secret)
    }

    /// Uses a token for this key. When this returns, the use is durable. The same key may come again: it lost the answer.
    pub(super) fn redeem(&self, secret: &TokenSecret, key: PublicKey, now_s: u64) -> Result<Record, RedeemError> {
        let record = self.read(secret)?.ok_or(RedeemError::Refused(RefusalKind::TokenUnknown))?;
        if now_s > record.expires_s {
            return Err(RedeemError::Refused(RefusalKind::TokenExpired));
        }
        let path = self.path(secret, "used");
        let text = format!("{}\n", hex::encode(key.0));
        match files::create(&path, &text) {
            Ok(()) => Ok(record),
            Err(there) if there.kind() == ErrorKind::AlreadyExists => {
                let by = files::read(&path)?;
                let same = by.is_some_and(|by| *by == text);
                if same { Ok(record) } else { Err(RedeemError::Refused(RefusalKind::TokenUsed)) }
            }
            Err(source) => Err(files::io(&path, source).into()),
        }
    }

    fn read(&self, secret: &TokenSecret) -> Result<Option<Record>, IdentityError> {
        let path = self.path(secret, "token");
        let Some(text) = files::read(&path)? else { return Ok(None) };
        parse_record(&text).map(Some).ok_or_else(|| files::wrong(&path, "is not the record of a join token; remove it"))
    }

    /// By the hash of its secret: who reads the folder cannot use what it remembers.
    fn path(&self, secret: &TokenSecret, ending: &str) -> PathBuf {
        let name = Sha256::new().chain_update(NAME_DOMAIN).chain_update(secret.as_slice()).finalize();
        self.folder.join(format!("{}.{ending}", hex::encode(name)))
    }

    /// Tidying: what cannot be removed now is removed another time.
    fn forget_expired(&self, now_s: u64) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        let tokens = entries.filter_map(Result::ok).map(|entry| entry.path());
        for path in tokens.filter(|path| path.extension().is_some_and(|ending| ending == "token")) {
            let record = files::read(&path).ok().flatten().and_then(|text| parse_record(&text));
            if record.is_some_and(|record| now_s > record.expires_s) {
                // the record goes first: a token without one is refused, with or without the mark of its use
                let _ = std::fs::remove_file(&path);
                let _ = std::fs::remove_file(path.with_extension("used"));
            }
        }
    }
}

fn parse_record(text: &str) -> Option<Record> {
    let mut lines = text.lines();
    if lines.next()? != RECORD_HEADER {
        return None;
    }
    let (replica, expires) = (lines.next()?, lines.next()?);
    Some(Record { replica: ReplicaId(replica.parse().ok()?), expires_s: expires.parse().ok()? })
}

/// Why a token is not accepted.
#[derive(Debug)]
pub(super) enum RedeemError {
    Refused(RefusalKind),
    Folder(IdentityError),
}

impl From<IdentityError> for RedeemError {
    fn from(error: IdentityError) -> Self {
        Self::Folder(error)
    }
}

/// The token of the vectors in `docs/formats/mesh.md`: the pin in it, its text and bytes, the name of its record.
#[cfg(test)]
pub(in crate::links) fn example(cluster: ClusterId, secret: &TokenSecret) -> ([u8; 32], (String, Vec<u8>), Vec<u8>) {
    let key = super::keypair::Key::from_seed(Zeroizing::new(core::array::from_fn(|at| at as u8)));
    let pin = super::certificate::pin(key.public());
    let addresses = vec!["tokyo.example:7001".to_owned()];
    let token = Token { cluster, pin, secret: secret.clone(), expires_s: 1_800_003_600, addresses };
    let path = Records::in_folder(Path::new("")).path(secret, "token");
    let name = path.file_stem().and_then(|name| hex::decode(name.to_str()?).ok()).unwrap_or_default();
    (pin, (token.to_string(), token.to_bytes().to_vec()), name)
}
