//! The command line, as clap reads it. `docs/cli.md` describes it for people.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::settings::{Layer, size_of};

/// Object storage that gives one answer everywhere, and a receipt for every write.
#[derive(Parser, Debug)]
#[command(name = "entangle", version = crate::VERSION, disable_help_subcommand = true, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 verification failed, 4 not found, 5 unavailable.")]
pub(crate) struct Cli {
    /// One JSON document on standard output instead of text, also for errors
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a node
    #[command(after_help = "Flags count over the environment, the environment over the file. Every setting, with its \
        variable and its key in the file: docs/cli.md.\nSIGTERM and SIGINT drain; a second one ends at once.")]
    Serve(Box<ServeArgs>),
    /// See it work: three regions in one process, writes, a region cut off and healed, receipts, a forgery that fails
    Demo(DemoArgs),
    /// Found a cluster of several nodes, and let others join
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// What a running node says of itself, and how its links to other nodes do
    Status(StatusArgs),
    /// Receipts of object versions
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// The Merkle log of every write
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Access keys of a running node
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Copy the data folder of a stopped node
    Backup(BackupArgs),
    /// Make a data folder from a backup, and prove by the ledger that nothing is missing
    Restore(RestoreArgs),
    /// Measure a running node: closed-loop load over plain HTTP
    Bench(BenchArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// `entangle serve`
#[derive(Args, Debug, Default)]
pub(crate) struct ServeArgs {
    /// Read settings from this TOML file [env: ENTANGLE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder; made if it does not exist [default: entangle-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Folder of the signing key, the cluster key and the credentials file [default: DATA-keys, beside it]
    #[arg(long, value_name = "DIR")]
    keys: Option<String>,
    /// Address of the S3 port [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS")]
    s3: Option<String>,
    /// Certificate chain (PEM) of the S3 port: HTTPS
    #[arg(long, value_name = "FILE")]
    s3_tls_cert: Option<String>,
    /// Private key (PEM) of the S3 port
    #[arg(long, value_name = "FILE")]
    s3_tls_key: Option<String>,
    /// Domain under which buckets are host names (BUCKET.DOMAIN); may be repeated
    #[arg(long, value_name = "DOMAIN")]
    s3_domain: Vec<String>,
    /// Address of the read-only admin port, or `off` [default: 127.0.0.1:9600]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// Region that the node says it is in [default: us-east-1]
    #[arg(long)]
    region: Option<String>,
    /// Join a cluster, once: a token of `entangle cluster token`, or @FILE. Other users of this machine can see flags:
    /// prefer the file or ENTANGLE_JOIN
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// Name with which the node joins [default: made of the region]
    #[arg(long)]
    name: Option<String>,
    /// UDP address of the mesh, for a node of a cluster [default: 0.0.0.0 and the advertised port]
    #[arg(long, value_name = "ADDRESS")]
    mesh: Option<String>,
    /// How other nodes reach the mesh, if not at the address that it listens on
    #[arg(long, value_name = "HOST:PORT")]
    mesh_advertise: Option<String>,
    /// Whether anyone may read checkpoint and tiles [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    ledger_public: Option<String>,
    /// Whether the answer to a write carries its commit receipt [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    ledger_receipts: Option<String>,
    /// How long a write may wait for its answer [default: 30s]
    #[arg(long, value_name = "TIME")]
    write_timeout: Option<String>,
    /// Free disk space below which writes are refused [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    disk_reserve: Option<String>,
    /// How much journal may pile up before it is trimmed [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    disk_journal: Option<String>,
    /// Memory for the state's blocks [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    memory_state: Option<String>,
    /// Memory for hot objects [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    memory_objects: Option<String>,
    /// What is logged: a level, or a filter such as `info,gateway=debug` [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// `human`, `json`, or `auto`: human on a terminal [default: auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl ServeArgs {
    /// What was given, by key of the settings table.
    pub(crate) fn layer(&self) -> Layer {
        let domains = (!self.s3_domain.is_empty()).then(|| self.s3_domain.join(","));
        let given = [
            ("data", &self.data),
            ("keys", &self.keys),
            ("region", &self.region),
            ("name", &self.name),
            ("join", &self.join),
            ("mesh.listen", &self.mesh),
            ("mesh.advertise", &self.mesh_advertise),
            ("s3.listen", &self.s3),
            ("s3.domains", &domains),
            ("s3.tls_cert", &self.s3_tls_cert),
            ("s3.tls_key", &self.s3_tls_key),
            ("admin.listen", &self.admin),
            ("ledger.public", &self.ledger_public),
            ("ledger.receipts", &self.ledger_receipts),
            ("write.timeout", &self.write_timeout),
            ("disk.reserve", &self.disk_reserve),
            ("disk.journal", &self.disk_journal),
            ("memory.state", &self.memory_state),
            ("memory.objects", &self.memory_objects),
            ("log.filter", &self.log),
            ("log.format", &self.log_format),
        ];
        given.into_iter().filter_map(|(key, value)| value.clone().map(|value| (key, value))).collect()
    }
}

/// `entangle demo`
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Three or five regions, separated by commas [default: us-east4,europe-west2,asia-northeast1]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub(crate) regions: Vec<String>,
    /// Keep the regions up afterwards, and print how to reach them
    #[arg(long)]
    pub(crate) stay: bool,
    /// S3 port of the first region; the others take those behind it. 0 takes free ones
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// What is logged
    #[arg(long, value_name = "FILTER", default_value = "error")]
    pub(crate) log: String,
}

/// `entangle cluster …`
#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Make the first node of a cluster: cluster id, authority, keys, identity
    Init(ClusterInitArgs),
    /// Print a token with which one node can join
    Token(ClusterTokenArgs),
    /// The nodes of the cluster, and which of them are members
    Nodes(ClusterNodesArgs),
    /// Make a node that has joined a member, while the group works
    Add(ClusterChangeArgs),
    /// Have a member leave, while the group works; keep it running until this returns, unless it is lost
    Remove(ClusterChangeArgs),
    /// Put one node in the place of another: of one whose disk is lost, too
    Replace(ClusterReplaceArgs),
    /// Which zones have read leases, or a home for their writes
    Zones(ClusterNodesArgs),
    /// Say who is to hold the read lease of a zone, or where its writes are at home
    Zone(ClusterZoneArgs),
    /// Turn on what a newer build brought, once all members run it
    Upgrade(ClusterNodesArgs),
    /// Set how many members may fail: fewer than can make writes of five and more faster
    Faults(ClusterFaultsArgs),
}

/// `entangle cluster zone`
#[derive(Args, Debug)]
pub(crate) struct ClusterZoneArgs {
    /// The zone: s3://BUCKET, s3://BUCKET/PREFIX, or s3:// for everything
    pub(crate) zone: String,
    /// Who answers reads of it alone, while every write of it waits for all of them: `everyone`, `nobody`, or nodes by name
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    pub(crate) leases: Option<Vec<String>>,
    /// The node that the others hand its writes to, or `nobody`: for keys that are written everywhere at once
    #[arg(long, value_name = "NODE")]
    pub(crate) home: Option<String>,
    /// A member
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle cluster nodes`
#[derive(Args, Debug)]
pub(crate) struct ClusterNodesArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle cluster add` and `remove`
#[derive(Args, Debug)]
pub(crate) struct ClusterChangeArgs {
    /// The node: its name or its replica number
    pub(crate) node: String,
    /// A member that stays
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle cluster replace`
#[derive(Args, Debug)]
pub(crate) struct ClusterReplaceArgs {
    /// The member that leaves: its name or its replica number
    pub(crate) old: String,
    /// The node that comes in its place
    pub(crate) new: String,
    /// A member that stays
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle cluster faults`
#[derive(Args, Debug)]
pub(crate) struct ClusterFaultsArgs {
    /// From 1 up to less than half of the members
    pub(crate) number: u32,
    /// A member
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle cluster init`
#[derive(Args, Debug)]
pub(crate) struct ClusterInitArgs {
    /// Data folder of the first node: a new one, or that of a lone node, whose data is kept
    #[arg(long, value_name = "DIR", default_value = "entangle-data")]
    pub(crate) data: PathBuf,
    /// Folder of the keys [default: DATA-keys, beside it]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Name of the node: lower-case letters, digits and hyphens [default: made of the region]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Region of the node
    #[arg(long, default_value = "us-east-1")]
    pub(crate) region: String,
    /// How the other nodes will reach this one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9700")]
    pub(crate) mesh: String,
}

/// `entangle cluster token`
#[derive(Args, Debug)]
pub(crate) struct ClusterTokenArgs {
    /// Data folder of a node of the cluster; it may be running
    #[arg(long, value_name = "DIR", default_value = "entangle-data")]
    pub(crate) data: PathBuf,
    /// Folder of its keys [default: DATA-keys, beside it]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Days for which the token is good
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=365))]
    pub(crate) days: u32,
    /// Where the new node is to go [default: where this node and two others are reached]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
}

/// How to reach a running node.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct RemoteArgs {
    /// The node [env: ENTANGLE_ENDPOINT, AWS_ENDPOINT_URL] [default: http://127.0.0.1:9000]
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Access key [env: ENTANGLE_ACCESS_KEY, AWS_ACCESS_KEY_ID] [default: that of the keys folder]
    #[arg(long, value_name = "ID", requires = "secret_key")]
    pub(crate) access_key: Option<String>,
    /// Its secret; other users of this machine can see flags, so prefer the environment [env: ENTANGLE_SECRET_KEY,
    /// AWS_SECRET_ACCESS_KEY]
    #[arg(long, value_name = "SECRET", requires = "access_key")]
    pub(crate) secret_key: Option<String>,
    /// Keys folder whose credentials file is used if no key is given [default: entangle-data-keys]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Certificate (PEM) to trust for HTTPS, instead of the system's [env: ENTANGLE_CA, AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// `entangle bench`
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// What every request does
    #[arg(long, value_enum, default_value = "put")]
    pub(crate) op: BenchOp,
    /// Length of an object: 1KiB, 8MiB or a number of bytes
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = parse_size)]
    pub(crate) size: usize,
    /// Clients at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) clients: u16,
    /// How long to measure
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// Objects that are written first and then read
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) objects: u32,
    /// The bucket; made if it is not there. The objects stay in it
    #[arg(long, value_name = "NAME", default_value = "entangle-bench")]
    pub(crate) bucket: String,
}

/// What the load generator asks.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum BenchOp {
    /// Write new objects
    Put,
    /// Read objects that were written first
    Get,
    /// Half and half
    Mixed,
}

fn parse_size(text: &str) -> Result<usize, String> {
    let len = size_of(text).and_then(|len| usize::try_from(len).ok());
    len.filter(|len| *len <= BENCH_LEN_MAX)
        .ok_or_else(|| "write it as 1KiB, 8MiB or a number of bytes, at most 1GiB".to_owned())
}

/// Every client holds its object in memory.
const BENCH_LEN_MAX: usize = 1 << 30;

/// `entangle status`
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle receipt …`
#[derive(Subcommand, Debug)]
pub(crate) enum ReceiptCommand {
    /// Fetch the receipt of an object version
    Get(ReceiptGetArgs),
    /// Check a receipt offline
    Verify(ReceiptVerifyArgs),
}

/// `entangle receipt get`
#[derive(Args, Debug)]
pub(crate) struct ReceiptGetArgs {
    /// The object: s3://BUCKET/KEY
    pub(crate) object: String,
    /// The version, instead of the current one
    #[arg(long, value_name = "ID")]
    pub(crate) version_id: Option<String>,
    /// Write the receipt to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle receipt verify`
#[derive(Args, Debug)]
pub(crate) struct ReceiptVerifyArgs {
    /// The receipt, or `-` for standard input
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}

/// Whom to trust.
#[derive(Args, Debug, Default)]
pub(crate) struct PolicyArgs {
    /// Policy of the cluster: its keys and its quorum [env: ENTANGLE_POLICY] [default: that of the keys folder
    /// entangle-data-keys, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

/// `entangle ledger …`
#[derive(Subcommand, Debug)]
pub(crate) enum LedgerCommand {
    /// Recompute the whole ledger: of a stopped data folder, or of a running node
    Verify(LedgerVerifyArgs),
    /// Print the newest signed checkpoint of a running node
    Checkpoint(LedgerCheckpointArgs),
    /// Print the policy of a running node: what verifiers need. Compare it before you trust it
    Policy(LedgerPolicyArgs),
}

/// `entangle ledger verify`
#[derive(Args, Debug)]
pub(crate) struct LedgerVerifyArgs {
    /// A data folder that no process uses: the ledger, the journal, the state and every body
    #[arg(long, value_name = "DIR", conflicts_with_all = ["endpoint", "access_key", "ca"])]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle ledger checkpoint`
#[derive(Args, Debug)]
pub(crate) struct LedgerCheckpointArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle ledger policy`
#[derive(Args, Debug)]
pub(crate) struct LedgerPolicyArgs {
    /// Write the policy to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle keys …`
#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// Add an access key, and print its secret once
    Add(KeysAddArgs),
    /// List access keys, without secrets
    List(KeysListArgs),
    /// Remove an access key
    Remove(KeysRemoveArgs),
}

/// `entangle keys add`
#[derive(Args, Debug)]
pub(crate) struct KeysAddArgs {
    /// The access key; made up if left out
    pub(crate) new_key: Option<String>,
    /// Take its secret from this file, or `-` for standard input; made up if left out
    #[arg(long, value_name = "FILE", requires = "new_key")]
    pub(crate) secret_file: Option<PathBuf>,
    /// A note for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) description: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle keys list`
#[derive(Args, Debug)]
pub(crate) struct KeysListArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle keys remove`
#[derive(Args, Debug)]
pub(crate) struct KeysRemoveArgs {
    /// The access key
    pub(crate) old_key: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `entangle backup`
#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    /// The data folder of a stopped node
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Its keys folder [default: DATA-keys, beside it]. Keys are not in the backup: keep a copy of them apart
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Where to: a file or folder that does not exist yet
    #[arg(long, value_name = "PATH")]
    pub(crate) to: PathBuf,
}

/// `entangle restore`
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "PATH")]
    pub(crate) from: PathBuf,
    /// The data folder to make; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The keys folder that belongs to the backup [default: DATA-keys, beside the new folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
}

/// `entangle completions`
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::settings::TABLE;

    #[test]
    fn clap_finds_no_fault() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_its_flag_and_reaches_its_key() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for row in TABLE {
            assert!(serve.get_arguments().any(|flag| flag.get_long() == Some(row.flag)), "--{}", row.flag);
            let cli = Cli::parse_from(["entangle", "serve", &format!("--{}", row.flag), "given"]);
            let Command::Serve(serve) = cli.command else { panic!("not serve") };
            assert_eq!(serve.layer().get(row.key).map(String::as_str), Some("given"), "--{}", row.flag);
        }
    }

    #[test]
    fn an_access_key_needs_its_secret() {
        assert!(Cli::try_parse_from(["entangle", "status", "--access-key", "x"]).is_err());
        assert!(Cli::try_parse_from(["entangle", "status", "--access-key", "x", "--secret-key", "y"]).is_ok());
    }
}
