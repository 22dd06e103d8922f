//! C2SP `tlog-policy`: which log keys are accepted, which nodes and witnesses are known, and how many of them it takes.
//!
//! The same file serves both levels of receipts: the witness named `r<N>` is replica `N`, whose Ed25519 key also signs
//! its journal.

use core::fmt;

use types::ReplicaId;
use types::command::Member;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, decimal, is_origin};
use crate::note::{KeyError, KeyKind, SignatureError, VerifierKey};

/// Bytes of a policy.
pub const POLICY_LEN_MAX: usize = 64 * 1024;
/// Logs of a policy; also the bound on its witnesses, and on its groups (C2SP asks for at least 32).
pub const POLICY_ITEMS_MAX: usize = 128;

/// Whom to trust.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    /// `none`, or the name of a witness or group.
    quorum: String,
}

/// A log that is accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Its key; the key's name is the origin.
    pub key: VerifierKey,
    /// Where it may be reached; not used here.
    pub url: Option<String>,
}

/// A node or witness that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// Its name within the policy.
    pub name: String,
    /// Its key.
    pub key: VerifierKey,
    /// Where it may be reached; not used here.
    pub url: Option<String>,
}

/// So many of these members.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    name: String,
    threshold: usize,
    members: Vec<String>,
}

/// Why a text is not a policy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// More than [`POLICY_LEN_MAX`] bytes.
    #[error("policy of {0} bytes is over the limit of {POLICY_LEN_MAX}")]
    TooLong(usize),
    /// Not UTF-8, or a control character other than tab and newline.
    #[error("the policy is not plain UTF-8 text")]
    Characters,
    /// A line that is none of `log`, `witness`, `group`, `quorum`, or has too few or too many words.
    #[error("line {0}: not a log, witness, group or quorum line")]
    Line(usize),
    /// A key that is malformed or of the wrong kind.
    #[error("line {0}: {1}")]
    Key(usize, KeyError),
    /// A key of another kind than such a line takes: `0x01` for logs, `0x04` for witnesses.
    #[error("line {0}: a key of this kind does not belong here")]
    KeyKind(usize),
    /// A name or key that was given before, or the name `none`.
    #[error("line {0}: the name or key is taken")]
    Taken(usize),
    /// A name that no line before defines, or one that is a member twice.
    #[error("line {0}: {1} is not defined, or already a member of a group")]
    Name(usize, String),
    /// A threshold outside 1 to the number of members.
    #[error("line {0}: the threshold is not between 1 and the number of members")]
    Threshold(usize),
    /// More than [`POLICY_ITEMS_MAX`] logs, witnesses or groups.
    #[error("line {0}: more than {POLICY_ITEMS_MAX} of a kind")]
    TooMany(usize),
    /// No quorum line, or more than one.
    #[error("a policy has exactly one quorum line")]
    Quorum,
    /// Not an origin that a log of Entangle may have.
    #[error("the origin cannot be the name of a key, or begins as other signed messages do")]
    Origin,
}

/// Why a checkpoint is not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    /// Not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A signature of a known key does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// No known log has signed it.
    #[error("no log of the policy has signed this checkpoint of {0}")]
    Log(String),
    /// Too few known nodes or witnesses have signed it: these have.
    #[error("the quorum of the policy is not reached: signed by {}", listed(.0))]
    Quorum(Vec<String>),
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nobody known".to_owned() } else { names.join(", ") }
}

/// A checkpoint that a policy accepts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The head.
    pub checkpoint: Checkpoint,
    /// The key names of the witnesses that cosigned, in the order of the policy, each with its time in unix seconds.
    pub cosigned: Vec<(String, u64)>,
}

impl Policy {
    /// The policy of a group whose members sign its one log each with a key of their own: these log keys, the members as
    /// witnesses `r<N>`, and `quorum` of them.
    pub fn of_group(origin: &str, members: &[Member], quorum: u32) -> Result<Self, PolicyError> {
        if !is_origin(origin) {
            return Err(PolicyError::Origin);
        }
        let mut text = String::new();
        for (number, member) in members.iter().enumerate() {
            let key = VerifierKey::new(origin, KeyKind::Ed25519, &member.key)
                .map_err(|error| PolicyError::Key(number + 1, error))?;
            text.push_str(&format!("log {key}\n"));
        }
        for (number, member) in members.iter().enumerate() {
            let key = VerifierKey::new(&member.name, KeyKind::Cosignature, &member.key)
                .map_err(|error| PolicyError::Key(members.len() + number + 1, error))?;
            text.push_str(&format!("witness r{} {key}\n", member.replica));
        }
        let names: Vec<String> = members.iter().map(|member| format!("r{}", member.replica)).collect();
        text.push_str(&format!("group members {quorum} {}\nquorum members\n", names.join(" ")));
        Self::from_bytes(text.as_bytes())
    }

    /// Reads a policy. Never panics, whatever the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_LEN_MAX {
            return Err(PolicyError::TooLong(bytes.len()));
        }
        let text = str::from_utf8(bytes).map_err(|_| PolicyError::Characters)?;
        if text.bytes().any(|byte| byte < 0x20 && byte != b'\t' && byte != b'\n' || byte == 0x7f) {
            return Err(PolicyError::Characters);
        }
        let mut reading = Reading::default();
        for (number, line) in text.split('\n').enumerate() {
            reading.line(number + 1, line)?;
        }
        let quorum = reading.quorum.ok_or(PolicyError::Quorum)?;
        Ok(Self { logs: reading.logs, witnesses: reading.witnesses, groups: reading.groups, quorum })
    }

    /// The logs that are accepted.
    #[must_use]
    pub fn logs(&self) -> &[Log] {
        &self.logs
    }

    /// The nodes and witnesses that are known.
    #[must_use]
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// The key of a replica: that of the witness named `r<N>`.
    #[must_use]
    pub fn replica(&self, replica: ReplicaId) -> Option<&VerifierKey> {
        let name = format!("r{replica}");
        self.witnesses.iter().find(|witness| witness.name == name).map(|witness| &witness.key)
    }

    /// Whether the quorum is reached by the witnesses for whose policy names `has` says so.
    #[must_use]
    pub fn is_reached(&self, has: impl Fn(&str) -> bool) -> bool {
        if self.quorum == NONE {
            return true;
        }
        let mut reached: Vec<&str> = Vec::new();
        reached.extend(self.witnesses.iter().map(|witness| witness.name.as_str()).filter(|name| has(name)));
        for group in &self.groups {
            // Members stand on lines before their group, so one pass settles all.
            let count = group.members.iter().filter(|member| reached.contains(&member.as_str())).count();
            if count >= group.threshold {
                reached.push(&group.name);
            }
        }
        reached.contains(&self.quorum.as_str())
    }

    /// Checks a signed checkpoint: a listed log has signed it, whose key name is its origin, and the quorum is reached.
    /// Signatures of unknown keys are passed over; one of a known key that does not hold condemns the whole.
    pub fn check(&self, bytes: &[u8]) -> Result<Accepted, CheckError> {
        let signed = SignedCheckpoint::from_bytes(bytes)?;
        let (note, checkpoint) = (signed.note(), signed.checkpoint());
        let mut by_log = false;
        for log in &self.logs {
            for signature in note.signatures().iter().filter(|signature| log.key.is_of(signature)) {
                log.key.check(note.text(), signature)?;
                by_log |= log.key.name() == checkpoint.origin;
            }
        }
        if !by_log {
            return Err(CheckError::Log(checkpoint.origin.clone()));
        }
        let mut cosigned = Vec::new();
        let mut names = Vec::new();
        for witness in &self.witnesses {
            let mut time = None;
            for signature in note.signatures().iter().filter(|signature| witness.key.is_of(signature)) {
                time = witness.key.check(note.text(), signature)?;
            }
            if let Some(time) = time {
                cosigned.push((witness.key.name().to_owned(), time));
                names.push(witness.name.as_str());
            }
        }
        if !self.is_reached(|name| names.contains(&name)) {
            return Err(CheckError::Quorum(cosigned.into_iter().map(|(name, _)| name).collect()));
        }
        Ok(Accepted { checkpoint: checkpoint.clone(), cosigned })
    }
}

/// The predefined quorum that needs nobody.
const NONE: &str = "none";

impl fmt::Display for Policy {
    /// Reads back as the same policy; comments and spacing are not kept, thresholds are numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map_or_else(String::new, |url| format!(" {url}"));
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, url(&log.url))?;
        }
        for witness in &self.witnesses {
            writeln!(f, "witness {} {}{}", witness.name, witness.key, url(&witness.url))?;
        }
        for group in &self.groups {
            writeln!(f, "group {} {} {}", group.name, group.threshold, group.members.join(" "))?;
        }
        writeln!(f, "quorum {}", self.quorum)
    }
}

/// A policy of which some lines were read.
#[derive(Default)]
struct Reading {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<String>,
}

impl Reading {
    fn line(&mut self, number: usize, line: &str) -> Result<(), PolicyError> {
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.log(number, key, None),
            ["log", key, url] => self.log(number, key, Some(url)),
            ["witness", name, key] => self.witness(number, name, key, None),
            ["witness", name, key, url] => self.witness(number, name, key, Some(url)),
            ["group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(number, name, threshold, members)
            }
            ["quorum", name] => self.quorum(number, name),
            _ => Err(PolicyError::Line(number)),
        }
    }

    fn log(&mut self, number: usize, key: &str, url: Option<&str>) -> Result<(), PolicyError> {
        let key = read_key(number, key, KeyKind::Ed25519)?;
        if self.logs.iter().any(|log| log.key.key() == key.key()) {
            return Err(PolicyError::Taken(number));
        }
        self.logs.push(Log { key, url: url.map(str::to_owned) });
        bounded(number, self.logs.len())
    }

    fn witness(&mut self, number: usize, name: &str, key: &str, url: Option<&str>) -> Result<(), PolicyError> {
        let key = read_key(number, key, KeyKind::Cosignature)?;
        if self.is_defined(name) || self.witnesses.iter().any(|witness| witness.key.key() == key.key()) {
            return Err(PolicyError::Taken(number));
        }
        self.witnesses.push(Witness { name: name.to_owned(), key, url: url.map(str::to_owned) });
        bounded(number, self.witnesses.len())
    }

    fn group(&mut self, number: usize, name: &str, threshold: &str, members: &[&str]) -> Result<(), PolicyError> {
        if self.is_defined(name) {
            return Err(PolicyError::Taken(number));
        }
        for (position, member) in members.iter().enumerate() {
            let taken = members[..position].contains(member)
                || self.groups.iter().any(|group| group.members.iter().any(|other| other == member));
            if taken || *member == NONE || !self.is_defined(member) {
                return Err(PolicyError::Name(number, (*member).to_owned()));
            }
        }
        let threshold = match threshold {
            "any" => 1,
            "all" => members.len(),
            k => decimal(k).and_then(|k| usize::try_from(k).ok()).ok_or(PolicyError::Threshold(number))?,
        };
        if threshold == 0 || threshold > members.len() {
            return Err(PolicyError::Threshold(number));
        }
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.push(Group { name: name.to_owned(), threshold, members });
        bounded(number, self.groups.len())
    }

    fn quorum(&mut self, number: usize, name: &str) -> Result<(), PolicyError> {
        if !self.is_defined(name) {
            return Err(PolicyError::Name(number, name.to_owned()));
        }
        if self.quorum.replace(name.to_owned()).is_some() { Err(PolicyError::Quorum) } else { Ok(()) }
    }

    fn is_defined(&self, name: &str) -> bool {
        name == NONE
            || self.witnesses.iter().any(|witness| witness.name == name)
            || self.groups.iter().any(|group| group.name == name)
    }
}

fn read_key(number: usize, text: &str, kind: KeyKind) -> Result<VerifierKey, PolicyError> {
    let key = VerifierKey::from_text(text).map_err(|error| PolicyError::Key(number, error))?;
    if key.kind() == kind { Ok(key) } else { Err(PolicyError::KeyKind(number)) }
}

fn bounded(number: usize, count: usize) -> Result<(), PolicyError> {
    if count > POLICY_ITEMS_MAX { Err(PolicyError::TooMany(number)) } else { Ok(()) }
}
