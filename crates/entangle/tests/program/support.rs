//! Runs the binary: to its end, or as a node that is killed when the test is over.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use client::{Client, Credentials, Options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// A folder of its own for a test.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The binary, in this folder, with nothing of the surrounding environment that could matter.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entangle"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ENTANGLE_") || text.starts_with("AWS_") || text == "NO_COLOR" {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments))
    }

    /// Starts a node on `data` in this folder, on free ports.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Serving {
        Serving::start(self, arguments, &[])
    }
}

/// A command that came to its end.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let id = child.id();
        // Reading must not wait for the end, nor the end for reading.
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let out = std::thread::spawn(move || std::io::read_to_string(stdout).unwrap());
        let err = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
        let status = wait(&mut child).unwrap_or_else(|| panic!("process {id} did not end: {command:?}"));
        let output = Output { status, stdout: Vec::new(), stderr: Vec::new() };
        Self { code: output.status.code().unwrap_or(-1), out: out.join().unwrap(), err: err.join().unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The one sentence of a failure: a single line, no backtrace, no debug output.
    pub(crate) fn sentence(&self) -> &str {
        let line = self.err.strip_prefix("entangle: ").unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!(line.trim_end().lines().count(), 1, "{self:?}");
        line.trim_end()
    }
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- out\n{}\n--- err\n{}", self.code, self.out, self.err)
    }
}

/// A running node.
pub(crate) struct Serving {
    child: Child,
    /// What it said when it was ready.
    pub(crate) document: Value,
    log: PathBuf,
}

impl Serving {
    pub(crate) fn start(place: &Place, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = place.command(&["--json", "serve", "--s3", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(arguments);
        if !arguments.contains(&"--data") {
            command.args(["--data", "data"]);
        }
        command.envs(variables.iter().copied());
        Self::spawn(command, place.path("log"))
    }

    /// Starts a command that prints one line of JSON when it is ready.
    pub(crate) fn spawn(mut command: Command, log: PathBuf) -> Self {
        let errors = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
        });
        let line = receiver.recv_timeout(PATIENCE).map(|line| line.unwrap()).unwrap_or_default();
        let logged = || std::fs::read_to_string(&log).unwrap_or_default();
        let document = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", logged()));
        let serving = Self { child, document, log };
        assert_eq!(serving.document["ok"], true, "{}\n{}", serving.document, serving.log());
        serving
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.document[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.document))
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.text("endpoint")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The pair of the credentials file.
    pub(crate) fn credentials(&self) -> Credentials {
        credentials(Path::new(self.text("credentials_file")))
    }

    pub(crate) fn client(&self) -> Client {
        client(self.endpoint(), Some(self.credentials()))
    }

    /// A client with the credentials of another keys folder: those of the cluster.
    pub(crate) fn client_with(&self, place: &Place, keys: &str) -> Client {
        client(self.endpoint(), Some(credentials(&place.path(keys).join("credentials"))))
    }

    /// Waits for the end; gives the exit code.
    pub(crate) fn ended(self) -> i32 {
        self.wait().code().unwrap_or(-1)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        wait(&mut self.child).unwrap_or_else(|| panic!("the node did not end:\n{}", self.log()))
    }

    /// SIGTERM, and the exit code 0 that has to follow.
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        let log = self.log.clone();
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// `kill -9`
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a credentials file holds.
fn credentials(path: &Path) -> Credentials {
    let text = std::fs::read_to_string(path).unwrap();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once('=').unwrap().1.trim().to_owned()
    };
    Credentials::new(value("aws_access_key_id"), value("aws_secret_access_key"))
}

pub(crate) fn client(endpoint: &str, credentials: Option<Credentials>) -> Client {
    let mut options = Options::new(endpoint.parse().unwrap());
    options.credentials = credentials;
    Client::new(options).unwrap()
}

/// The exit status, if the process ends in time; else it is killed.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
