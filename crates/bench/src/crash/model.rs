//! What a key may hold.

use crate::random::bytes;

/// The bytes of an object, told by the seeds that they are made from: one piece, or one per part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Content(pub(crate) Vec<(u64, usize)>);

impl Content {
    pub(crate) fn piece(seed: u64, len: usize) -> Self {
        Self(vec![(seed, len)])
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|&(seed, len)| bytes(seed, len)).collect()
    }
}

/// An object, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    /// There is no object.
    Absent,
    /// There is one with these bytes.
    Present(Content),
}

/// What is known of one key.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The last acknowledged write.
    pub(crate) acknowledged: Value,
    /// What a request without an answer would have made of it.
    pub(crate) unanswered: Option<Value>,
    /// The ETag of the acknowledged object.
    pub(crate) etag: Option<String>,
}

impl Known {
    pub(crate) fn absent() -> Self {
        Self { acknowledged: Value::Absent, unanswered: None, etag: None }
    }

    /// Which of the allowed values was found; an error tells how it differs from all of them.
    pub(crate) fn judge(&self, found: Option<&[u8]>) -> Result<Value, String> {
        let allowed = [Some(&self.acknowledged), self.unanswered.as_ref()];
        for value in allowed.into_iter().flatten() {
            let matches = match (value, found) {
                (Value::Absent, None) => true,
                (Value::Present(content), Some(found)) => content.bytes() == found,
                _ => false,
            };
            if matches {
                return Ok(value.clone());
            }
        }
        let found = found.map_or("nothing".to_owned(), |found| format!("{} bytes", found.len()));
        Err(format!("{found} found; acknowledged: {:?}, without an answer: {:?}", self.acknowledged, self.unanswered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_allowed() {
        let (old, new) = (Content::piece(1, 10), Content(vec![(2, 5), (3, 5)]));
        let known = Known {
            acknowledged: Value::Present(old.clone()),
            unanswered: Some(Value::Present(new.clone())),
            etag: None,
        };
        assert_eq!(known.judge(Some(&old.bytes())), Ok(Value::Present(old.clone())));
        assert_eq!(known.judge(Some(&new.bytes())), Ok(Value::Present(new.clone())));
        assert!(known.judge(None).is_err());
        assert!(known.judge(Some(&new.bytes()[..9])).is_err());
        let half: Vec<u8> = [&old.bytes()[..5], &new.bytes()[5..]].concat();
        assert!(known.judge(Some(&half)).is_err());
        assert_eq!(Known::absent().judge(None), Ok(Value::Absent));
        assert!(Known::absent().judge(Some(&[])).is_err());
    }
}
