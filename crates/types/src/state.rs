//! Rows of the replicated state, as the state machine reads and writes them and as `store` keeps them.

use core::ops::ControlFlow;

use bytes::Bytes;

/// Where a row lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// The catalog: every row counts in the state digest.
    Catalog,
    /// Inline bodies: covered by the content digests in catalog rows.
    Bodies,
    /// The retry window: expired rows are removed locally, so it stands outside the state digest.
    Retry,
    /// The tail of the ledger and what the sealer needs. Not touched by the state machine.
    Ledger,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 4] = [Self::Catalog, Self::Bodies, Self::Retry, Self::Ledger];

    /// Its name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Bodies => "bodies",
            Self::Retry => "retry",
            Self::Ledger => "ledger",
        }
    }
}

/// A row set (`Some`) or removed (`None`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The table.
    pub table: Table,
    /// The row's key.
    pub key: Bytes,
    /// Its new value, or none.
    pub value: Option<Bytes>,
}

/// The state could not be read. Nothing can be concluded; the replica stops.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the state could not be read: {0}")]
pub struct ReadError(pub String);

/// What [`StateRead::scan`] calls for each row: key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A consistent view of the state.
pub trait StateRead {
    /// The row's value, if there is one.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError>;

    /// Visits the rows with `start <= key < end` in rising key order, until `visit` breaks. An empty `end`
    /// means no upper bound.
    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError>;
}
