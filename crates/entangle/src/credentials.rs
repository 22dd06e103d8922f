//! The first access key: from the environment, or made on the first start and kept in a file of mode 0600.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::rand;
use client::Credentials;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::settings::Environment;

/// Name of the credentials file in the keys folder. Its format is that of the AWS shared credentials file.
pub(crate) const FILE: &str = "credentials";
const ACCESS_KEY_LEN: usize = 20;
const SECRET_KEY_LEN: usize = 40;

/// Judges an access key id: it stands in headers and URLs, so only harmless characters.
pub(crate) fn check_access_key(access_key: &str) -> Result<(), &'static str> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (3..=128).contains(&access_key.len()) && access_key.bytes().all(harmless) {
        return Ok(());
    }
    Err("an access key has 3 to 128 characters: letters, digits, dots, dashes and underscores")
}

/// Judges a secret.
pub(crate) fn check_secret_key(secret_key: &str) -> Result<(), &'static str> {
    if (8..=128).contains(&secret_key.len()) && secret_key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err("a secret key has 8 to 128 printable ASCII characters without spaces")
}

/// The pair of the environment: both or neither, and well formed.
pub(crate) fn from_environment(environment: &Environment) -> Result<Option<Credentials>, Failure> {
    let (access, secret) = ("ENTANGLE_ACCESS_KEY", "ENTANGLE_SECRET_KEY");
    match (environment.get(access), environment.get(secret)) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(Failure::usage(format!("{access} is set alone; set {secret} as well, or neither"))),
        (None, Some(_)) => Err(Failure::usage(format!("{secret} is set alone; set {access} as well, or neither"))),
        (Some(access_key), Some(secret_key)) => {
            check_access_key(access_key)
                .map_err(|rule| Failure::usage(format!("{access} cannot be used: {rule}; set it again")))?;
            check_secret_key(secret_key)
                .map_err(|rule| Failure::usage(format!("{secret} cannot be used: {rule}; set it again")))?;
            Ok(Some(Credentials::new(access_key, secret_key)))
        }
    }
}

/// A fresh pair: 20 and 40 characters (103 and 238 bits) from the operating system's randomness.
pub(crate) fn generate() -> anyhow::Result<Credentials> {
    let access_key = random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", ACCESS_KEY_LEN)?;
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let secret_key = random_text(letters, SECRET_KEY_LEN)?;
    Ok(Credentials::new(access_key.as_str(), secret_key.as_str()))
}

/// Each character equally likely: bytes that would favour some are drawn again.
fn random_text(letters: &[u8], len: usize) -> anyhow::Result<Zeroizing<String>> {
    let even = 256 - 256 % letters.len();
    let mut text = Zeroizing::new(String::with_capacity(len));
    while text.len() < len {
        let mut byte = [0];
        rand::fill(&mut byte).ok().context("the operating system gives no random bytes")?;
        let value = usize::from(byte[0]);
        if value < even {
            text.push(char::from(letters[value % letters.len()]));
        }
    }
    Ok(text)
}

/// Where a keys folder has its credentials file.
pub(crate) fn path_in(keys: &Path) -> PathBuf {
    keys.join(FILE)
}

/// Writes the file durably, readable by its owner only; refuses to overwrite one.
pub(crate) fn write(path: &Path, credentials: &Credentials) -> anyhow::Result<()> {
    let text = Zeroizing::new(format!(
        "# The first access key of this node, made on its first start. Keep it to yourself.\n\
         # AWS tools read it with AWS_SHARED_CREDENTIALS_FILE.\n\
         [default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        credentials.access_key(),
        credentials.secret_key()
    ));
    let advice = || format!("{} cannot be written; check that this user may write to that folder", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(advice)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(advice)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(advice)
}

/// Reads the file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Credentials>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::failed(format!(
                "{}: {error}; make it readable for this user, or give the access key in ENTANGLE_ACCESS_KEY and \
                 ENTANGLE_SECRET_KEY",
                path.display()
            )));
        }
    };
    if fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0) {
        return Err(Failure::failed(format!(
            "{0} may be read by others than its owner; run: chmod 600 '{0}'",
            path.display()
        )));
    }
    let value = |name: &str| {
        text.lines().find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == name).map(|(_, v)| v.trim()))
    };
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(access_key), Some(secret_key))
            if check_access_key(access_key).is_ok() && check_secret_key(secret_key).is_ok() =>
        {
            Ok(Some(Credentials::new(access_key, secret_key)))
        }
        _ => Err(Failure::failed(format!(
            "{} holds no usable aws_access_key_id and aws_secret_access_key; correct it, or remove it and give the \
             access key in ENTANGLE_ACCESS_KEY and ENTANGLE_SECRET_KEY",
            path.display()
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into()))).unwrap()
    }

    #[test]
    fn both_or_neither_and_well_formed() {
        assert_eq!(from_environment(&environment(&[])).unwrap(), None);
        let both = environment(&[("ENTANGLE_ACCESS_KEY", "entangle"), ("ENTANGLE_SECRET_KEY", "long-enough")]);
        assert_eq!(from_environment(&both).unwrap(), Some(Credentials::new("entangle", "long-enough")));
        for (variables, complaint) in [
            (vec![("ENTANGLE_ACCESS_KEY", "entangle")], "set ENTANGLE_SECRET_KEY as well"),
            (vec![("ENTANGLE_SECRET_KEY", "long-enough")], "set ENTANGLE_ACCESS_KEY as well"),
            (vec![("ENTANGLE_ACCESS_KEY", "ab"), ("ENTANGLE_SECRET_KEY", "long-enough")], "3 to 128 characters"),
            (vec![("ENTANGLE_ACCESS_KEY", "a/b/c"), ("ENTANGLE_SECRET_KEY", "long-enough")], "3 to 128 characters"),
            (vec![("ENTANGLE_ACCESS_KEY", "entangle"), ("ENTANGLE_SECRET_KEY", "short")], "8 to 128 printable"),
            (vec![("ENTANGLE_ACCESS_KEY", "entangle"), ("ENTANGLE_SECRET_KEY", "with a space")], "8 to 128 printable"),
        ] {
            let refused = from_environment(&environment(&variables)).unwrap_err();
            assert!(refused.sentence.contains(complaint), "{refused}");
            let secret = variables.iter().find(|(name, _)| name.ends_with("SECRET_KEY"));
            assert!(secret.is_none_or(|(_, secret)| !refused.sentence.contains(secret)), "{refused}");
        }
    }

    #[test]
    fn generated_pairs_are_well_formed_and_differ() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_ne!(a.access_key(), b.access_key());
        assert_ne!(a.secret_key(), b.secret_key());
        assert!(check_access_key(a.access_key()).is_ok() && check_secret_key(a.secret_key()).is_ok());
        assert_eq!((a.access_key().len(), a.secret_key().len()), (ACCESS_KEY_LEN, SECRET_KEY_LEN));
    }

    #[test]
    fn the_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(folder.path());
        assert_eq!(read(&path).unwrap(), None);
        let made = generate().unwrap();
        write(&path, &made).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap(), Some(made.clone()));
        assert!(write(&path, &made).is_err(), "never overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).unwrap_err().sentence.contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "[default]\naws_access_key_id = x\n").unwrap();
        assert!(read(&path).unwrap_err().sentence.contains("holds no usable"));
    }
}
