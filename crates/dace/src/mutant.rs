//! Rules that a simulation can take out, to see that its checks notice (`consensus-model.md`). Without the
//! feature `mutants` every rule holds and this costs nothing.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A rule taken out.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name on a command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

mutants! {
    /// Section 2: a reader acts on a `Propose` above its writer's durable position.
    UndurablePropose = "undurable_propose",
    /// Section 2: acks are counted before they are durable.
    UndurableAck = "undurable_ack",
    /// Section 2: reports are counted before they are durable.
    UndurableReport = "undurable_report",
    /// Section 2: `Accepted` is counted before it is durable.
    UndurableAccepted = "undurable_accepted",
    /// Section 2: raises count before they are durable.
    UndurableRaise = "undurable_raise",
    /// Section 2: a promise does not count the undurable attaches before it as blocking.
    PromiseIgnoresTail = "promise_ignores_tail",
    /// Section 2: a shorter journal than what was counted durable is taken for a restart.
    RolledBackAccepted = "rolled_back_accepted",
    /// Section 2: a replica that restarts speaks before anybody has vouched for its journal.
    StartsUnvouched = "starts_unvouched",
    /// Section 3: the fast quorum is one too small.
    SmallFastQuorum = "small_fast_quorum",
    /// Section 3: attaches at the floor, not above it.
    AttachAtFloor = "attach_at_floor",
    /// Section 3: the fast path is taken without `f` equal proposals.
    UnequalFastPath = "unequal_fast_path",
    /// Section 3: any replica decides on acks that it overhears.
    OverheardAcks = "overheard_acks",
    /// Section 3: the coordinator decides on acks after joining a higher ballot.
    DecidesAfterJoining = "decides_after_joining",
    /// Section 3: a ballot-0 `Commit` shows before it is durable.
    UndurableCommit = "undurable_commit",
    /// Section 3: the value of the n-f slow path shows before its `Accept` is durable.
    UndurableAccept = "undurable_accept",
    /// Section 3: acks ballot 0 after having joined another one.
    AckAfterReport = "ack_after_report",
    /// Section 4: stability of one journal too few.
    SmallMajority = "small_majority",
    /// Section 4: executes without waiting for what is attached below.
    ExecutesOverAttached = "executes_over_attached",
    /// Section 4: a client is answered when its command is decided, not when it is executed.
    AnswersBeforeExecution = "answers_before_execution",
    /// Section 5: recovery from one report too few.
    SmallRecovery = "small_recovery",
    /// Section 5: an accept quorum of `f`.
    SmallAcceptQuorum = "small_accept_quorum",
    /// Section 5, rule 1: the coordinator reports "attached" after it decided.
    ReportsAttachedAfterCommit = "reports_attached_after_commit",
    /// Section 5, rule 2: accepted values are not reported.
    ReportHidesAccepted = "report_hides_accepted",
    /// Section 5, rule 2: takes the value of the lowest ballot.
    LowestBallot = "lowest_ballot",
    /// Section 5, rule 3: taken out.
    NoRule3 = "no_rule3",
    /// Section 5, rule 3: without its half about the coordinator.
    NoRule3Coordinator = "no_rule3_coordinator",
    /// Section 5, rule 3: without its half about reports.
    NoRule3Report = "no_rule3_report",
    /// Section 5, rule 4: the maximum over all reports, not those of `Q`.
    Rule4OverAll = "rule4_over_all",
    /// Section 5: only who has attached a command may recover it.
    RecoversOnlyAttached = "recovers_only_attached",
    /// Section 2: an unknown command is never fetched.
    NoFetch = "no_fetch",
    /// Section 6: a lease of too few grants.
    SmallLease = "small_lease",
    /// Section 6: the grantor's rule does not bind acks.
    NoGrantorAck = "no_grantor_ack",
    /// Section 6: the grantor's rule does not bind `Accepted`.
    NoGrantorAccept = "no_grantor_accept",
    /// Section 6: a grant counts before its holder has attached what its grantor had.
    NoActivation = "no_activation",
    /// Section 6: a leased read does not wait for pending writes.
    LeasedReadNoWait = "leased_read_no_wait",
    /// Section 6: a grant counts from when it was read, not from when it was asked for.
    LeaseFromReceipt = "lease_from_receipt",
    /// Section 6: clocks are taken to run at the same rate.
    DriftIgnored = "drift_ignored",
    /// Section 6: a restart forgets the grants given.
    GrantsForgotten = "grants_forgotten",
    /// Section 6: the grants of an earlier life bind acks alone, neither proposals nor `Accepted`.
    RestartBindsAcksOnly = "restart_binds_acks_only",
    /// Section 6: a grant to an earlier incarnation counts.
    GrantOfAnyIncarnation = "grant_of_any_incarnation",
    /// Section 3: a fast quorum leaves out those to whom an own grant runs.
    QuorumIgnoresGrants = "quorum_ignores_grants",
    /// Section 6: grants to a holder on whose account something is held back.
    RenewsWhileHeldUp = "renews_while_held_up",
    /// Section 6: a quorum read of too few replies.
    SmallReadQuorum = "small_read_quorum",
    /// Section 6: a quorum read waits for a fixed set of replies.
    FixedReadQuorum = "fixed_read_quorum",
    /// Section 6: replies name no executed watermark.
    ReadWithoutWatermark = "read_without_watermark",
    /// Section 10: a read of several slots takes any instant.
    TornListing = "torn_listing",
    /// Section 7: a restart does not begin above the clock ceiling.
    RestartBelowCeiling = "restart_below_ceiling",
    /// Section 7: trimming forgets the ballots joined (an id below the watermark is voted on again).
    VotesBelowWatermark = "votes_below_watermark",
    /// Section 7: a snapshot drops the commands that this replica attached.
    SnapshotDropsAttached = "snapshot_drops_attached",
    /// Section 9: a cut does not wait for what is attached below it.
    EarlyCut = "early_cut",
    /// Section 8: commands of the old epoch are executed behind the Reconfig.
    NothingVoid = "nothing_void",
    /// Section 8: the attaches of void commands hold up the next epoch.
    VoidBlocks = "void_blocks",
    /// Section 8: who has attached a Reconfig votes on nothing else of the epoch.
    SealedRefuses = "sealed_refuses",
    /// Section 8: two Reconfigs that are decided make two epochs of one number.
    EntersOnDecided = "enters_on_decided",
    /// Section 8: a member of the next epoch begins without floors at the Reconfig.
    EnterWithoutFloors = "enter_without_floors",
    /// Section 8: commands are executed before the state at the Reconfig is there.
    ExecutesBeforeState = "executes_before_state",
    /// Section 8: leased reads after a Reconfig was attached.
    LeasedReadAfterSeal = "leased_read_after_seal",
    /// Section 8: a lease is good after its epoch has ended.
    LeaseOutlivesEpoch = "lease_outlives_epoch",
    /// Section 8: a Reconfig is not a write of every key.
    ReconfigInNoZone = "reconfig_in_no_zone",
    /// Section 8: an old member stops when it has executed the Reconfig.
    StopsOnExecution = "stops_on_execution",
    /// Section 8: an old member stops when enough of the new ones have entered.
    StopsOnEnter = "stops_on_enter",
    /// Section 8: `Have` is said before the state is durable.
    HaveNotDurable = "have_not_durable",
    /// Section 8: no cut is forced at the Reconfig.
    CutNotForced = "cut_not_forced",
    /// A bucket command takes one slot only.
    StarInOneSlot = "star_in_one_slot",
}

impl Mutant {
    /// Those that take out a rule of leases: nothing shows where nobody wants one.
    pub const OF_LEASES: &'static [Self] = &[
        Self::SmallLease,
        Self::NoGrantorAck,
        Self::NoGrantorAccept,
        Self::NoActivation,
        Self::LeasedReadNoWait,
        Self::LeaseFromReceipt,
        Self::DriftIgnored,
        Self::GrantsForgotten,
        Self::RestartBindsAcksOnly,
        Self::GrantOfAnyIncarnation,
        Self::QuorumIgnoresGrants,
        Self::RenewsWhileHeldUp,
    ];

    /// Those that take out a rule of reconfiguration: nothing shows where the epoch does not change.
    pub const OF_RECONFIG: &'static [Self] = &[
        Self::NothingVoid,
        Self::VoidBlocks,
        Self::SealedRefuses,
        Self::EntersOnDecided,
        Self::EnterWithoutFloors,
        Self::ExecutesBeforeState,
        Self::LeasedReadAfterSeal,
        Self::LeaseOutlivesEpoch,
        Self::ReconfigInNoZone,
        Self::StopsOnExecution,
        Self::StopsOnEnter,
        Self::HaveNotDurable,
        Self::CutNotForced,
    ];
}

impl core::fmt::Display for Mutant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::str::FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|mutant| mutant.name() == text);
        found.copied().ok_or_else(|| format!("no mutant is called {text}"))
    }
}
