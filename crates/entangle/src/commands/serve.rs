//! `entangle serve`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::ServeArgs;
use crate::cluster::{Links, Record, join_once};
use crate::console::{Console, Report, columns};
use crate::exit::Failure;
use crate::server::{RootKey, Server};
use crate::settings::{Environment, Settings};
use crate::signals::Shutdown;
use crate::{credentials, logs};

pub(super) async fn run(args: &ServeArgs, console: Console, environment: &Environment) -> anyhow::Result<Report> {
    let file = args.config.clone().or_else(|| environment.get("ENTANGLE_CONFIG").map(PathBuf::from));
    let mut settings = Settings::load(args.layer(), environment, file.as_deref())?;
    let given = credentials::from_environment(environment)?;
    logs::start(&settings.log_filter, settings.log_format)?;
    raise_open_files();
    warn_of_measurements(&settings);
    #[cfg(feature = "faults")]
    faults(environment)?;
    let mut shutdown = Shutdown::listen()?;
    let links = tokio::select! {
        links = Box::pin(links(&mut settings)) => links?,
        (name, number) = shutdown.next() => {
            tracing::info!("{name} while joining: ending");
            std::process::exit(128 + number);
        }
    };
    let starting = Box::pin(Server::start(&settings, given, links));
    let (mut server, root_key) = tokio::select! {
        started = starting => started?,
        // Nothing was acknowledged yet, and recovery may take long: end here and now.
        (name, number) = shutdown.next() => {
            tracing::info!("{name} while starting: ending");
            std::process::exit(128 + number);
        }
    };
    announce(console, &settings, &server, &root_key);
    let failure = tokio::select! {
        (name, _) = shutdown.next() => {
            tracing::info!("{name}: draining; a second signal ends at once");
            None
        }
        reason = server.failed() => Some(reason),
    };
    shutdown.exit_on_next();
    let stopped = server.stop().await;
    if let Some(reason) = failure {
        if reason == node::REMOVED {
            stopped?;
            tracing::info!("{reason}");
            return Ok(Report::done(json!({ "removed": true }), reason));
        }
        tracing::error!("the node stopped working: {reason}");
        let advice = "its log says more; start it again once the cause is gone, what was acknowledged is safe";
        return Err(Failure::failed(format!("the node stopped working: {reason}; {advice}")).into());
    }
    stopped?;
    tracing::info!("stopped; everything is durable");
    // All there was to say was said when the node was ready.
    Ok(Report::done(Value::Null, ""))
}

/// Joins a cluster if that was asked for, and opens the links of a node that is of one.
async fn links(settings: &mut Settings) -> anyhow::Result<Option<Links>> {
    if let Some(token) = &settings.join {
        join_once(settings, token).await?;
    }
    if settings.mesh.is_some() && !Record::is_in(&settings.keys) {
        tracing::warn!("an address for the mesh is given, but this node is of no cluster: it is not used");
    }
    if let Some(region) = Record::read(&settings.keys)?.and_then(|record| record.region)
        && !settings.region_given
    {
        settings.region = region;
    }
    Links::open(settings)
}

/// Each connection and each open segment takes a file descriptor; the usual soft limit of 1,024 is soon reached.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!("the limit on open files stays at {:?}: {error}", limit.current);
    }
}

fn warn_of_measurements(settings: &Settings) {
    if settings.bench.without_ledger {
        tracing::warn!(
            "ENTANGLE_BENCH_LEDGER=off: THE LEDGER IS OFF. This is for measurements only: no write has evidence, no \
             receipt can be had, and the data folder never becomes one that has them"
        );
    }
    if !settings.bench.flush_delay.is_zero() {
        tracing::warn!(
            "ENTANGLE_FLUSH_DELAY_MS: every flush is delayed by {:?}, for measurements",
            settings.bench.flush_delay
        );
    }
}

/// Does what tests ask for.
#[cfg(feature = "faults")]
fn faults(environment: &Environment) -> anyhow::Result<()> {
    tracing::warn!(
        "THIS BUILD HAS FAULTS FOR TESTS. It loses data when it is told to: keep nothing in it that matters"
    );
    match environment.get("ENTANGLE_FAULTS") {
        Some(path) => node::faults::follow(path.into())
            .map_err(|error| Failure::usage(format!("ENTANGLE_FAULTS: {error}")).into()),
        None => Ok(()),
    }
}

fn announce(console: Console, settings: &Settings, server: &Server, root_key: &RootKey) {
    let endpoint = endpoint(settings, server.s3);
    let data = absolute(&settings.data);
    let keys = absolute(&settings.keys);
    tracing::info!(%endpoint, data = %data.display(), "ready");
    if console.json {
        let mut document = json!({
            "ok": true,
            "endpoint": endpoint,
            "s3": server.s3.to_string(),
            "admin": server.admin.map(|admin| admin.to_string()),
            "mesh": server.mesh().map(|(listen, _)| listen.to_string()),
            "replica": server.standing().0,
            "member": server.standing().1,
            "data": data.display().to_string(),
            "keys": keys.display().to_string(),
            "access_key": root_key.credentials().map(client::Credentials::access_key),
            "credentials_file": null,
        });
        if let RootKey::Made(_, path) | RootKey::Kept(_, path) = root_key {
            document["credentials_file"] = json!(absolute(path).display().to_string());
        }
        console.line(&document.to_string());
        return;
    }
    if server.standing().1 {
        console.line(&greeting(console, settings, (server.admin, server.mesh()), root_key, &endpoint));
    } else {
        console.line(&waits(console, settings, server, &endpoint));
    }
}

/// What a node says that has joined and is no member yet.
fn waits(console: Console, settings: &Settings, server: &Server, endpoint: &str) -> String {
    let style = console.style;
    let replica = server.standing().0;
    let mesh = server.mesh().map(|(listen, _)| listen.to_string()).unwrap_or_default();
    let rows = [
        ("S3", format!("{endpoint}, once it is a member")),
        ("mesh", mesh),
        ("data", absolute(&settings.data).display().to_string()),
        ("keys", absolute(&settings.keys).display().to_string()),
    ];
    format!(
        "{} It is replica {replica}, and no member of the group yet.\n\n{}\nMake it one, at a node that is:\n\n  \
         entangle cluster add {replica}\n\nLater starts need no token.",
        style.bold("This node has joined its cluster."),
        columns(style, &rows)
    )
}

fn greeting(
    console: Console,
    settings: &Settings,
    (admin, mesh): (Option<SocketAddr>, Option<(SocketAddr, Option<String>)>),
    root_key: &RootKey,
    endpoint: &str,
) -> String {
    let style = console.style;
    let mut rows = vec![("S3", style.bold(endpoint))];
    if let Some(admin) = admin {
        rows.push(("admin", format!("http://{admin}")));
    }
    if let Some((listen, reached)) = mesh {
        let reached = reached.filter(|reached| *reached != listen.to_string());
        rows.push(("mesh", listen.to_string() + &reached.map(|at| format!(", reached at {at}")).unwrap_or_default()));
    }
    rows.push(("data", absolute(&settings.data).display().to_string()));
    rows.push(("keys", absolute(&settings.keys).display().to_string()));
    match root_key {
        RootKey::Made(made, path) => {
            rows.push(("access key", made.access_key().to_owned()));
            if console.terminal {
                rows.push(("secret key", made.secret_key().to_owned()));
            }
            rows.push(("credentials", format!("{} (keep it to yourself)", absolute(path).display())));
        }
        RootKey::Kept(kept, path) => {
            rows.push(("access key", kept.access_key().to_owned()));
            rows.push(("credentials", absolute(path).display().to_string()));
        }
        RootKey::Given(given) => rows.push(("access key", format!("{}, from the environment", given.access_key()))),
        RootKey::Unknown => {}
    }
    let lines = aws_lines(settings, root_key, endpoint);
    let head = format!("{} {} is ready.", style.bold("Entangle"), env!("CARGO_PKG_VERSION"));
    format!("{head}\n\n{}\nTo use it with the AWS CLI:\n\n  {}\n", columns(style, &rows), lines.join("\n  "))
}

/// Three lines to paste. No secret is in them.
fn aws_lines(settings: &Settings, root_key: &RootKey, endpoint: &str) -> [String; 3] {
    let identity = match root_key {
        RootKey::Made(_, path) | RootKey::Kept(_, path) => {
            format!("export AWS_SHARED_CREDENTIALS_FILE={}", quoted(&absolute(path).display().to_string()))
        }
        RootKey::Given(_) => {
            "export AWS_ACCESS_KEY_ID=\"$ENTANGLE_ACCESS_KEY\" AWS_SECRET_ACCESS_KEY=\"$ENTANGLE_SECRET_KEY\""
                .to_owned()
        }
        RootKey::Unknown => "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…".to_owned(),
    };
    [
        identity,
        format!("export AWS_ENDPOINT_URL={endpoint} AWS_REGION={}", settings.region),
        "aws s3 mb s3://first-bucket".to_owned(),
    ]
}

/// For a shell: as it is where that is safe, else in single quotes.
pub(super) fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(harmless) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// How a client on this machine reaches the port: an unspecified address is no destination, and a certificate
/// speaks of a name.
pub(super) fn endpoint(settings: &Settings, listening: SocketAddr) -> String {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let named = settings.tls.is_some() && (listening.ip().is_unspecified() || listening.ip().is_loopback());
    if named {
        let host = settings.domains.first().map_or("localhost", String::as_str);
        return format!("{scheme}://{host}:{}", listening.port());
    }
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, listening.port()))
}

pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use client::Credentials;

    use super::*;
    use crate::console::Style;
    use crate::settings::{Layer, TlsFiles};

    fn settings() -> Settings {
        Settings::load(Layer::new(), &Environment::default(), None).unwrap()
    }

    fn console(terminal: bool) -> Console {
        Console { json: false, terminal, error_terminal: terminal, style: Style::default() }
    }

    #[test]
    fn the_secret_is_shown_on_a_terminal_only() {
        let made = RootKey::Made(Credentials::new("an-access-key", "hush-hush"), PathBuf::from("/k/credentials"));
        for terminal in [false, true] {
            let text = greeting(console(terminal), &settings(), (None, None), &made, "http://127.0.0.1:9000");
            assert_eq!(text.contains("hush-hush"), terminal, "{text}");
            assert!(text.contains("/k/credentials") && text.contains("an-access-key"), "{text}");
            assert!(
                text.contains("\n  export AWS_SHARED_CREDENTIALS_FILE=/k/credentials\n  export AWS_ENDPOINT_URL="),
                "{text}"
            );
        }
        let given = RootKey::Given(Credentials::new("an-access-key", "hush-hush"));
        let text = greeting(console(true), &settings(), (None, None), &given, "http://127.0.0.1:9000");
        assert!(!text.contains("hush-hush"), "{text}");
    }

    #[test]
    fn endpoints_can_be_reached() {
        let mut settings = settings();
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(endpoint(&settings, at("0.0.0.0:9000")), "http://127.0.0.1:9000");
        assert_eq!(endpoint(&settings, at("[::]:9000")), "http://[::1]:9000");
        assert_eq!(endpoint(&settings, at("10.0.0.7:9000")), "http://10.0.0.7:9000");
        settings.tls = Some(TlsFiles { cert: "c".into(), key: "k".into() });
        assert_eq!(endpoint(&settings, at("127.0.0.1:9000")), "https://localhost:9000");
        settings.domains = vec!["s3.example.org".to_owned()];
        assert_eq!(endpoint(&settings, at("0.0.0.0:9000")), "https://s3.example.org:9000");
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }
}
