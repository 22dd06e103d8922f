//! The protocol as text: each file of `transcripts/` holds commands and, under them, the trace that they
//! must give. `UPDATE_TRANSCRIPTS=1 cargo test -p dace` rewrites the traces; the reviewer reads the diff.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods)]

mod epochs;
mod group;
mod script;
mod story;
mod world;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dace::{Output, Record};
use types::journal::{RecordKind, decode_proposal};
use types::{Slot, SlotSet, Timestamp};
use world::{WALL_NS, World};

#[test]
fn transcripts_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "the transcripts are gone");
    let update = std::env::var_os("UPDATE_TRANSCRIPTS").is_some();
    let mut wrong = Vec::new();
    for path in paths {
        let expected = fs::read_to_string(&path).unwrap();
        let actual = replay(&expected);
        if actual == expected {
            continue;
        }
        if update {
            fs::write(&path, actual).unwrap();
        } else {
            eprintln!("--- {}: the trace is now\n{actual}", path.display());
            wrong.push(path);
        }
    }
    assert!(wrong.is_empty(), "other traces (UPDATE_TRANSCRIPTS=1 rewrites them): {wrong:?}");
}

/// Runs the commands of a transcript and writes what they give under them.
fn replay(text: &str) -> String {
    if story::is_of_epochs(text) {
        return story::replay(text);
    }
    if script::is_group(text) {
        return script::replay(text);
    }
    let mut world = World::new();
    answered(text, |command| run(&mut world, command))
}

/// A transcript with what `run` gives under each of its commands (lines that begin with `> `); comments (`#`) and empty
/// lines stay.
fn answered(text: &str, mut run: impl FnMut(&str) -> Vec<String>) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(out, "{line}").unwrap();
            for trace in run(command) {
                writeln!(out, "  {trace}").unwrap();
            }
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

/// What `name=` is followed by, of the words of a command.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn run(world: &mut World, command: &str) -> Vec<String> {
    let mut words = command.split_whitespace();
    let verb = words.next().unwrap();
    let words: Vec<&str> = words.collect();
    let value = |name: &str| value(&words, name);
    match verb {
        "start" => world.start().map_or_else(|error| vec![format!("error: {error}")], |outputs| trace(&outputs)),
        "submit" => {
            let (result, outputs) = world.submit(&slots(value("slots").unwrap()), value("body").unwrap().as_bytes());
            let mut lines = vec![result.map_or_else(|error| format!("error: {error}"), |id| format!("{id}"))];
            lines.extend(trace(&outputs));
            lines
        }
        "fill" => fill(world, value("count").unwrap().parse().unwrap(), value("len").unwrap().parse().unwrap()),
        "flush" => {
            let position = value("to").map_or(world.appended(), |to| to.parse().unwrap());
            trace(&world.flush(position))
        }
        "tick" => trace(&world.tick()),
        "deadline" => {
            let deadline = world.core.deadline();
            vec![deadline.map_or("none".into(), |at| format!("in {}", span(at - world.now.mono_ns)))]
        }
        "advance" => {
            let ns = parse_span(words[0]);
            world.now.mono_ns += ns;
            world.now.wall_ns += ns;
            vec![]
        }
        "wall" => {
            world.now.wall_ns = match words[0].split_at(1) {
                ("+", ahead) => world.now.wall_ns + parse_span(ahead),
                ("-", back) => world.now.wall_ns - parse_span(back),
                _ => panic!("wall +SPAN or -SPAN: {command}"),
            };
            vec![]
        }
        "crash" => {
            let cut = value("cut").map_or(Timestamp::ZERO, at);
            world.crash(cut).map_or_else(|error| vec![format!("error: {error}")], |outputs| trace(&outputs))
        }
        "lose" => {
            // The disk forgets what it had said to be durable.
            world.durable = value("after").unwrap().parse().unwrap();
            vec![]
        }
        "trim" => {
            let left = value("left").map_or(0, |left| left.parse().unwrap());
            let position = world.trim(at(value("cut").unwrap()), left);
            vec![position.map_or("nothing to trim".into(), |position| format!("trimmed to {position}"))]
        }
        "status" => status(world),
        _ => panic!("unknown command: {command}"),
    }
}

/// Submits commands until `count` are taken or one is refused.
fn fill(world: &mut World, count: usize, len: usize) -> Vec<String> {
    for done in 0..count {
        let (result, _) = world.submit(&SlotSet::of(vec![Slot(9)]), &vec![0; len]);
        if let Err(error) = result {
            return vec![format!("{done} taken"), format!("error: {error}")];
        }
    }
    vec![format!("{count} taken")]
}

fn status(world: &World) -> Vec<String> {
    let status = world.core.status();
    let executed = status.executed.map_or("none".into(), |(t, id)| format!("{id} at {}", time(t)));
    vec![
        format!(
            "{:?} incarnation={} appended={} durable={}",
            status.phase, status.incarnation, status.appended, status.durable
        ),
        format!("in_flight={} len={} executed={executed}", status.in_flight, status.in_flight_len),
        format!(
            "clock={} promise={} ceiling={} cut={}",
            time(status.clock),
            time(status.promise),
            time(status.ceiling),
            time(status.cut)
        ),
    ]
}

fn trace(outputs: &[Output]) -> Vec<String> {
    outputs.iter().map(line).collect()
}

fn line(output: &Output) -> String {
    match output {
        Output::Append(record) => format!("append {}", said(record)),
        Output::Execute { timestamp, id, body, durable } => {
            let (slots, payload) = decode_proposal(body).unwrap();
            let payload = String::from_utf8_lossy(&body[payload..]);
            format!("execute {id} t={} slots={} body={payload} durable={durable}", time(*timestamp), list(&slots))
        }
        Output::Cut { timestamp } => format!("cut {}", time(*timestamp)),
        other => panic!("a group of one puts out no {other:?}"),
    }
}

fn said(record: &Record) -> String {
    let header = &record.header;
    let (position, id, t) = (header.position, header.id, time(header.timestamp));
    assert_eq!((header.flags, header.ballot), (0, 0));
    match header.kind {
        RecordKind::Open => format!("{position} open {id} t={t}"),
        RecordKind::Clock => format!("{position} clock promise={t} ceiling={}", time(Timestamp(header.aux))),
        RecordKind::Propose => {
            let (slots, _) = decode_proposal(&record.body).unwrap();
            format!("{position} propose {id} t={t} q={:b} slots={} len={}", header.aux, list(&slots), header.body_len)
        }
        RecordKind::Commit => format!("{position} commit {id} t={t}"),
        kind => panic!("a group of one does not say {kind:?}"),
    }
}

fn slots(text: &str) -> SlotSet {
    match text {
        "*" => SlotSet::All,
        listed => SlotSet::of(listed.split(',').map(|slot| Slot(slot.parse().unwrap())).collect()),
    }
}

fn list(slots: &SlotSet) -> String {
    match slots {
        SlotSet::All => "*".into(),
        SlotSet::Some(slots) => slots.iter().map(|slot| slot.0.to_string()).collect::<Vec<_>>().join(","),
    }
}

/// `12ms+3`: 12 ms and 3 ns after the wall clock at which tests begin.
fn time(t: Timestamp) -> String {
    if t == Timestamp::ZERO {
        return "zero".into();
    }
    span(t.0.checked_sub(WALL_NS).expect("nothing is before the beginning"))
}

/// The inverse of [`time`].
fn at(text: &str) -> Timestamp {
    Timestamp(WALL_NS + parse_span(text))
}

fn span(ns: u64) -> String {
    match (ns / 1_000_000, ns % 1_000_000) {
        (ms, 0) => format!("{ms}ms"),
        (ms, rest) => format!("{ms}ms+{rest}"),
    }
}

fn parse_span(text: &str) -> u64 {
    let (ms, rest) = text.split_once("ms").expect("a span such as 12ms or 12ms+3");
    let rest: u64 = rest.strip_prefix('+').map_or(0, |rest| rest.parse().unwrap());
    ms.parse::<u64>().unwrap() * 1_000_000 + rest
}
