//! The read path. In a group of one it is linearizable without a message: it is its own quorum, what executes becomes
//! visible before it is answered, and what was answered is in the overlay, the cache or the state. In a larger group
//! others may have answered what is not executed here yet: `leased` finds that under a lease nothing is missing, else `barrier` waits.

pub(crate) mod barrier;
pub(crate) mod body;
pub(crate) mod buckets;
pub(crate) mod cache;
pub(crate) mod leased;
pub(crate) mod local;

pub use body::BodyStream;
pub use cache::CachedObject;

use core::fmt;

use bytes::Bytes;
use types::state::{ReadError, StateRead, Table, Visit};

use crate::replica::overlay::View;

/// A view of the whole state at one instant, for `catalog::query`.
pub struct ReadView(View);

impl ReadView {
    pub(crate) fn new(view: View) -> Self {
        Self(view)
    }
}

impl fmt::Debug for ReadView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadView")
    }
}

impl StateRead for ReadView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.0.scan(table, start, end, visit)
    }
}
