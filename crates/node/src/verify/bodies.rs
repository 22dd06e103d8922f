//! The bytes of objects and parts against their digests, and the other way round: whether anything is stored that
//! nothing refers to.

use core::ops::ControlFlow;
use std::collections::HashSet;

use bytes::Bytes;
use catalog::query;
use catalog::rows::{BodyAt, ObjectRow, PartRow, body_key};
use md5::{Digest as _, Md5};
use store::state::FjallState;
use store::vault::VaultError;
use types::OrderKey;
use types::object::{Placement, PlacementId};
use types::state::{ReadError, StateRead, Table};

use super::{Chunks, Found, hex};
use crate::progress::{Phase, Report, Unit};
use crate::write::place::content_digest;

/// `is_shared`: other members have bodies, too, so that one that is not here is no defect.
pub(super) fn check(state: &FjallState, (chunks, is_shared): (&Chunks, bool), found: &mut Found, progress: Report<'_>) {
    let phase = Phase::new(progress, "bodies", 0, Unit::Bytes);
    let mut bodies = Bodies {
        state,
        chunks,
        is_shared,
        found,
        phase,
        seen: HashSet::new(),
        inline: Tally::default(),
        references: Tally::default(),
    };
    if let Err(error) = bodies.walk() {
        bodies.found.finding("state, table catalog", error);
        return;
    }
    if let Err(error) = bodies.check_reverse() {
        bodies.found.finding("state", error);
    }
    let elsewhere = bodies.found.report.bodies_elsewhere;
    if elsewhere > 0 {
        let what = format!(
            "{elsewhere} bodies of large objects are not here, or not wholly: each is in the vaults of enough other members; \
             verify their folders, too"
        );
        bodies.found.note("vault", what);
    }
}

/// Compares two sets without holding them: how many, and the sum of their hashes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    count: u64,
    sum: u128,
}

impl Tally {
    fn add(&mut self, item: &[u8]) {
        let mut word = [0; 16];
        word.copy_from_slice(&blake3::hash(item).as_bytes()[..16]);
        self.count += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(word));
    }
}

/// A body as a row describes it.
struct Described<'a> {
    order: OrderKey,
    number: u16,
    len: u64,
    digest: [u8; 32],
    /// MD5 of the bytes.
    md5: [u8; 16],
    at: &'a BodyAt,
}

struct Bodies<'a> {
    state: &'a FjallState,
    chunks: &'a Chunks,
    is_shared: bool,
    found: &'a mut Found,
    phase: Phase<'a>,
    /// Placements that were read.
    seen: HashSet<PlacementId>,
    /// Keys in the table of bodies that rows refer to.
    inline: Tally,
    /// Reference rows that there must be.
    references: Tally,
}

impl Bodies<'_> {
    fn walk(&mut self) -> Result<(), ReadError> {
        let state = self.state;
        query::each_object(state, |place, row| {
            self.found.report.objects += 1;
            let name = format!("object {}/{}, version {}", place.bucket, place.key, row.version_text());
            self.object(&name, &row);
            ControlFlow::Continue(())
        })?;
        query::each_part(state, |holder, number, row| {
            self.part(holder, number, &row);
            ControlFlow::Continue(())
        })
    }

    fn object(&mut self, name: &str, row: &ObjectRow) {
        if let BodyAt::Parts(_) = row.body {
            // The bytes are checked with the parts; here, that all of them are there.
            match query::layout(self.state, row, 0..row.len) {
                Ok(segments) if segments.iter().map(|segment| segment.len).sum::<u64>() == row.len => {}
                Ok(_) => self.found.finding(name, "its parts do not add up to its length"),
                Err(error) => self.found.finding(name, error),
            }
            return;
        }
        let body =
            Described { order: row.order, number: 0, len: row.len, digest: row.digest, md5: row.md5, at: &row.body };
        // The tag of what was uploaded in parts is no MD5 of the bytes.
        self.body(name, &body, row.parts == 0 && !row.marker);
    }

    fn part(&mut self, holder: OrderKey, number: u16, row: &PartRow) {
        let name = format!("part {number} of {}", holder.to_hex());
        let body =
            Described { order: row.order, number, len: row.len, digest: row.digest, md5: row.md5, at: &row.body };
        self.body(&name, &body, true);
    }

    fn body(&mut self, name: &str, body: &Described<'_>, has_md5: bool) {
        match body.at {
            BodyAt::Nothing if body.len == 0 => {}
            BodyAt::Nothing => self.found.finding(name, "it has a length and no bytes"),
            BodyAt::Parts(_) => self.found.finding(name, "a part has parts"),
            BodyAt::Inline => self.inline(name, body, has_md5),
            BodyAt::Placed(placement) => {
                let key = [&placement.id.0[..], &body_key(body.order, body.number)].concat();
                self.references.add(&key);
                self.placed(name, body, placement, has_md5);
            }
        }
    }

    fn inline(&mut self, name: &str, body: &Described<'_>, has_md5: bool) {
        let key = body_key(body.order, body.number);
        self.inline.add(&key);
        match query::inline_body(self.state, &key) {
            Err(error) => self.found.finding(name, error),
            Ok(bytes) => {
                if *blake3::hash(&bytes).as_bytes() != body.digest || bytes.len() as u64 != body.len {
                    self.found.finding(name, "its bytes are not those that its digest names");
                } else if has_md5 && body.md5 != <[u8; 16]>::from(Md5::digest(&bytes)) {
                    self.found.finding(name, "its ETag is not the MD5 of its bytes");
                }
                self.count(&bytes);
                self.found.report.bodies += 1;
            }
        }
    }

    fn placed(&mut self, name: &str, body: &Described<'_>, placement: &Placement, has_md5: bool) {
        if content_digest(&placement.chunks) != body.digest || placement.len() != body.len {
            self.found.finding(name, "its chunks are not those that its digest names");
        }
        if !self.seen.insert(placement.id) {
            return;
        }
        let mut md5 = Md5::new();
        let (mut whole, mut missing) = (true, false);
        let chunks = self.chunks;
        chunks.each(placement, |index, read| match read {
            Ok(bytes) => {
                md5.update(&bytes);
                self.count(&bytes);
            }
            Err(VaultError::Missing(_)) if self.is_shared => (whole, missing) = (false, true),
            Err(error) => {
                whole = false;
                self.found.finding(format!("{name}, chunk {index}"), error);
            }
        });
        if missing {
            self.found.report.bodies_elsewhere += 1;
            return;
        }
        if whole && has_md5 && body.md5 != <[u8; 16]>::from(md5.finalize()) {
            self.found.finding(name, "its ETag is not the MD5 of its bytes");
        }
        self.found.report.bodies += 1;
    }

    fn count(&mut self, bytes: &Bytes) {
        self.found.report.body_bytes += bytes.len() as u64;
        self.phase.add(bytes.len() as u64);
    }

    /// What is stored and referred to by nothing.
    fn check_reverse(&mut self) -> Result<(), ReadError> {
        let mut stored = Tally::default();
        self.state.scan(Table::Bodies, b"", b"", &mut |key, _| {
            stored.add(key);
            ControlFlow::Continue(())
        })?;
        if stored != self.inline {
            self.name_strays()?;
        }
        let mut references = Tally::default();
        query::each_placement(self.state, |placement, order, number| {
            references.add(&[&placement.0[..], &body_key(order, number)].concat());
            ControlFlow::Continue(())
        })?;
        if references != self.references {
            let what = "the references to bodies in the vault are not those that objects and parts hold";
            self.found.finding("state, table catalog", what);
        }
        match self.chunks.list() {
            Err(error) => self.found.finding("vault", error),
            Ok(names) => {
                let orphans = names.iter().filter(|name| !self.seen.contains(&name.placement)).count();
                if orphans > 0 {
                    let what =
                        format!("{orphans} chunks belong to bodies that nothing refers to; they are swept in time");
                    self.found.note("vault", what);
                }
            }
        }
        Ok(())
    }

    /// Names rows in the table of bodies that no object or part refers to.
    fn name_strays(&mut self) -> Result<(), ReadError> {
        let mut referred: HashSet<Vec<u8>> = HashSet::new();
        query::each_object(self.state, |_, row| {
            referred.extend(row.body_key().map(|key| key.to_vec()));
            ControlFlow::Continue(())
        })?;
        query::each_part(self.state, |_, number, row| {
            if matches!(row.body, BodyAt::Inline) {
                referred.insert(body_key(row.order, number).to_vec());
            }
            ControlFlow::Continue(())
        })?;
        self.state.scan(Table::Bodies, b"", b"", &mut |key, _| {
            if !referred.contains(key) {
                self.found.finding(format!("state, table bodies, row {}", hex(key)), "no object refers to it");
            }
            ControlFlow::Continue(())
        })
    }
}
