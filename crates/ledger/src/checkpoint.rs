//! C2SP `tlog-checkpoint`: the head of a log as a signed note.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use types::sign::Signer;

use crate::note::{Note, NoteError, is_key_name, sign};
use crate::tree::Hash;
use crate::{cosignature, note};

/// The head of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The permanent identity of the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// Opaque lines after the first three. Entangle writes none.
    pub extensions: Vec<String>,
}

/// Why a text is not a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Fewer than three lines, or an empty one.
    #[error("a checkpoint has at least three lines and no empty one")]
    Lines,
    /// The size is not a decimal number without leading zeroes, below `2^64`.
    #[error("malformed tree size")]
    Size,
    /// The root is not the base64 of 32 bytes.
    #[error("malformed root hash")]
    Root,
    /// Not an origin that a log of Entangle may sign under: it must be usable as a key name, and must not begin as
    /// other signed messages do (`cosignature/`, `entangle/`).
    #[error("the origin cannot be signed under")]
    Origin,
}

impl Checkpoint {
    /// A head without extension lines.
    #[must_use]
    pub fn new(origin: &str, size: u64, root: Hash) -> Self {
        Self { origin: origin.to_owned(), size, root, extensions: Vec::new() }
    }

    /// Reads the text of a checkpoint note, last newline included.
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = body.split('\n');
        let mut next = || lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointError::Lines);
        let (origin, size, root) = (next()?, next()?, next()?);
        let size = decimal(size).ok_or(CheckpointError::Size)?;
        let root = hash_from_base64(root).ok_or(CheckpointError::Root)?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Lines);
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }
}

impl fmt::Display for Checkpoint {
    /// The inverse of [`Checkpoint::from_text`]: what is signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A checkpoint with its signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Signs a head as the log itself: an Ed25519 line (`0x01`) whose key name is the origin.
    ///
    /// Before the signature leaves, `(origin, size, root)` must be durable: never two roots for one size, never a
    /// smaller size.
    pub fn sign(checkpoint: Checkpoint, log: &dyn Signer) -> Result<Self, CheckpointError> {
        if !is_origin(&checkpoint.origin) {
            return Err(CheckpointError::Origin);
        }
        let text = checkpoint.to_string();
        // A head that could not be read back must not be signed: an extension may have smuggled in a line.
        if Checkpoint::from_text(&text)? != checkpoint {
            return Err(CheckpointError::Lines);
        }
        let mut note = Note::new(text)?;
        note.push(sign(note.text(), &checkpoint.origin, log));
        Ok(Self { checkpoint, note })
    }

    /// Adds a cosignature (`0x04`), made at `time` in unix seconds, in place of an older one of the same key.
    pub fn cosign(&mut self, name: &str, signer: &dyn Signer, time: u64) {
        self.note.push(cosignature::sign(self.note.text(), name, signer, time));
    }

    /// Adds a cosignature that came from elsewhere, in place of an older one of the same key.
    pub fn push(&mut self, signature: note::NoteSignature) {
        self.note.push(signature);
    }

    /// Reads a signed checkpoint. Nothing in it may be trusted before [`crate::policy::Policy::check`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::from_bytes(bytes)?;
        Ok(Self { checkpoint: Checkpoint::from_text(note.text())?, note })
    }

    /// The head.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }
}

impl fmt::Display for SignedCheckpoint {
    /// The inverse of [`SignedCheckpoint::from_bytes`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.note, f)
    }
}

/// Whether a log of Entangle may have this origin: usable as a key name, and no signed text that begins with it can be
/// taken for another of the messages that nodes sign.
#[must_use]
pub fn is_origin(origin: &str) -> bool {
    is_key_name(origin) && !origin.starts_with("cosignature/") && !origin.starts_with("entangle/")
}

/// A decimal number without sign and leading zeroes.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && digits { text.parse().ok() } else { None }
}

/// 32 bytes from base64.
pub(crate) fn hash_from_base64(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
