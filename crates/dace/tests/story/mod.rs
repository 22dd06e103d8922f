//! Transcripts of replicas over several epochs: every step is a line, and what each replica does stands under it, with
//! the epoch of the core that does it.

use dace::{ReplicaOutput, Zone};
use types::{Epoch, ReplicaId};

use crate::epochs::{Cluster, of};
use crate::script::line;
use crate::{answered, parse_span, slots, time, value};

/// Whether the transcript is one over epochs.
pub(crate) fn is_of_epochs(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("> cluster "))
}

/// Runs the commands of a transcript and writes what they give under them.
pub(crate) fn replay(text: &str) -> String {
    let mut cluster = None;
    answered(text, |command| run(&mut cluster, command))
}

fn run(cluster: &mut Option<Cluster>, command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let value = |name: &str| value(&words, name);
    let number = |name: &str| value(name).map(|text| text.parse::<u32>().unwrap());
    if words[0] == "cluster" {
        let (n, f, all) = (number("n").unwrap(), number("f").unwrap(), number("all").unwrap());
        let mut fresh = Cluster::new(n, f, all, |core| core.publish_pending());
        fresh.exchange();
        fresh.trace = Some(Vec::new());
        *cluster = Some(fresh);
        return vec![];
    }
    let cluster = cluster.as_mut().expect("a transcript begins with its cluster");
    let replica = |at: usize| words[at].strip_prefix('r').unwrap().parse::<u32>().unwrap();
    let mut lines = Vec::new();
    match words[0] {
        "submit" => {
            let result = cluster.submit(replica(1), &slots(value("slots").unwrap()));
            lines.push(result.map_or_else(|error| format!("error: {error}"), |id| format!("{id}")));
        }
        "reconfigure" => {
            // `reconfigure r1 to=1,2,4`: r1 proposes these members.
            let members: Vec<u32> = value("to").unwrap().split(',').map(|r| r.parse().unwrap()).collect();
            let result = cluster.reconfigure(replica(1), &of(&members));
            lines.push(result.map_or_else(|error| format!("error: {error}"), |id| format!("{id}")));
        }
        "flush" => cluster.flush(replica(1)),
        "notify" => cluster.notify(replica(1), replica(2)),
        "read" => {
            // `read r1 r2 epoch=1`: r2 reads what r1 has said in the epoch.
            let result = cluster.read(replica(1), replica(2), Epoch(number("epoch").unwrap()));
            lines.extend(result.err().map(|error| format!("error: {error}")));
        }
        "give" => lines.extend((!cluster.give()).then(|| "nothing on the way".into())),
        "tick" => cluster.tick(replica(1)),
        "advance" => cluster.advance(parse_span(words[1])),
        "prefer" => cluster.replica(replica(1)).prefer(&[ReplicaId(replica(2))]),
        "store" => cluster.store(replica(1)),
        "install" => lines.extend((!cluster.install(replica(1), replica(2))).then(|| "not wanted".into())),
        "crash" => cluster.crash(replica(1), true),
        "restart" => cluster.start(replica(1)),
        "stop" => {
            cluster.stop_removed();
            lines.extend(cluster.is_up(replica(1)).then(|| "it may not".into()));
        }
        "want" => {
            let now = cluster.node(replica(1)).now;
            cluster.replica(replica(1)).want_lease(now, &zone(value("zone").unwrap()), [9; 32]).unwrap();
            cluster.drain(replica(1));
        }
        "ask" | "leased" => {
            let now = cluster.node(replica(1)).now;
            let slots = slots(value("slots").unwrap());
            let core = cluster.replica(replica(1));
            let read = match value("zone") {
                None => core.handle_read(now, slots).map_err(|error| error.to_string()),
                Some(of) => core.handle_leased_read(now, &zone(of), &slots).map_err(|error| error.to_string()),
            };
            let begun = |(epoch, read)| format!("read {} of epoch {epoch}", read & 0x7fff_ffff);
            lines.push(read.map_or_else(|error| format!("error: {error}"), begun));
            cluster.drain(replica(1));
        }
        "exchange" => {
            cluster.exchange();
            // Only what the state and the epochs see of it.
            let trace = cluster.trace.replace(Vec::new()).unwrap();
            lines.extend(trace.iter().filter(|(_, output)| is_of_state(output)).map(told));
        }
        _ => panic!("unknown command: {command}"),
    }
    let trace = cluster.trace.replace(Vec::new()).unwrap();
    lines.extend(trace.iter().map(told));
    lines
}

fn zone(text: &str) -> Zone {
    Zone(text.as_bytes().to_vec().into())
}

fn is_of_state(output: &ReplicaOutput) -> bool {
    use dace::Output as O;
    match output {
        ReplicaOutput::Core { output, .. } => matches!(
            output,
            O::Execute { .. }
                | O::Cut { .. }
                | O::Void { .. }
                | O::ReadAgain { .. }
                | O::ReadReady { .. }
                | O::WantSnapshot { .. }
        ),
        _ => true,
    }
}

fn told((r, output): &(u32, ReplicaOutput)) -> String {
    match output {
        ReplicaOutput::Core { epoch, output } => format!("r{r}.e{epoch}: {}", line(output)),
        ReplicaOutput::Begin { membership } => {
            let members: Vec<String> = membership.members.iter().map(ToString::to_string).collect();
            let entry = membership.entry.expect("a later epoch");
            let (members, at) = (members.join(","), time(entry.at));
            format!(
                "r{r}: begin epoch {} by {} t={at} members={members} f={}",
                membership.epoch, entry.reconfig, membership.f
            )
        }
        ReplicaOutput::Over { epoch } => format!("r{r}: epoch {epoch} is over"),
        ReplicaOutput::Closed { epoch } => format!("r{r}: close epoch {epoch}"),
        ReplicaOutput::Removed => format!("r{r}: removed"),
    }
}
