//! What happened in a run, line by line. Always hashed, so that two runs can be compared; kept when asked for.

/// The trace of a run.
pub struct Trace {
    hasher: blake3::Hasher,
    lines: Option<Vec<String>>,
    step: u64,
}

impl Trace {
    /// A trace that keeps its lines, or only their hash.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), lines: keep.then(Vec::new), step: 0 }
    }

    /// The next step begins.
    pub fn step(&mut self) {
        self.step += 1;
    }

    /// Adds a line.
    pub fn say(&mut self, line: core::fmt::Arguments<'_>) {
        let line = format!("{:5} {line}", self.step);
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// The hash over all lines.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    /// The lines, if they were kept.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// The first bytes of a hash, in hex.
#[must_use]
pub fn short(hash: &[u8]) -> String {
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
