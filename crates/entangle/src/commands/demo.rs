//! `entangle demo`: the whole promise in one command. A node of its own, a write, its receipt, and a forgery.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Client, Credentials, Options};
use ledger::receipt::{Level, Proof, Verified};
use ledger::{Policy, Receipt, ReceiptFile};
use serde_json::{Value, json};

use super::ledger::Unverified;
use super::receipt::check;
use crate::cli::DemoArgs;
use crate::console::{Console, Report, bytes, count, counted, wrap};
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::server::Server;
use crate::settings::{Environment, Layer, Origin, Settings, Sourced};
use crate::signals::Shutdown;
use crate::{credentials, logs};

const BUCKET: &str = "demo";
const KEY: &str = "letters/first.txt";
const LARGE_KEY: &str = "photos/large.bin";
/// More than travels inside a command: these bytes go through the vault.
const LARGE_LEN: usize = 5 * 1024 * 1024;
const LETTER: &str = "Nothing here travels faster than light, and nothing is lost on the way.\n";
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn run(args: &DemoArgs, console: Console) -> anyhow::Result<Report> {
    logs::start(&Sourced { text: args.log.clone(), origin: Origin::Flag("log") }, logs::Format::Auto)?;
    let mut shutdown = Shutdown::listen()?;
    let folder = tempfile::Builder::new().prefix("entangle-demo-").tempdir()?;
    let settings = settings(folder.path())?;
    let credentials = credentials::generate()?;
    let mut story = Story::new(console);
    story.head();
    let began = Instant::now();
    let (server, _) = Box::pin(Server::start(&settings, Some(credentials.clone()))).await?;
    let endpoint = super::serve::endpoint(&settings, server.s3);
    story.step("node", format!("ready at {endpoint}, in {}", ms(began)));
    let told = tokio::select! {
        told = Box::pin(tell(&mut story, &endpoint, &credentials, &server)) => told,
        (name, _) = shutdown.next() => Err(Failure::failed(format!("{name}: the demo was interrupted")).into()),
    };
    // Whatever happened, the node is stopped in order and the folder removed.
    if told.is_ok() && args.stay {
        stay(&story, &endpoint, &credentials, shutdown).await;
        server.stop().await?;
        return Ok(Report::done(Value::Null, ""));
    }
    server.stop().await?;
    told?;
    verify_folder(&mut story, &settings, console).await?;
    folder.close()?;
    Ok(story.end())
}

fn settings(folder: &Path) -> Result<Settings, Failure> {
    let text = |path: &Path| path.display().to_string();
    let flags = Layer::from([
        ("data", text(&folder.join("data"))),
        ("keys", text(&folder.join("keys"))),
        ("s3.listen", "127.0.0.1:0".to_owned()),
        ("admin.listen", "off".to_owned()),
        // A demo has to run where little is free, too.
        ("disk.reserve", "16MiB".to_owned()),
    ]);
    Settings::load(flags, &Environment::default(), None)
}

/// Everything that is shown of a running node.
async fn tell(story: &mut Story, endpoint: &str, credentials: &Credentials, server: &Server) -> anyhow::Result<()> {
    let mut options = Options::new(endpoint.parse()?);
    options.credentials = Some(credentials.clone());
    options.timeout = TIMEOUT;
    let client = Client::new(options)?;
    let policy = Policy::from_bytes(server.policy().as_bytes())?;

    client.create_bucket(BUCKET).await?;
    let began = Instant::now();
    let put = client.put_object(BUCKET, KEY, LETTER).await?;
    story.step("write", format!("s3://{BUCKET}/{KEY}, durable in {}", ms(began)));
    if !put.receipt.is_empty() {
        let vouched = commit_receipt(&put.receipt, &policy)?;
        story.step("commit receipt", format!("came with the answer, {vouched}"));
    }
    let began = Instant::now();
    if client.read_object(BUCKET, KEY, LETTER.len()).await? != LETTER.as_bytes() {
        return Err(failed("the object was read back with other bytes"));
    }
    story.step("read", format!("the same {} in {}", bytes(LETTER.len() as u64), ms(began)));
    let large: Vec<u8> = (0..LARGE_LEN).map(|index| (index % 251) as u8).collect();
    let began = Instant::now();
    client.put_object(BUCKET, LARGE_KEY, large.clone()).await?;
    if client.read_object(BUCKET, LARGE_KEY, LARGE_LEN).await? != large {
        return Err(failed("the large object was read back with other bytes"));
    }
    story.step("large object", format!("{} written and read back in {}", bytes(LARGE_LEN as u64), ms(began)));

    let receipt = client.receipt(BUCKET, KEY, None).await?;
    story.show_receipt(&receipt);
    let verified =
        check(&receipt, &policy).map_err(|reason| failed(format!("the receipt does not verify: {reason}")))?;
    story.step("receipt", format!("{}, verified offline", place(&verified)));
    let forged = forge(&receipt)?;
    match check(&forged, &policy) {
        Ok(_) => return Err(failed("a receipt with a flipped byte was accepted")),
        Err(reason) => story.step("forged receipt", format!("one byte flipped, refused: {reason}")),
    }
    let (accepted, summary) = match super::ledger::verify(&client, &policy, |_, _| {}).await {
        Ok(verified) => verified,
        Err(Unverified::Unreachable(error)) => return Err(error.into()),
        Err(Unverified::Wrong(reason)) => return Err(failed(format!("the ledger does not verify: {reason}"))),
    };
    let entries = counted(summary.entries, "entry", "entries");
    story.step(
        "ledger",
        format!("{entries}, recomputed over the network, root {}…", &hex(&accepted.checkpoint.root)[..16]),
    );
    story.sentence = verified.sentence();
    Ok(())
}

/// Checks the receipt that came in the header of the answer.
fn commit_receipt(header: &str, policy: &Policy) -> anyhow::Result<String> {
    let receipt = Receipt::from_bytes(&STANDARD.decode(header)?)?;
    let verified = receipt.verify(policy)?;
    Ok(match verified.level {
        Level::Commit { vouched_by, .. } => {
            // Key names begin with the id of the cluster; which replica it is stands at the end.
            let names: Vec<&str> =
                vouched_by.iter().map(|name| name.split_once('/').map_or(&**name, |(_, n)| n)).collect();
            format!("vouched for by {}", names.join(", "))
        }
        Level::Included { .. } => "with its place in the ledger".to_owned(),
    })
}

/// The receipt with one byte of its entry flipped.
fn forge(receipt: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut file = ReceiptFile::from_bytes(receipt)?;
    let Proof::Included(proof) = &mut file.receipt.proof else {
        return Err(failed("the receipt is no proof of inclusion"));
    };
    let byte = proof.extra.as_mut().and_then(|entry| entry.get_mut(100));
    *byte.ok_or_else(|| failed("the receipt carries no entry"))? ^= 1;
    Ok(file.to_text()?.into_bytes())
}

fn place(verified: &Verified) -> String {
    match &verified.level {
        Level::Included { index, size, .. } => format!("entry {} of {}", count(*index), count(*size)),
        Level::Commit { .. } => "committed".to_owned(),
    }
}

async fn verify_folder(story: &mut Story, settings: &Settings, console: Console) -> anyhow::Result<()> {
    let report = super::folder::verify(&settings.data, &settings.keys, Progress::new(&console)).await?;
    if let Some(finding) = report.findings.first() {
        return Err(failed(format!("the stopped data folder does not verify: {} {}", finding.place, finding.what)));
    }
    story.step("data folder", "stopped, and every byte of it verified".to_owned());
    Ok(())
}

async fn stay(story: &Story, endpoint: &str, credentials: &Credentials, mut shutdown: Shutdown) {
    let console = story.console;
    if console.json {
        let mut document = story.document();
        document["endpoint"] = json!(endpoint);
        document["access_key"] = json!(credentials.access_key());
        document["secret_key"] = json!(credentials.secret_key());
        console.document(&document);
    } else {
        console.line(&format!(
            "\n  {} {}\n\n  export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}\n  export AWS_ENDPOINT_URL={endpoint} \
             AWS_REGION=us-east-1\n  aws s3 ls s3://{BUCKET} --recursive\n\n  {}",
            console.style.good("Proved."),
            wrap(&story.sentence, 100, "  "),
            credentials.access_key(),
            credentials.secret_key(),
            console.style.dim("The node runs until Ctrl-C; its folder is removed then."),
        ));
    }
    shutdown.next().await;
    shutdown.exit_on_next();
}

/// What was done, as it is told line by line.
struct Story {
    console: Console,
    began: Instant,
    steps: Vec<(&'static str, String)>,
    receipt: String,
    sentence: String,
}

impl Story {
    fn new(console: Console) -> Self {
        Self { console, began: Instant::now(), steps: Vec::new(), receipt: String::new(), sentence: String::new() }
    }

    fn head(&self) {
        if !self.console.json {
            self.console
                .line(&format!("\n  {}  a node of its own, for a moment\n", self.console.style.bold("Entangle")));
        }
    }

    fn step(&mut self, name: &'static str, what: String) {
        if !self.console.json {
            let style = self.console.style;
            self.console.line(&format!("  {} {}  {what}", style.good("✓"), style.bold(&format!("{name:<14}"))));
        }
        self.steps.push((name, what));
    }

    /// The receipt itself, without the policy that follows it in the file.
    fn show_receipt(&mut self, receipt: &[u8]) {
        self.receipt = String::from_utf8_lossy(receipt).into_owned();
        if !self.console.json {
            let style = self.console.style;
            let begins = |line: &&str| !line.starts_with("-----BEGIN ENTANGLE");
            let block = self.receipt.lines().skip_while(begins);
            let shown: Vec<&str> = block.take_while(|line| !line.is_empty()).collect();
            self.console.line(&format!("\n    {}\n", style.dim(&shown.join("\n    "))));
        }
    }

    fn document(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(|(name, what)| json!({ "step": name, "what": what })).collect();
        json!({
            "ok": true,
            "steps": steps,
            "receipt": self.receipt,
            "sentence": self.sentence,
            "duration_ms": u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn end(self) -> Report {
        let style = self.console.style;
        let text = format!(
            "\n  {} {}\n\n  {}\n",
            style.good("Proved."),
            wrap(&self.sentence, 100, "  "),
            style.dim("Next: `entangle demo --stay` keeps it running, `entangle serve` starts a node that stays.")
        );
        Report { exit: Exit::Done, json: self.document(), text }
    }
}

fn failed(sentence: impl Into<String>) -> anyhow::Error {
    Failure::new(Exit::Unverified, sentence).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ms(began: Instant) -> String {
    let elapsed = began.elapsed();
    if elapsed < Duration::from_millis(10) {
        format!("{:.1} ms", elapsed.as_secs_f64() * 1000.0)
    } else {
        format!("{} ms", elapsed.as_millis())
    }
}
