//! Transcripts of groups of several replicas: every step is a line, and what each replica does stands
//! under it.

use dace::{Message, Output, Record, Watermark, Zone};
use types::journal::{RecordKind, decode_proposal};
use types::{CommandId, ReplicaId};

use crate::group::{Group, Outputs};
use crate::{answered, list, parse_span, slots, time, value};

/// Whether the transcript is one of a larger group.
pub(crate) fn is_group(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("> group "))
}

/// Runs the commands of a transcript and writes what they give under them.
pub(crate) fn replay(text: &str) -> String {
    let mut group = None;
    answered(text, |command| run(&mut group, command))
}

fn run(group: &mut Option<Group>, command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let value = |name: &str| value(&words, name);
    let number = |name: &str| value(name).map(|text| text.parse::<u64>().unwrap());
    if words[0] == "group" {
        let (n, f) = (number("n").unwrap(), number("f").unwrap());
        let mut fresh = Group::new(u32::try_from(n).unwrap(), u32::try_from(f).unwrap());
        fresh.start_all();
        *group = Some(fresh);
        return vec![];
    }
    let group = group.as_mut().expect("a transcript begins with its group");
    let replica = |at: usize| words[at].strip_prefix('r').unwrap().parse::<u32>().unwrap();
    match words[0] {
        "submit" => {
            let (result, outputs) =
                group.submit(replica(1), &slots(value("slots").unwrap()), value("body").unwrap_or("").as_bytes());
            let mut lines = vec![result.map_or_else(|error| format!("error: {error}"), |id| format!("{id}"))];
            lines.extend(trace(&outputs));
            lines
        }
        "flush" => trace(&group.flush(replica(1), number("to"))),
        "read" => {
            // `read r1 r2`: r2 reads what r1 has said.
            let last = number("to").unwrap_or(u64::MAX);
            answer(group.deliver_up_to(replica(1), replica(2), last))
        }
        "tick" => trace(&group.tick(replica(1))),
        "advance" => {
            group.advance(parse_span(words[1]));
            vec![]
        }
        "wall" => {
            let node = group.node(replica(1));
            match words[2].split_at(1) {
                ("+", ahead) => node.now.wall_ns += parse_span(ahead),
                ("-", back) => node.now.wall_ns -= parse_span(back),
                _ => panic!("wall rN +SPAN or -SPAN: {command}"),
            }
            vec![]
        }
        "give" => group.give().map_or(vec!["nothing on the way".into()], |outputs| trace(&outputs)),
        "lose-message" => {
            let lost = group.messages.pop_front();
            vec![lost.map_or("nothing on the way".into(), |(from, to, message)| {
                format!("r{from} to r{to}: {}", said_to(&message))
            })]
        }
        "ask" => {
            let now = group.node(replica(1)).now;
            let read = group.core(replica(1)).handle_read(now, slots(value("slots").unwrap()));
            let mut lines = vec![read.map_or_else(|error| format!("error: {error}"), |read| format!("read {read}"))];
            lines.extend(trace(&group.drain(replica(1))));
            lines
        }
        "want" => {
            // `want r3 zone=b/`: r3 asks for the lease of a zone, and goes on asking.
            let now = group.node(replica(1)).now;
            let wanted = group.core(replica(1)).want_lease(now, &zone(value("zone").unwrap()), [9; 32]);
            let mut lines = wanted.map_or_else(|error| vec![format!("error: {error}")], |()| vec![]);
            lines.extend(trace(&group.drain(replica(1))));
            lines
        }
        "unwant" => {
            let now = group.node(replica(1)).now;
            group.core(replica(1)).drop_lease(now, &zone(value("zone").unwrap()));
            trace(&group.drain(replica(1)))
        }
        "leased" => {
            // `leased r3 zone=b/ slots=5`: a read under the lease.
            let now = group.node(replica(1)).now;
            let (zone, slots) = (zone(value("zone").unwrap()), slots(value("slots").unwrap()));
            let read = group.core(replica(1)).handle_leased_read(now, &zone, slots);
            let begun = |read| format!("read {}", leased(read));
            let mut lines = vec![read.map_or_else(|error| format!("error: {error}"), begun)];
            lines.extend(trace(&group.drain(replica(1))));
            lines
        }
        "prefer" => {
            let order: Vec<ReplicaId> = words[2].split(',').map(|r| ReplicaId(r[1..].parse().unwrap())).collect();
            group.core(replica(1)).prefer(&order);
            vec![]
        }
        "suspect" => {
            let now = group.node(replica(1)).now;
            let other = ReplicaId(replica(2));
            group.core(replica(1)).suspect(now, other, true);
            trace(&group.drain(replica(1)))
        }
        "crash" => {
            group.crash(replica(1));
            vec![]
        }
        "restart" => {
            let restored = answer(group.restore(replica(1)));
            let mut lines = restored;
            if group.is_up(replica(1)) {
                let unasked = words.contains(&"unasked");
                match if unasked { Ok(()) } else { group.claim(replica(1)) } {
                    Ok(()) if unasked => lines.extend(trace(&group.start_unasked(replica(1)))),
                    Ok(()) => lines.extend(trace(&group.start(replica(1)))),
                    Err(refused) => lines.push(format!("error: {refused}")),
                }
            }
            lines
        }
        "roll-back" => {
            // The disk forgets what it had said to be durable.
            group.node(replica(1)).durable = number("to").unwrap();
            vec![]
        }
        "store" => {
            let cut = group.store(replica(1));
            vec![cut.map_or("nothing to store".into(), |cut| format!("stored at {}", time(cut)))]
        }
        "trim" => {
            let position = group.trim(replica(1));
            vec![position.map_or("nothing to trim".into(), |position| format!("trimmed to {position}"))]
        }
        "install" => trace(&group.install(replica(1), replica(2))),
        "exchange" => {
            let before: Vec<(u32, usize, usize)> =
                group.nodes.iter().map(|(r, node)| (*r, node.executed.len(), node.cuts.len())).collect();
            group.exchange();
            let mut lines = Vec::new();
            for (r, executed, cuts) in before {
                let node = group.node(r);
                for (timestamp, id) in &node.executed[executed.min(node.executed.len())..] {
                    lines.push(format!("r{r}: execute {id} t={}", time(*timestamp)));
                }
                for cut in &node.cuts[cuts.min(node.cuts.len())..] {
                    lines.push(format!("r{r}: cut {}", time(*cut)));
                }
            }
            lines
        }
        "status" => {
            let status = group.core(replica(1)).status();
            vec![format!(
                "appended={} durable={} known={} committed={} in_flight={} cut={}",
                status.appended,
                status.durable,
                status.known,
                status.committed,
                status.in_flight,
                time(status.cut)
            )]
        }
        _ => panic!("unknown command: {command}"),
    }
}

/// Which of an incarnation's leased reads it is.
fn leased(read: u64) -> u64 {
    read & 0x7fff_ffff
}

fn zone(text: &str) -> Zone {
    Zone(text.as_bytes().to_vec().into())
}

fn answer(result: Result<Outputs, String>) -> Vec<String> {
    result.map_or_else(|error| vec![format!("error: {error}")], |outputs| trace(&outputs))
}

fn trace(outputs: &Outputs) -> Vec<String> {
    outputs.iter().map(|(r, output)| format!("r{r}: {}", line(output))).collect()
}

pub(crate) fn line(output: &Output) -> String {
    match output {
        Output::Append(record) => format!("append {}", said(record)),
        Output::Keep(kept) => format!("keep {}", kept.header.id),
        Output::Execute { timestamp, id, .. } => format!("execute {id} t={}", time(*timestamp)),
        Output::Cut { timestamp } => format!("cut {}", time(*timestamp)),
        Output::Send { to, message } => format!("send r{to} {}", said_to(message)),
        Output::ReadReady { read } => format!("ready read {read}"),
        Output::ReadContended { read } => format!("contended read {read}"),
        Output::LeasedReady { read } => format!("ready leased read {}", leased(*read)),
        Output::LeasedContended { read } => format!("contended leased read {}", leased(*read)),
        Output::Pends { id, .. } => format!("pends {id}"),
        Output::Settles { id, .. } => format!("settles {id}"),
        Output::Lease { zone, until } => {
            format!("lease {} until +{}ms", String::from_utf8_lossy(&zone.0), until / 1_000_000)
        }
        Output::WantSnapshot { cut } => format!("want a snapshot at {}", time(*cut)),
        Output::Void { id } => format!("void {id}"),
        Output::Covered { id } => format!("covered {id}"),
        Output::ReadAgain { read } => format!("again read {read}"),
        Output::Ended { entry, .. } => format!("ended by {} t={}", entry.reconfig, time(entry.at)),
    }
}

fn said(record: &Record) -> String {
    let header = &record.header;
    let (position, id, t) = (header.position, header.id, time(header.timestamp));
    let ballot = header.ballot;
    match header.kind {
        RecordKind::Open => format!("{position} open {id} t={t}"),
        RecordKind::Clock => format!("{position} clock ceiling={}", time(types::Timestamp(header.aux))),
        RecordKind::Propose => {
            let (slots, _) = decode_proposal(&record.body).unwrap();
            format!("{position} propose {id} t0={t} q={:b} slots={}", header.aux, list(&slots))
        }
        RecordKind::Ack => format!("{position} ack {id} t={t}"),
        RecordKind::Commit => format!("{position} commit {id} t={t} b={ballot}"),
        RecordKind::Raise => format!("{position} raise {id} t={t}"),
        RecordKind::Prepare => format!("{position} prepare {id} b={ballot}"),
        RecordKind::Report => {
            let state = match header.flags {
                1 => "attached by ack",
                2 => "attached by report",
                3 => "accepted",
                _ => "committed",
            };
            let at = if header.flags == 3 { format!(" at b={}", header.aux) } else { String::new() };
            format!("{position} report {id} b={ballot} {state} t={t}{at}")
        }
        RecordKind::Accept => format!("{position} accept {id} b={ballot} t={t}"),
        RecordKind::Accepted => format!("{position} accepted {id} b={ballot} t={t}"),
        RecordKind::LeaseRequest => {
            format!("{position} request {id} zone={}", String::from_utf8_lossy(&record.body))
        }
        RecordKind::LeaseGrant => {
            format!(
                "{position} grant {id} zone={} for {}ms",
                String::from_utf8_lossy(&record.body),
                header.aux / 1_000_000
            )
        }
        RecordKind::Enter => format!("{position} enter {id} t={t}"),
        RecordKind::Have => format!("{position} have {id} t={t}"),
    }
}

fn said_to(message: &Message) -> String {
    let ids = |ids: &[CommandId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match message {
        Message::Fetch { id } => format!("fetch {id}"),
        Message::Fetched(fetched) => {
            let decision = fetched.decision.map_or("undecided".into(), |t| format!("t={}", time(t)));
            format!("fetched {} {decision}", fetched.id)
        }
        Message::Settled { id, cut } => format!("settled {id} cut={}", time(*cut)),
        Message::Ask { read, slots } => format!("ask read {read} slots={}", list(slots)),
        Message::Answer { read, pending, watermark, .. } => {
            let watermark = match watermark {
                Watermark::Slots(places) => places.iter().map(|(t, _)| time(*t)).collect::<Vec<_>>().join(","),
                Watermark::Cut(cut) => format!("cut {}", time(*cut)),
            };
            format!("answer read {read} pending=[{}] executed={watermark}", ids(pending))
        }
    }
}
