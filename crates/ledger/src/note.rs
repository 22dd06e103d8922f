//! C2SP `signed-note`: a text and signatures under it, and the keys that verify them.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use types::limits::NOTE_LEN_MAX;
use types::sign::Signer;

use crate::cosignature;

/// Signatures of one note (C2SP asks for at least 16).
pub const NOTE_SIGNATURES_MAX: usize = 64;
/// Bytes of the name of a key.
pub const KEY_NAME_LEN_MAX: usize = 255;

/// A text with signatures. The text must be ignored until a signature of a trusted key was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A signature line of a note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteSignature {
    /// The name of the key.
    pub name: String,
    /// The id of the key; with the name it tells which key, and which algorithm.
    pub key_id: [u8; 4],
    /// What the algorithm made.
    pub signature: Vec<u8>,
}

/// Why bytes are not a note.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// More than [`NOTE_LEN_MAX`] bytes.
    #[error("note of {0} bytes is over the limit of {NOTE_LEN_MAX}")]
    TooLong(usize),
    /// Not UTF-8, or a control character other than newline.
    #[error("the note is not plain UTF-8 text")]
    Characters,
    /// No text, no blank line before the signatures, or no newline at the end.
    #[error("the note has no text followed by a blank line and signatures")]
    Shape,
    /// A signature line that is not `— name base64`.
    #[error("signature line {0} is malformed")]
    Line(usize),
    /// More than [`NOTE_SIGNATURES_MAX`] signatures.
    #[error("the note has more than {NOTE_SIGNATURES_MAX} signatures")]
    Signatures,
}

impl Note {
    /// A note that nobody has signed yet. The text must end with a newline and hold no other control characters.
    pub fn new(text: String) -> Result<Self, NoteError> {
        if text.len() > NOTE_LEN_MAX {
            return Err(NoteError::TooLong(text.len()));
        }
        check_characters(&text)?;
        if text.ends_with('\n') { Ok(Self { text, signatures: Vec::new() }) } else { Err(NoteError::Shape) }
    }

    /// The text, its last newline included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line, in place of an older one of the same key.
    pub fn push(&mut self, signature: NoteSignature) {
        self.signatures.retain(|old| (&old.name, old.key_id) != (&signature.name, signature.key_id));
        self.signatures.push(signature);
    }

    /// Reads a note with at least one signature. Never panics, whatever the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_LEN_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let all = str::from_utf8(bytes).map_err(|_| NoteError::Characters)?;
        check_characters(all)?;
        let blank = all.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, lines) = (&all[..=blank], &all[blank + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Shape)?;
        let mut signatures = Vec::new();
        for (number, line) in lines.split('\n').enumerate() {
            if number == NOTE_SIGNATURES_MAX {
                return Err(NoteError::Signatures);
            }
            signatures.push(NoteSignature::from_line(line).ok_or(NoteError::Line(number + 1))?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }
}

impl fmt::Display for Note {
    /// The inverse of [`Note::from_bytes`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            let mut raw = signature.key_id.to_vec();
            raw.extend_from_slice(&signature.signature);
            writeln!(f, "— {} {}", signature.name, STANDARD.encode(raw))?;
        }
        Ok(())
    }
}

impl NoteSignature {
    fn from_line(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
        if !is_key_name(name) {
            return None;
        }
        let raw = STANDARD.decode(encoded).ok()?;
        let (key_id, signature) = raw.split_first_chunk::<4>()?;
        if signature.is_empty() {
            return None;
        }
        Some(Self { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
    }
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    if text.bytes().all(|byte| byte >= 0x20 || byte == b'\n') { Ok(()) } else { Err(NoteError::Characters) }
}

/// Whether a key may have this name: not empty, without Unicode spaces, plus signs and control characters.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= KEY_NAME_LEN_MAX
        && !name.chars().any(|c| c.is_whitespace() || c == '+' || c < ' ')
}

/// What a key signs, by the number that `signed-note` assigns. ML-DSA-44 cosignatures (`0x06`) will be a variant here:
/// its number, its key length in [`VerifierKey::from_text`] and its message in [`VerifierKey::check`] are all that it adds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum KeyKind {
    /// Ed25519 over the text: how a log signs its checkpoints.
    Ed25519 = 1,
    /// Timestamped Ed25519 (`tlog-cosignature`): how nodes and witnesses cosign them.
    Cosignature = 4,
}

/// A public key with its name and its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    key: VerifyingKey,
}

/// Why a key is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Not `name+id+base64`.
    #[error("a key is written as name+id+base64")]
    Shape,
    /// An empty name, or one with spaces or plus signs.
    #[error("the name of a key is empty, too long, or holds a space or a plus sign")]
    Name,
    /// A kind that this build does not know.
    #[error("signature type {0:#04x} is not known to this build")]
    Kind(u8),
    /// Not a point of the curve, or one of small order.
    #[error("not a usable Ed25519 public key")]
    Point,
    /// The id is not that of the name and the key.
    #[error("the key id does not belong to the name and the key")]
    Id,
}

/// A signature of a known key does not hold: the whole note must be refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the signature of {0} does not hold")]
pub struct SignatureError(pub String);

impl VerifierKey {
    /// A key from its parts.
    pub fn new(name: &str, kind: KeyKind, key: &[u8; 32]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        let key = VerifyingKey::from_bytes(key).map_err(|_| KeyError::Point)?;
        if key.is_weak() { Err(KeyError::Point) } else { Ok(Self { name: name.to_owned(), kind, key }) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The 32 bytes of the public key.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// `SHA-256(name || "\n" || kind || key)[..4]`.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, self.kind, self.key.as_bytes())
    }

    /// Reads a key in the form `name+id+base64`.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Shape)?;
        let (id, encoded) = rest.split_once('+').ok_or(KeyError::Shape)?;
        let raw = STANDARD.decode(encoded).map_err(|_| KeyError::Shape)?;
        let (kind, key) = raw.split_first().ok_or(KeyError::Shape)?;
        let kind = match kind {
            1 => KeyKind::Ed25519,
            4 => KeyKind::Cosignature,
            other => return Err(KeyError::Kind(*other)),
        };
        let key = Self::new(name, kind, key.try_into().map_err(|_| KeyError::Shape)?)?;
        if id.bytes().any(|byte| byte.is_ascii_uppercase()) || id != hex(&key.id()) {
            return Err(KeyError::Id);
        }
        Ok(key)
    }

    /// Whether the signature line is by this key; not yet whether it holds.
    #[must_use]
    pub fn is_of(&self, signature: &NoteSignature) -> bool {
        signature.name == self.name && signature.key_id == self.id()
    }

    /// Checks a signature line of this key under `text`. Gives the time of a cosignature, in unix seconds.
    pub fn check(&self, text: &str, signature: &NoteSignature) -> Result<Option<u64>, SignatureError> {
        let bad = || SignatureError(self.name.clone());
        match self.kind {
            KeyKind::Ed25519 => {
                let raw = signature.signature.as_slice().try_into().map_err(|_| bad())?;
                if self.holds(text.as_bytes(), raw) { Ok(None) } else { Err(bad()) }
            }
            KeyKind::Cosignature => {
                let (time, raw) = cosignature::split(&signature.signature).ok_or_else(bad)?;
                let message = cosignature::message(text, time);
                if self.holds(message.as_bytes(), raw) { Ok(Some(time)) } else { Err(bad()) }
            }
        }
    }

    /// Whether the Ed25519 signature over raw bytes holds. Strict: small-order points and unreduced scalars are refused.
    #[must_use]
    pub fn holds(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    /// The inverse of [`VerifierKey::from_text`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = [0; 33];
        raw[0] = self.kind as u8;
        raw[1..].copy_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex(&self.id()), STANDARD.encode(raw))
    }
}

/// The id of a key: `SHA-256(name || "\n" || kind || key)[..4]`.
#[must_use]
pub fn key_id(name: &str, kind: KeyKind, key: &[u8; 32]) -> [u8; 4] {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', kind as u8]).chain_update(key).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A plain Ed25519 signature line (`0x01`) over a note's text.
#[must_use]
pub fn sign(text: &str, name: &str, signer: &dyn Signer) -> NoteSignature {
    NoteSignature {
        name: name.to_owned(),
        key_id: key_id(name, KeyKind::Ed25519, &signer.public_key()),
        signature: signer.sign(text.as_bytes()).to_vec(),
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
