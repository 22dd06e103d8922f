//! Multipart uploads.

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};
use types::command::{AbortUpload, CompleteUpload, CreateUpload, UploadPart};
use types::object::{Body, Metadata};
use types::{OrderKey, Outcome, Refusal};

use super::objects::{Content, hex};
use super::{Model, Place};

/// Smallest part but the last (AWS: 5 MiB).
const PART_LEN_MIN: u64 = 5 << 20;

/// An upload in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// The key of the object to be.
    pub key: String,
    /// Who started it.
    pub principal: String,
    /// Headers of the object to be.
    pub metadata: Metadata,
    /// Its parts by number.
    pub parts: BTreeMap<u16, Part>,
}

/// A part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// When it was stored.
    pub order: OrderKey,
    /// Length in bytes.
    pub len: u64,
    /// Content digest.
    pub digest: [u8; 32],
    /// MD5: its ETag.
    pub md5: [u8; 16],
    /// Its bytes.
    pub body: Body,
}

impl Model {
    pub(super) fn create_upload(&mut self, place: Place<'_>, op: &CreateUpload) -> Result<Outcome, Refusal> {
        let order = place.order(0);
        let upload = Upload {
            key: op.key.clone(),
            principal: place.command.principal.clone(),
            metadata: op.metadata.clone(),
            parts: BTreeMap::new(),
        };
        self.bucket(&op.bucket)?.uploads.insert(order, upload);
        Ok(Outcome::UploadCreated(order))
    }

    fn upload(&mut self, bucket: &str, key: &str, upload: OrderKey) -> Result<&mut Upload, Refusal> {
        let found = self.bucket(bucket)?.uploads.get_mut(&upload).filter(|upload| upload.key == key);
        found.ok_or(Refusal::NoSuchUpload)
    }

    pub(super) fn upload_part(&mut self, place: Place<'_>, op: &UploadPart) -> Result<Outcome, Refusal> {
        self.bucket(&op.bucket)?;
        Self::fresh(place.timestamp, &op.body)?;
        let upload = self.upload(&op.bucket, &op.key, op.upload)?;
        let part = Part { order: place.order(0), len: op.len, digest: op.digest, md5: op.md5, body: op.body.clone() };
        upload.parts.insert(op.number, part);
        Ok(Outcome::PartStored(hex(&op.md5)))
    }

    pub(super) fn abort(&mut self, op: &AbortUpload) -> Result<Outcome, Refusal> {
        self.upload(&op.bucket, &op.key, op.upload)?;
        self.bucket(&op.bucket)?.uploads.remove(&op.upload);
        Ok(Outcome::Done)
    }

    pub(super) fn complete(&mut self, place: Place<'_>, op: &CompleteUpload) -> Result<Outcome, Refusal> {
        self.bucket(&op.bucket)?;
        let name = (op.bucket.clone(), op.key.clone(), op.upload);
        let listed: Vec<(u16, String)> = op.parts.iter().map(|part| (part.number, part.etag.clone())).collect();
        let upload = match self.upload(&op.bucket, &op.key, op.upload) {
            Ok(upload) => upload.clone(),
            Err(refusal) => {
                let before = self.completed.get(&name);
                let same = |(at, parts, _): &&super::Completion| {
                    *parts == listed && place.timestamp.0 - at.0 < super::WINDOW_NS
                };
                return before.filter(same).map(|(_, _, outcome)| outcome.clone()).ok_or(refusal);
            }
        };
        let content = assemble(&upload, &listed)?;
        let bucket = self.bucket(&op.bucket)?;
        bucket.judge(&op.key, &op.condition)?;
        let order = place.order(0);
        let outcome = Outcome::Written(bucket.written(order, &content));
        bucket.uploads.remove(&op.upload);
        bucket.write(&op.key, order, Some(content));
        self.completed.insert(name, (place.timestamp, listed, outcome.clone()));
        Ok(outcome)
    }
}

/// The object that the listed parts make.
fn assemble(upload: &Upload, listed: &[(u16, String)]) -> Result<Content, Refusal> {
    if listed.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(Refusal::InvalidPartOrder);
    }
    let mut chosen = Vec::new();
    for (number, etag) in listed {
        let part = upload.parts.get(number).filter(|part| hex(&part.md5) == *etag);
        chosen.push((*number, part.ok_or(Refusal::InvalidPart(*number))?));
    }
    let before_last = &chosen[..chosen.len() - 1];
    if let Some((number, _)) = before_last.iter().find(|(_, part)| part.len < PART_LEN_MIN) {
        return Err(Refusal::EntityTooSmall(*number));
    }
    let mut tags = Md5::new();
    chosen.iter().for_each(|(_, part)| tags.update(part.md5));
    Ok(Content {
        len: chosen.iter().map(|(_, part)| part.len).sum(),
        etag: format!("{}-{}", hex(&tags.finalize()), chosen.len()),
        bodies: chosen.iter().map(|(_, part)| (part.body.clone(), part.digest)).collect(),
        parts: u16::try_from(chosen.len()).expect("few parts"),
        metadata: upload.metadata.clone(),
    })
}
