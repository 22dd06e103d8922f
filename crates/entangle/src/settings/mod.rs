//! Settings of `entangle serve`: flags over environment over file over defaults.
//!
//! One table, [`TABLE`], names every setting; the file, the environment and `docs/cli.md` follow it, and what
//! is not in it is refused by name.

mod environment;
mod file;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use environment::Environment;
pub(crate) use parse::{nearest, reached, region, size_of};

use crate::exit::Failure;
use crate::logs::Format;

/// One setting, by all its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// In the file: `section.key`.
    pub(crate) key: &'static str,
    /// On the command line, without the dashes.
    pub(crate) flag: &'static str,
    /// In the environment.
    pub(crate) variable: &'static str,
    /// What holds if nobody says otherwise, as one would write it.
    pub(crate) default: &'static str,
}

const fn setting(key: &'static str, flag: &'static str, variable: &'static str, default: &'static str) -> Setting {
    Setting { key, flag, variable, default }
}

/// Every setting. `docs/cli.md` has the same table, and a test compares them.
pub(crate) const TABLE: &[Setting] = &[
    setting("data", "data", "ENTANGLE_DATA", "entangle-data"),
    setting("keys", "keys", "ENTANGLE_KEYS", ""),
    setting("region", "region", "ENTANGLE_REGION", "us-east-1"),
    setting("name", "name", "ENTANGLE_NAME", ""),
    setting("join", "join", "ENTANGLE_JOIN", ""),
    setting("mesh.listen", "mesh", "ENTANGLE_MESH", ""),
    setting("mesh.advertise", "mesh-advertise", "ENTANGLE_MESH_ADVERTISE", ""),
    setting("s3.listen", "s3", "ENTANGLE_S3", "127.0.0.1:9000"),
    setting("s3.domains", "s3-domain", "ENTANGLE_S3_DOMAINS", ""),
    setting("s3.tls_cert", "s3-tls-cert", "ENTANGLE_S3_TLS_CERT", ""),
    setting("s3.tls_key", "s3-tls-key", "ENTANGLE_S3_TLS_KEY", ""),
    setting("admin.listen", "admin", "ENTANGLE_ADMIN", "127.0.0.1:9600"),
    setting("ledger.public", "ledger-public", "ENTANGLE_LEDGER_PUBLIC", "false"),
    setting("ledger.receipts", "ledger-receipts", "ENTANGLE_LEDGER_RECEIPTS", "true"),
    setting("write.timeout", "write-timeout", "ENTANGLE_WRITE_TIMEOUT", "30s"),
    setting("disk.reserve", "disk-reserve", "ENTANGLE_DISK_RESERVE", "256MiB"),
    setting("disk.journal", "disk-journal", "ENTANGLE_DISK_JOURNAL", "256MiB"),
    setting("memory.state", "memory-state", "ENTANGLE_MEMORY_STATE", "64MiB"),
    setting("memory.objects", "memory-objects", "ENTANGLE_MEMORY_OBJECTS", "64MiB"),
    setting("log.filter", "log", "ENTANGLE_LOG", "info"),
    setting("log.format", "log-format", "ENTANGLE_LOG_FORMAT", "auto"),
];

/// Where a value was found: what an error about it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    File { key: &'static str, path: PathBuf },
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(variable) => f.write_str(variable),
            Self::File { key, path } => write!(f, "{key} in {}", path.display()),
            Self::Default(key) => write!(f, "the default of {key}"),
        }
    }
}

/// A value as it was written, and where. Lists are separated by commas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sourced {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// Values by key of the table.
pub(crate) type Layer = BTreeMap<&'static str, String>;

/// All that `serve` needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) keys: PathBuf,
    pub(crate) region: String,
    /// Whether somebody said so; else the keys folder of a cluster's node may know better.
    pub(crate) region_given: bool,
    /// The name with which the node joins a cluster.
    pub(crate) name: Option<String>,
    /// The join token, or `@` and the file that holds it.
    pub(crate) join: Option<Sourced>,
    /// Where the mesh of a cluster's node listens.
    pub(crate) mesh: Option<SocketAddr>,
    /// How others reach it: `host:port`.
    pub(crate) mesh_advertise: Option<String>,
    pub(crate) s3: SocketAddr,
    pub(crate) domains: Vec<String>,
    pub(crate) tls: Option<TlsFiles>,
    /// `None`: no admin port.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) ledger_public: bool,
    pub(crate) receipts: bool,
    pub(crate) write_timeout: Duration,
    pub(crate) disk_reserve_len: u64,
    pub(crate) disk_journal_len: u64,
    pub(crate) memory_state_len: u64,
    pub(crate) memory_objects_len: u64,
    pub(crate) log_filter: Sourced,
    pub(crate) log_format: Format,
    pub(crate) bench: Bench,
}

/// Certificate and key of the S3 port, PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Settings for measurements, from the environment alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bench {
    /// Added to every flush.
    pub(crate) flush_delay: Duration,
    /// The ledger is off.
    pub(crate) without_ledger: bool,
}

impl Settings {
    /// Joins flags, environment and file.
    pub(crate) fn load(flags: Layer, environment: &Environment, file: Option<&Path>) -> Result<Self, Failure> {
        let file_layer = match file {
            Some(path) => file::read(path)?,
            None => Layer::new(),
        };
        let layers = Layers { flags, environment, file: file_layer, path: file.unwrap_or(Path::new("")) };
        let data = PathBuf::from(layers.text("data"));
        let keys = layers.optional("keys").map_or_else(|| node::config::keys_beside(&data), |keys| keys.text.into());
        Ok(Self {
            region: region(&layers.find("region"))?,
            region_given: !matches!(layers.find("region").origin, Origin::Default(_)),
            name: layers.optional("name").map(|found| found.text),
            join: layers.optional("join"),
            mesh: layers.optional("mesh.listen").map(|found| parse::address(&found)).transpose()?,
            mesh_advertise: layers.optional("mesh.advertise").map(|found| reached(&found)).transpose()?,
            s3: parse::address(&layers.find("s3.listen"))?,
            domains: parse::domains(&layers.find("s3.domains"))?,
            tls: layers.tls()?,
            admin: layers.admin()?,
            ledger_public: parse::boolean(&layers.find("ledger.public"))?,
            receipts: parse::boolean(&layers.find("ledger.receipts"))?,
            write_timeout: parse::duration(&layers.find("write.timeout"))?,
            disk_reserve_len: parse::size(&layers.find("disk.reserve"))?,
            disk_journal_len: parse::size(&layers.find("disk.journal"))?,
            memory_state_len: parse::size(&layers.find("memory.state"))?,
            memory_objects_len: parse::size(&layers.find("memory.objects"))?,
            log_filter: layers.find("log.filter"),
            log_format: parse::log_format(&layers.find("log.format"))?,
            bench: bench(environment)?,
            data,
            keys,
        })
    }
}

struct Layers<'a> {
    flags: Layer,
    environment: &'a Environment,
    file: Layer,
    path: &'a Path,
}

impl Layers<'_> {
    /// The value that counts. Every key used here stands in [`TABLE`]; a test asks for each.
    fn find(&self, key: &'static str) -> Sourced {
        let row = TABLE.iter().find(|row| row.key == key).copied().unwrap_or(setting("", "", "", ""));
        if let Some(text) = self.flags.get(row.key) {
            return Sourced { text: text.clone(), origin: Origin::Flag(row.flag) };
        }
        if let Some(text) = self.environment.get(row.variable) {
            return Sourced { text: text.to_owned(), origin: Origin::Variable(row.variable) };
        }
        if let Some(text) = self.file.get(row.key) {
            return Sourced { text: text.clone(), origin: Origin::File { key: row.key, path: self.path.to_owned() } };
        }
        Sourced { text: row.default.to_owned(), origin: Origin::Default(row.key) }
    }

    fn text(&self, key: &'static str) -> String {
        self.find(key).text
    }

    fn optional(&self, key: &'static str) -> Option<Sourced> {
        Some(self.find(key)).filter(|found| !found.text.is_empty())
    }

    fn tls(&self) -> Result<Option<TlsFiles>, Failure> {
        match (self.optional("s3.tls_cert"), self.optional("s3.tls_key")) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert: cert.text.into(), key: key.text.into() })),
            (Some(cert), None) => Err(one_without_the_other(&cert, "s3-tls-key", "s3.tls_key")),
            (None, Some(key)) => Err(one_without_the_other(&key, "s3-tls-cert", "s3.tls_cert")),
        }
    }

    fn admin(&self) -> Result<Option<SocketAddr>, Failure> {
        let found = self.find("admin.listen");
        if matches!(found.text.as_str(), "off" | "none") { Ok(None) } else { parse::address(&found).map(Some) }
    }
}

fn one_without_the_other(given: &Sourced, flag: &str, key: &str) -> Failure {
    Failure::usage(format!("{} is given alone; HTTPS needs --{flag} ({key} in the file) as well", given.origin))
}

fn bench(environment: &Environment) -> Result<Bench, Failure> {
    let mut bench = Bench::default();
    if let Some(text) = environment.get("ENTANGLE_FLUSH_DELAY_MS") {
        let delay_ms = text.parse().map_err(|_| {
            Failure::usage(format!("ENTANGLE_FLUSH_DELAY_MS: {text:?} is no number of milliseconds; write it as 5"))
        })?;
        bench.flush_delay = Duration::from_millis(delay_ms);
    }
    match environment.get("ENTANGLE_BENCH_LEDGER") {
        None | Some("on") => {}
        Some("off") => bench.without_ledger = true,
        Some(text) => {
            return Err(Failure::usage(format!(
                "ENTANGLE_BENCH_LEDGER: {text:?} is neither on nor off; use one of them"
            )));
        }
    }
    Ok(bench)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
