//! An access key and its secret.

use std::fmt;

use zeroize::Zeroizing;

/// What a request is signed with. Never shows its secret: neither in `Debug` nor in an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key: String,
    secret_key: Zeroizing<String>,
}

impl Credentials {
    /// Takes both as they are; the server judges them.
    #[must_use]
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self { access_key: access_key.into(), secret_key: Zeroizing::new(secret_key.into()) }
    }

    /// The access key id: public.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret. Whoever takes it must not log it.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_secret() {
        let shown = format!("{:?}", Credentials::new("AKIA", "do-not-show-me"));
        assert!(shown.contains("AKIA"), "{shown}");
        assert!(!shown.contains("do-not-show-me"), "{shown}");
    }
}
