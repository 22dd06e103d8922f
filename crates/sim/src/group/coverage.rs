//! What was met in a run, so that a run in which nothing happened does not pass for a proof.

use std::collections::BTreeMap;
use std::fmt;

use dace::Counters;
use types::journal::RecordKind;

use super::plan::Fault;
use super::reconf::Stage;

macro_rules! coverage {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Counters, summed over seeds.
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct Coverage {
            $($(#[$doc])* pub $field: u64,)*
            /// Faults by kind.
            pub(crate) faults: BTreeMap<Fault, u64>,
            /// Processes that were to end at a stage of a change.
            pub(crate) traps: BTreeMap<Stage, u64>,
            /// Faults done to a replica that held a lease, by kind.
            pub(crate) holders: BTreeMap<Fault, u64>,
            /// Records said, by kind.
            pub(crate) records: BTreeMap<RecordKind, u64>,
            /// Submissions that were not taken, by reason.
            pub(crate) submits_refused: BTreeMap<String, u64>,
            /// The core's own counters, by name.
            pub(crate) core: BTreeMap<&'static str, u64>,
        }

        impl Coverage {
            /// Adds what another run met.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
                add(&mut self.faults, &other.faults);
                add(&mut self.traps, &other.traps);
                add(&mut self.holders, &other.holders);
                add(&mut self.records, &other.records);
                add(&mut self.submits_refused, &other.submits_refused);
                add(&mut self.core, &other.core);
            }

            fn plain(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }
        }
    };
}

coverage! {
    /// Runs.
    seeds,
    /// Runs with the distances of real regions.
    earthly,
    /// Simulated time in ns.
    simulated_ns,
    /// Commands that were executed.
    commands,
    /// Asks handed to a replica.
    submits,
    /// Asks answered.
    answers,
    /// Asks given up.
    gave_up,
    /// Listings that found no quiet instant.
    reads_contended,
    /// Listings ordered as a command, and answered where it stands.
    reads_ordered,
    /// Asks repeated under their token.
    retries,
    /// Executions, over all replicas.
    executions,
    /// Cuts, over all replicas.
    cuts,
    /// Records read by peers.
    records_read,
    /// Beats read by peers.
    beats,
    /// Peers that vouched for a life about to start.
    vouches,
    /// Those given when that life had started, or was over.
    vouches_late,
    /// Claims refused since the life that they were made for was read by then.
    claims_overtaken,
    /// Lives that started though fewer vouched for them than could, for long.
    barely_vouched,
    /// Messages handled.
    messages,
    /// Messages lost.
    lost,
    /// Messages that come twice.
    doubled,
    /// Flushes that ended well.
    flushes,
    /// Flushes that failed.
    failed_flushes,
    /// Deadlines of cores met.
    ticks,
    /// Lives begun.
    starts,
    /// Lives that ended.
    crashes,
    /// Journal items lost by crashes.
    items_lost,
    /// Streams opened.
    connections,
    /// Streams that began with a base.
    bases,
    /// Bases that a reader was behind of.
    behind,
    /// Snapshots installed.
    snapshots,
    /// Checkpoints made.
    checkpoints,
    /// Journals trimmed.
    trims,
    /// Writers refused for a rolled-back disk.
    refusals,
    /// Runs that end with a replica that is heard and hears nothing.
    deaf_for_good,
    /// Times that disks were destroyed right after an answer.
    losses_sudden,
    /// Times that they were destroyed when all was well.
    losses_at_end,
    /// Times that with them the only word of a decision was lost.
    losses_of_decision,
    /// Disks destroyed.
    disks_destroyed,
    /// Answered writes found again at every replica that is left, each time that disks were destroyed.
    answers_kept,
    /// Histories of keys searched and found linearizable.
    histories,
    /// Those too large to search.
    histories_skipped,
    /// Runs with leases.
    leased,
    /// Times that a replica began to want a zone.
    leases_wanted,
    /// Times that it gave one up.
    leases_dropped,
    /// Reads that found no lease held, of those that looked for one.
    leases_not_held,
    /// Sieges of holders.
    sieges,
    /// Listings answered under a lease.
    leased_listings,
    /// Listings under a lease that found no quiet instant, or the lease at its end.
    leased_contended,
    /// Reads answered beside the loop.
    looks,
    /// Reads beside the loop that had to go to it.
    looks_in_vain,
    /// Runs in which the group changes.
    reconfigured,
    /// Reconfigs proposed.
    reconfigs_proposed,
    /// Executed ones that added a member.
    reconfigs_add,
    /// That removed one.
    reconfigs_remove,
    /// That replaced one.
    reconfigs_replace,
    /// That changed how many may fail.
    reconfigs_f,
    /// That changed the version alone.
    reconfigs_version,
    /// Reconfigs that were void.
    reconfigs_void,
    /// Commands that came to nothing with their epoch, Reconfigs among them.
    voided,
    /// Those of them that were tried again.
    voided_again,
    /// Reads asked again in the next epoch.
    reads_again,
    /// Epochs entered by who had executed their Reconfig.
    enters_by_execution,
    /// Epochs entered by who had only heard of them.
    enters_by_notice,
    /// Snapshots installed by new members.
    snapshots_to_new,
    /// Times that a replica found that an epoch is over.
    epochs_over,
    /// Members that stopped because nobody needs them.
    members_removed,
    /// Leases that a Reconfig took back.
    leases_cut_off,
    /// Processes that ended in the midst of a change.
    trapped,
}

/// What has to happen somewhere in a set of runs.
const MUST_MEET: &[&str] = &[
    "earthly",
    "reads_contended",
    "reads_ordered",
    "retries",
    "lost",
    "doubled",
    "failed_flushes",
    "items_lost",
    "bases",
    "behind",
    "snapshots",
    "checkpoints",
    "trims",
    "refusals",
    "vouches",
    "vouches_late",
    "claims_overtaken",
    "barely_vouched",
    "deaf_for_good",
    "losses_sudden",
    "losses_at_end",
    "losses_of_decision",
    "answers_kept",
    "histories",
    "leased",
    "leases_wanted",
    "leases_dropped",
    "leases_not_held",
    "sieges",
    "leased_listings",
    "leased_contended",
    "looks",
    "looks_in_vain",
];

/// The same, of what the cores count.
const MUST_MEET_IN_CORE: &[&str] = &[
    "fast",
    "slow",
    "slow_given_up",
    "rule1",
    "rule2",
    "rule3",
    "rule4",
    "duels",
    "raises",
    "held",
    "muted",
    "tails_dropped",
    "fetches",
    "settled_answers",
    "snapshots",
    "covered",
    "grants",
    "grants_refused",
    "activations",
    "activations_waited",
    "withheld",
    "outwaited",
    "leased_reads",
    "leased_reads_waited",
];

/// The same, where the group changes.
const MUST_MEET_OF_RECONFIGS: &[&str] = &[
    "reconfigs_add",
    "reconfigs_remove",
    "reconfigs_replace",
    "reconfigs_f",
    "reconfigs_version",
    "reconfigs_void",
    "voided",
    "voided_again",
    "reads_again",
    "enters_by_execution",
    "enters_by_notice",
    "snapshots_to_new",
    "epochs_over",
    "members_removed",
    "leases_cut_off",
    "trapped",
];

/// Faults that have to hit a replica while it holds a lease.
const MUST_HIT_HOLDERS: &[Fault] = &[Fault::Crash, Fault::Pause, Fault::HalfDeaf, Fault::Drift, Fault::Gone];

fn add<K: Ord + Clone>(sum: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>) {
    for (key, count) in other {
        *sum.entry(key.clone()).or_default() += count;
    }
}

impl Coverage {
    /// Protocol events: a record, beat or message handled, a flush, a submission, an execution.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.records_read + self.beats + self.messages + self.flushes + self.submits + self.executions
    }

    /// What a set of runs should have met and has not: a run in which nothing happens proves nothing. `faults` is the most
    /// that one of the groups survives: with one, every fast quorum proposes alike.
    #[must_use]
    pub fn unmet(&self, faults: usize) -> Vec<String> {
        let plain = self.plain().into_iter().filter(|(name, _)| MUST_MEET.contains(name));
        let is_wanted = |name: &str| self.reconfigured > 0 && (name != "reconfigs_f" || faults > 1);
        let changes =
            self.plain().into_iter().filter(|(name, _)| MUST_MEET_OF_RECONFIGS.contains(name) && is_wanted(name));
        let core = MUST_MEET_IN_CORE.iter().filter(|name| **name != "slow" || faults > 1);
        let core = core.map(|name| (*name, self.core.get(name).copied().unwrap_or(0)));
        let unmet = plain.chain(changes).chain(core).filter(|(_, count)| *count == 0).map(|(name, _)| name.to_owned());
        let kinds = Fault::ALL.iter().filter(|kind| !self.faults.contains_key(kind)).map(|kind| format!("{kind:?}"));
        let spared = MUST_HIT_HOLDERS.iter().filter(|kind| !self.holders.contains_key(kind));
        let stages = Stage::ALL.iter().filter(|stage| self.reconfigured > 0 && !self.traps.contains_key(stage));
        let stages = stages.map(|stage| format!("a crash at {stage:?}"));
        let haves = self.reconfigured > 0 && !self.records.contains_key(&RecordKind::Have);
        let unmet = unmet.chain(stages).chain(haves.then(|| "Have".to_owned()));
        unmet.chain(kinds).chain(spared.map(|kind| format!("{kind:?} of a holder"))).collect()
    }

    /// Takes over the counters of a core at its end.
    pub(crate) fn count(&mut self, counters: &Counters) {
        let [first, second, third, fourth] = counters.rules;
        for (name, count) in [
            ("fast", counters.fast),
            ("slow", counters.slow),
            ("slow_given_up", counters.slow_given_up),
            ("prepares", counters.prepares),
            ("rule1", first),
            ("rule2", second),
            ("rule3", third),
            ("rule4", fourth),
            ("duels", counters.duels),
            ("raises", counters.raises),
            ("held", counters.held),
            ("muted", counters.muted),
            ("tails_dropped", counters.tails_dropped),
            ("fetches", counters.fetches),
            ("settled_answers", counters.settled_answers),
            ("snapshots", counters.snapshots),
            ("covered", counters.covered),
            ("grants", counters.grants),
            ("grants_refused", counters.grants_refused),
            ("activations", counters.activations),
            ("activations_waited", counters.activations_waited),
            ("withheld", counters.withheld),
            ("outwaited", counters.outwaited),
            ("leased_reads", counters.leased_reads),
            ("leased_reads_waited", counters.leased_reads_waited),
        ] {
            *self.core.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |pairs: Vec<String>| pairs.join(", ");
        writeln!(f, "world:   {}", join(self.plain().iter().map(|(name, count)| format!("{name} {count}")).collect()))?;
        writeln!(f, "faults:  {}", join(self.faults.iter().map(|(kind, n)| format!("{kind:?} {n}")).collect()))?;
        writeln!(f, "holders: {}", join(self.holders.iter().map(|(kind, n)| format!("{kind:?} {n}")).collect()))?;
        writeln!(f, "traps:   {}", join(self.traps.iter().map(|(stage, n)| format!("{stage:?} {n}")).collect()))?;
        writeln!(f, "records: {}", join(self.records.iter().map(|(kind, n)| format!("{kind:?} {n}")).collect()))?;
        writeln!(f, "refused: {}", join(self.submits_refused.iter().map(|(why, n)| format!("{why} {n}")).collect()))?;
        write!(f, "core:    {}", join(self.core.iter().map(|(name, n)| format!("{name} {n}")).collect()))
    }
}
