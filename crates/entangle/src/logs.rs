//! Logs: to standard error, for people on a terminal and JSON otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::exit::Failure;
use crate::settings::Sourced;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// `Human` on a terminal, else `Json`.
    Auto,
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Dependencies that say too much, unless a filter names them: s3s logs every refused request as an error, and
/// signatures at debug; the gateway logs what matters of that.
const QUIET: [(&str, &str); 3] = [("s3s", "s3s=off"), ("fjall", "fjall=warn"), ("lsm_tree", "lsm_tree=warn")];

/// Starts logging, once per process. Panics are logged too, without a backtrace.
pub(crate) fn start(filter: &Sourced, format: Format) -> Result<(), Failure> {
    let parsed = EnvFilter::builder().parse(&filter.text).map_err(|error| {
        let (origin, text) = (&filter.origin, &filter.text);
        Failure::usage(format!("{origin}: {text:?} is no log filter ({error}); write it as info or info,gateway=debug"))
    })?;
    let parsed = QUIET.iter().filter(|(name, _)| !filter.text.contains(name)).fold(parsed, |parsed, (_, directive)| {
        // The directives are constant and valid; without one, logs would only be longer.
        match directive.parse() {
            Ok(directive) => parsed.add_directive(directive),
            Err(_) => parsed,
        }
    });
    let terminal = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    let human = match format {
        Format::Auto => terminal,
        Format::Human => true,
        Format::Json => false,
    };
    let started = if human {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        subscriber.with_ansi(colour).with_target(false).try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
    started.map_err(|error| Failure::failed(format!("logging could not be started: {error}")))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        tracing::error!(place, "a thread panicked, which is a fault in Entangle; please report it: {message}");
    }));
    Ok(())
}
