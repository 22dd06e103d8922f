//! The receipt file: a text that holds one receipt and, marked as not trusted, the policy of whoever gave it.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Receipt, ReceiptError};
use crate::policy::{Policy, PolicyError};

/// Bytes of a receipt file.
pub const FILE_LEN_MAX: usize = 192 * 1024;
/// Characters of base64 on a line.
const LINE_LEN: usize = 76;

const HEADER: &str = "entangle/receipt-file/v1";
const RECEIPT: (&str, &str) = ("-----BEGIN ENTANGLE RECEIPT-----", "-----END ENTANGLE RECEIPT-----");
const POLICY: (&str, &str) = ("-----BEGIN UNTRUSTED POLICY-----", "-----END UNTRUSTED POLICY-----");

/// A receipt and the policy that came with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiptFile {
    /// The receipt.
    pub receipt: Receipt,
    /// The policy of the node that wrote the file. It proves nothing about itself: whoever forges a receipt can put a
    /// policy of their own beside it. Verify with a policy obtained otherwise.
    pub untrusted_policy: Option<Policy>,
}

/// Why bytes are not a receipt file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// More than [`FILE_LEN_MAX`] bytes.
    #[error("receipt file of {0} bytes is over the limit of {FILE_LEN_MAX}")]
    TooLong(usize),
    /// Not UTF-8 text.
    #[error("the receipt file is not UTF-8 text")]
    Characters,
    /// Another first line.
    #[error("the first line is not {HEADER}: not a receipt file, or one of another version")]
    Header,
    /// A line that does not belong where it stands, or a section that is missing or cut short.
    #[error("line {0}: not the shape of a receipt file")]
    Line(usize),
    /// The receipt is not base64.
    #[error("the receipt is not base64")]
    Base64,
    /// The receipt is malformed.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The policy is malformed.
    #[error("the policy in the file is malformed: {0}")]
    Policy(#[from] PolicyError),
}

impl ReceiptFile {
    /// Reads a receipt file. Lines may end with CR LF; lines that begin with `#` outside the sections, and empty ones,
    /// are passed over. Never panics, whatever the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > FILE_LEN_MAX {
            return Err(FileError::TooLong(bytes.len()));
        }
        let text = str::from_utf8(bytes).map_err(|_| FileError::Characters)?;
        let mut lines = text.lines().zip(1..);
        if lines.next().map(|(line, _)| line) != Some(HEADER) {
            return Err(FileError::Header);
        }
        let (mut receipt, mut policy) = (None, None);
        let mut last = 1;
        while let Some((line, number)) = lines.next() {
            last = number;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (end, slot, separator) = match line {
                _ if line == RECEIPT.0 && receipt.is_none() => (RECEIPT.1, &mut receipt, ""),
                _ if line == POLICY.0 && policy.is_none() => (POLICY.1, &mut policy, "\n"),
                _ => return Err(FileError::Line(number)),
            };
            let mut body = String::new();
            loop {
                let (line, _) = lines.next().ok_or(FileError::Line(number))?;
                if line == end {
                    break;
                }
                body.push_str(line);
                body.push_str(separator);
            }
            *slot = Some(body);
        }
        let receipt = STANDARD.decode(receipt.ok_or(FileError::Line(last))?).map_err(|_| FileError::Base64)?;
        Ok(Self {
            receipt: Receipt::from_bytes(&receipt)?,
            untrusted_policy: policy.map(|policy| Policy::from_bytes(policy.as_bytes())).transpose()?,
        })
    }

    /// The text form.
    pub fn to_text(&self) -> Result<String, ReceiptError> {
        let encoded = STANDARD.encode(self.receipt.to_bytes()?);
        let policy = self.untrusted_policy.as_ref();
        Ok(Text { encoded: &encoded, policy }.to_string())
    }
}

struct Text<'a> {
    encoded: &'a str,
    policy: Option<&'a Policy>,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\n# Verify with: entangle receipt verify FILE --policy POLICY\n\n{}", RECEIPT.0)?;
        let mut rest = self.encoded;
        while !rest.is_empty() {
            let (line, left) = rest.split_at(rest.len().min(LINE_LEN));
            writeln!(f, "{line}")?;
            rest = left;
        }
        writeln!(f, "{}", RECEIPT.1)?;
        let Some(policy) = self.policy else { return Ok(()) };
        writeln!(f, "\n# The policy of the node that gave this receipt. It proves nothing about itself:")?;
        writeln!(f, "# use it only if you compared it with one that you have from elsewhere.")?;
        writeln!(f, "{}\n{policy}{}", POLICY.0, POLICY.1)
    }
}
