//! Zones as a driver tells them to its core: what the catalog says of the command in a payload.

use types::Command;

/// See [`catalog::zone`].
pub(crate) struct Zones;

impl dace::Zones for Zones {
    fn touches(&self, payload: &[u8], zone: &dace::Zone) -> bool {
        // What cannot be read may be about anything.
        Command::from_bytes(payload).map_or(true, |command| catalog::zone::touches(&zone.0, &command))
    }
}
