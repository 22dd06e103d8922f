//! Every bound has a name here. A full queue pushes back; it never grows.

/// Slots of a group; fixed for its life (`consensus.md`, section 1).
pub const SLOTS: u16 = 4096;

/// Bodies up to this many bytes travel inside their command; larger ones go to the vaults first.
pub const INLINE_BODY_LEN_MAX: usize = 128 * 1024;
/// Length in bytes of every vault chunk of a body but the last.
pub const CHUNK_LEN: usize = 4 * 1024 * 1024;
/// Largest object of a single PUT, in bytes (AWS: 5 GiB).
pub const PUT_LEN_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Smallest part of a multipart upload but the last, in bytes (AWS: 5 MiB).
pub const PART_LEN_MIN: u64 = 5 * 1024 * 1024;
/// Parts of one upload (AWS).
pub const PARTS_MAX: u16 = 10_000;
/// Key length in bytes of UTF-8 (AWS).
pub const KEY_LEN_MAX: usize = 1024;
/// Total bytes of user metadata, names and values (AWS: 2 KiB).
pub const USER_METADATA_LEN_MAX: usize = 2048;
/// Bytes of all system headers kept with an object.
pub const SYSTEM_METADATA_LEN_MAX: usize = 8 * 1024;
/// Keys of one `DeleteObjects` request (AWS).
pub const DELETE_ITEMS_MAX: usize = 1000;
/// Keys of one page of a listing (AWS).
pub const LIST_PAGE_MAX: usize = 1000;
/// Buckets of a cluster.
pub const BUCKETS_MAX: usize = 10_000;
/// Access keys of a cluster.
pub const ACCESS_KEYS_MAX: usize = 10_000;
/// Bytes of an encoded command, its inline body included. The largest are multi-deletes of 1,000 long
/// keys and completions of 10,000 parts.
pub const COMMAND_LEN_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a bucket name (AWS).
pub const BUCKET_NAME_LEN_MAX: usize = 63;
/// Bytes of an access key id.
pub const ACCESS_KEY_LEN_MAX: usize = 128;
/// Bytes of a sealed secret.
pub const SEALED_LEN_MAX: usize = 1024;
/// Bytes of other short texts: a region, an origin, a member's name, the note beside an access key.
pub const TEXT_LEN_MAX: usize = 255;
/// Bytes of rows or entries of a snapshot in one answer, about.
pub const SNAPSHOT_PIECE_LEN_MAX: usize = 1 << 20;
/// Bytes of rows that are compared by one hash where a state is brought up to date, about.
pub const SNAPSHOT_SPAN_LEN: usize = 64 << 10;
/// Members of a group.
pub const MEMBERS_MAX: usize = 32;
/// Nodes in the directory of a cluster, those that have left among them.
pub const NODES_MAX: usize = 10_000;
/// Bytes of an epoch in the state.
pub const EPOCH_LEN_MAX: usize = 4096;
/// Entity tags in one condition.
pub const ETAGS_MAX: usize = 64;
/// Bytes of an entity tag.
pub const ETAG_LEN_MAX: usize = 128;
/// Rows that one command may change: once it has changed that many, the rest of its items are refused.
pub const COMMAND_ROWS_MAX: usize = 100_000;
/// Rows that one page of a listing may visit; a page that reaches it ends early, with a marker to go on from.
pub const LIST_VISITS_MAX: usize = 100_000;

/// Outcomes kept per key for retries (`s3.md`).
pub const RETRY_WINDOW_ITEMS: usize = 16;
/// Bytes of a key's retry window: where large outcomes (of multi-deletes) exceed it, fewer are kept.
pub const RETRY_WINDOW_LEN_MAX: usize = 256 * 1024;
/// How long an outcome is kept for retries, in ns of consensus time: 15 minutes.
pub const RETRY_WINDOW_NS: u64 = 15 * 60 * 1_000_000_000;
/// Bytes of a request id that a client may choose.
pub const REQUEST_ID_LEN_MAX: usize = 128;
/// A command whose body was placed longer ago than this (ns) is refused at execution: 1 hour.
pub const PLACEMENT_AGE_NS_MAX: u64 = 60 * 60 * 1_000_000_000;
/// A body that nothing refers to is collected this long (ns) after its placement: 2 hours.
pub const COLLECT_AFTER_NS: u64 = 2 * 60 * 60 * 1_000_000_000;

/// Commands that wait for the core's loop; one more answers `SlowDown`.
pub const SUBMIT_QUEUE_MAX: usize = 4096;
/// Commands proposed and not yet executed; the loop takes no more until some are.
pub const IN_FLIGHT_MAX: usize = 4096;
/// Bytes of commands proposed and not yet executed.
pub const IN_FLIGHT_LEN_MAX: usize = 64 * 1024 * 1024;
/// Records of one journal batch.
pub const BATCH_RECORDS_MAX: usize = 8192;
/// Bytes of one journal batch, bodies included.
pub const BATCH_LEN_MAX: usize = 16 * 1024 * 1024;
/// How long (ns) a flush of the journal that could begin waits for more records, at most: 10 ms.
pub const FLUSH_GATHER_NS_MAX: u64 = 10_000_000;
/// Bytes of a journal segment.
pub const SEGMENT_LEN: u64 = 64 * 1024 * 1024;
/// Bytes of executed but unsealed changes held in memory; above it submissions wait.
pub const OVERLAY_LEN_MAX: usize = 256 * 1024 * 1024;
/// Executed commands that are not yet in the ledger.
pub const UNSEALED_MAX: usize = 65_536;
/// Bodies that stream through the gateway at once; one more answers `SlowDown`.
pub const BODIES_MAX: usize = 256;
/// Chunks of one body on their way to the disk at once.
pub const BODY_CHUNKS_IN_FLIGHT_MAX: usize = 4;
/// Chunks of all bodies on their way to the disk at once, beside the one that each body may always have.
pub const CHUNKS_AHEAD_MAX: usize = 16;
/// Bytes of a zone: a bucket, a separator and a prefix of a key.
pub const ZONE_LEN_MAX: usize = 63 + 1 + 1024;
/// Zones of which something may be said at once.
pub const ZONES_MAX: usize = 256;
/// Zones that a replica wants to hold leases of.
pub const LEASES_MAX: usize = 1024;
/// Grants of a replica that run, to all holders; requests beyond are not answered.
pub const GRANTS_MAX: usize = 65_536;
/// Free bytes below which writes are refused, so that deleting and trimming still can.
pub const RESERVE_LEN: u64 = 256 * 1024 * 1024;

/// Timestamps further ahead of the own clock than this (ns) are held (`consensus.md`, section 3): 500 ms.
pub const CLOCK_AHEAD_NS_MAX: u64 = 500_000_000;
/// A proposal begins at most this far ahead of its coordinator's clock (ns): 250 ms, the longest way between two regions,
/// and with room for clocks that differ below [`CLOCK_AHEAD_NS_MAX`].
pub const AHEAD_NS_MAX: u64 = 250_000_000;
/// A clock reading of another replica counts for this long (ns) after it came: 5 s.
pub const READING_FRESH_NS: u64 = 5_000_000_000;
/// Commands that a replica of a larger group keeps until their votes may be forgotten, its own and those of
/// others; above it, it takes no submissions.
pub const KNOWN_MAX: usize = 65_536;
/// Quorum reads under way at one replica.
pub const READS_MAX: usize = 65_536;
/// How far ahead of the clock a durable clock ceiling is set, in ns: 2 s.
pub const CLOCK_CEILING_NS: u64 = 2_000_000_000;

/// Bytes of a frame that one replica sends to another: a record of the largest command, and room for others beside it.
pub const PEER_FRAME_LEN_MAX: usize = 8 * 1024 * 1024;
/// Bytes of records in one frame, but for a single record that is longer.
pub const PEER_PIECE_LEN_MAX: usize = 1024 * 1024;
/// Bytes of records kept in memory for peers that read along; one that is further behind is fed from the disk.
pub const PEER_TAIL_LEN_MAX: usize = 32 * 1024 * 1024;
/// Frames of one peer that wait for the core's loop; then that peer's link is not read from.
pub const PEER_FRAMES_MAX: usize = 64;

/// Bytes of a side record.
pub const SIDE_LEN_MAX: usize = 16 * 1024;
/// Bytes of a receipt, either level, in binary form.
pub const RECEIPT_LEN_MAX: usize = 64 * 1024;
/// Bytes of a checkpoint note.
pub const NOTE_LEN_MAX: usize = 16 * 1024;

/// Bytes of an urgent message between replicas.
pub const MESH_URGENT_LEN_MAX: usize = 64 * 1024;
/// Urgent messages to one replica that wait to be sent; one more drops the oldest.
pub const MESH_URGENT_QUEUE_MAX: usize = 1024;
/// Bytes of urgent messages to one replica that wait to be sent; more drop the oldest.
pub const MESH_URGENT_QUEUE_LEN_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one frame of a journal stream: a batch, and room for what its owner puts around it.
pub const MESH_JOURNAL_FRAME_LEN_MAX: usize = BATCH_LEN_MAX + 1024 * 1024;
/// Bytes of journal frames to one replica that wait to be sent, beside one frame that may always wait; a full queue makes
/// the sender wait.
pub const MESH_JOURNAL_QUEUE_LEN_MAX: usize = 4 * 1024 * 1024;
/// Journal frames to one replica that wait to be sent.
pub const MESH_JOURNAL_QUEUE_MAX: usize = 256;
/// Bytes of a request to another replica.
pub const MESH_REQUEST_LEN_MAX: usize = 64 * 1024;
/// Bytes of one frame of an answer; an answer has as many as it wants.
pub const MESH_ANSWER_FRAME_LEN_MAX: usize = 256 * 1024;
/// Requests that one replica has open at another; one more waits.
pub const MESH_REQUESTS_MAX: u32 = 16;
/// Writes that one replica has others coordinate at once: fewer than requests, which chunks and states want, too.
pub const FORWARDS_MAX: usize = 12;
/// Bytes of one stream that were sent and not yet read at the other end.
pub const MESH_STREAM_WINDOW_LEN: u32 = 4 * 1024 * 1024;
/// Bytes received from one replica that the user of the mesh has in hand, per class (urgent, journal), beside one message
/// that it may always have; above it nothing more is read from the wire.
pub const MESH_RECEIVED_LEN_MAX: usize = 4 * 1024 * 1024;
/// Messages received from one replica that the user of the mesh has in hand, per class.
pub const MESH_RECEIVED_MAX: usize = 1024;
/// Events of all replicas that wait for the user of the mesh.
pub const MESH_EVENTS_MAX: usize = 8192;
/// Connections from strangers whose handshake is under way; one more is not answered.
pub const MESH_HANDSHAKES_MAX: usize = 64;
/// Handshakes with strangers under way above which an address must first prove that it receives.
pub const MESH_HANDSHAKES_FREE: usize = 8;
/// Handshakes under way with addresses at which a peer is expected: room that strangers cannot take.
pub const MESH_PEER_HANDSHAKES_MAX: usize = 2 * MEMBERS_MAX;
/// First packets of connections that wait to be looked at.
pub const MESH_INCOMING_MAX: usize = 256;
/// Bytes kept of one connection before it is looked at.
pub const MESH_INCOMING_LEN_MAX: u64 = 16 * 1024;
/// Bytes kept of all connections before they are looked at.
pub const MESH_INCOMING_TOTAL_LEN_MAX: u64 = 1024 * 1024;
/// Bytes of what a newcomer and its cluster tell each other at the join.
pub const MESH_WELCOME_LEN_MAX: usize = 16 * 1024;
/// Addresses of one replica, and of one join token.
pub const MESH_ADDRESSES_MAX: usize = 8;
/// Bytes of a certificate of the mesh.
pub const MESH_CERTIFICATE_LEN_MAX: usize = 4 * 1024;
/// Bytes of the reason that a connection is closed with.
pub const MESH_REASON_LEN_MAX: usize = 512;
/// Probes sent whose echo has not come; one more forgets the oldest.
pub const MESH_PROBES_MAX: usize = 256;
/// Measurements of delay, and of intervals between probes, that one link remembers.
pub const MESH_SAMPLES_MAX: usize = 512;
/// Datagrams on their way through one direction of an emulated link; one more is lost.
pub const MESH_EMULATED_MAX: usize = 65_536;
