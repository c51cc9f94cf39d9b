// Every bound of the system, with unit and reason. A bound that has no reason does not belong here.

const KiB = 1024;
const MiB = 1024 * KiB;

/** Arena chunk, bytes. Large enough that records rarely straddle, small enough that an idle timeline costs little. */
export const ARENA_CHUNK_BYTES = 1 * MiB;

/** An open layer is frozen at this many bytes of memory. While one is sealed by another thread the next one fills: the larger, the longer both wait for each other at the end; the smaller, the more files. */
export const OPEN_LAYER_BYTES_MAX = 64 * MiB;
/** All open and frozen layers together, bytes. At the budget sockets are not read. */
export const OPEN_LAYERS_BUDGET_BYTES = 320 * MiB;
/** Memory of sealed layers that is kept for new ones, bytes: all there ever was, because the garbage collector does not count memory that threads share. */
export const OPEN_LAYERS_IDLE_BYTES_MAX = OPEN_LAYERS_BUDGET_BYTES;
/** Layers that wait for the thread that seals, of all timelines. Beyond it a timeline seals in turns of its own. */
export const SEALS_WAITING_MAX = 64;
/** The thread that seals ends within this time when it is asked to, ms; it has nothing to do then. */
export const THREAD_STOP_MS_MAX = 5_000;
/** An open layer with changes is frozen at this age, ms, so that a restart has little WAL to replay. */
export const OPEN_LAYER_AGE_MS_MAX = 10 * 60_000;
/** A timeline without new WAL for this long, ms, is sealed early. */
export const OPEN_LAYER_IDLE_MS_MAX = 60_000;

/** Bytes of one run (versions of one key stored as one LMDB value) before a new run begins: with LMDB's 24-byte page header exactly two of its 4 KiB pages. A read should not drag in history it does not need. */
export const RUN_BYTES_MAX = 8 * KiB - 24;
/** LMDB entries appended in one turn of sealing. One turn is a few ms, so page reads wait little. */
export const SEAL_RUNS_PER_TURN = 1_000;
/** A run that was compared with its checksum is not compared again for this long, ms: half of a page read's time. A disk that goes bad is noticed as much later. */
export const RUN_TRUST_MS = 60_000;
/** Sealed layer files kept open, across all timelines. Each costs 3 file descriptors and 184 KiB. */
export const OPEN_FILES_MAX = 256;

/** A WAL record longer than this is corrupt: PostgreSQL's XLogRecordMaxSize (1020 MiB) is what it writes at most; we insist on memory we can afford. */
export const WAL_RECORD_BYTES_MAX = 1020 * MiB;

/** Readers parked on one timeline. Past this a compute is better told to retry than left to pile up. */
export const LSN_WAITERS_MAX = 4_096;
/** How long a page read may wait for WAL, ms. Neon's wait_lsn_timeout is 300 s; a compute gives up sooner. */
export const WAIT_LSN_MS_MAX = 60_000;

/** How often a request of the management API that waits for LSNs looks whether they have come, ms. */
export const WAIT_LSN_POLL_MS = 20;

/** Requests of one connection that are being answered; beyond it the socket is not read. */
export const REQUESTS_IN_FLIGHT_MAX = 1_024;
/** Requests of one tenant that are being answered; beyond it its sockets are not read. 64 MiB of pages. */
export const TENANT_REQUESTS_MAX = 8_192;
/** Requests of one tenant at work at a time while others ask too: enough to keep redo processes busy, little for others to stand behind. */
export const TENANT_SHARE_REQUESTS = 32;
/** Of these, requests that are read and answered in one turn, about 0.1 ms: pages that fit a slab of 64 KiB. */
export const TENANT_BATCH_REQUESTS = 7;
/** Requests of one tenant that wait their turn while others ask too; beyond it its sockets are not read. */
export const TENANT_QUEUE_REQUESTS = 256;
/** A tenant that has asked within this time, ms, is one that others share with. */
export const TENANT_ACTIVE_MS = 1_000;
/** Requests that began this long ago, ms, wait for WAL, not for a processor: they hold nobody back. */
export const TENANT_WORK_MS = 50;
/** Links that have not logged in; beyond it the oldest of them is cut. A login takes milliseconds; what takes longer in such numbers is no login. */
export const LOGINS_MAX = 500;
/** Connections to the management API at once. */
export const HTTP_CONNECTIONS_MAX = 1_000;
/** Bytes of answers a slow reader may leave unread before its socket is not read, bytes. */
export const UNSENT_BYTES_MAX = 4 * MiB;
/** The same two of one connection while several tenants ask. What a socket takes again is written in one turn. */
export const SHARED_LINK_REQUESTS_MAX = 32;
export const SHARED_LINK_UNSENT_BYTES_MAX = 256 * KiB;
/** A startup packet longer than this is not one: PostgreSQL's MAX_STARTUP_PACKET_LENGTH, bytes. */
export const STARTUP_PACKET_BYTES_MAX = 10_000;
/** A frontend message longer than this is refused, bytes. Our longest command is far shorter. */
export const FRONTEND_MESSAGE_BYTES_MAX = 64 * KiB;
/** A backend message (WAL, base backup) longer than this is refused, bytes. walsender sends at most 128 KiB. */
export const BACKEND_MESSAGE_BYTES_MAX = 64 * MiB;

/** WAL redo processes. One per core that page reads may use. */
export const REDO_PROCESSES = 2;
/** One page's redo may take this long, ms, before its process is taken for stuck. */
export const REDO_DEADLINE_MS = 60_000;
/** Requests that wait for a redo process; beyond it reads are refused. */
export const REDO_QUEUE_MAX = 65_536;
/** Bytes written to a redo process ahead of its answers. Keeps both sides' pipes moving. */
export const REDO_WINDOW_BYTES = 1 * MiB;

/** Pages kept in memory after redo or decompression made them, bytes, for all timelines. Allocated as it is needed. */
export const PAGE_CACHE_BYTES_MAX = 256 * MiB;
/** Places of the page cache that are looked at for one that was not used lately, for a page that wants one. With more, hardly another page is chosen. */
export const PAGE_CACHE_LOOKS_MAX = 8;
/** Of pages that need no redo, a full page cache takes in one of so many: a scan of what does not fit copies little, and what is read again and again is in after as many reads. */
export const PAGE_CACHE_ADMIT_ONE_IN = 4;

/** Record boundaries are kept per this many bytes of WAL. */
export const BOUNDARY_WINDOW_BYTES = 64 * KiB;
/** At most one commit-time sample per this many microseconds. */
export const COMMIT_TIME_SAMPLE_US = 10_000;

/** WAL handed to a timeline that it has not taken in yet, bytes; beyond it the socket is not read. A few socket reads: enough to keep the timeline busy. */
export const WAL_IN_FLIGHT_BYTES = 8 * MiB;
/** WAL messages that queue up are joined until they hold this many bytes: many small commits travel as one message, large chunks are not copied. */
export const WAL_JOIN_BYTES = 64 * KiB;
/** The ends of a source's WAL that are not reached are remembered this far apart, ms, and so many of them: lag in seconds. */
export const LAG_SAMPLE_MS = 250;
export const LAG_SAMPLES_MAX = 128;
/** Our positions are reported at least this often, ms (PostgreSQL's wal_receiver_status_interval). */
export const WAL_STATUS_MS = 10_000;
/** A WAL source that says nothing for this long, ms, is given up (PostgreSQL's wal_receiver_timeout); asked for a reply at half of it. */
export const WAL_SILENCE_MS_MAX = 60_000;
/** A source that is stopping asks for replies within milliseconds of each other; one that is idle, twice in its wal_sender_timeout, which is 60 s as a rule. */
export const WAL_PRESSED_APART_MS_MAX = 300;
/** It is given this long, ms, to wait for the upload of its last WAL: a few turns of a backup. */
export const WAL_STOP_WAIT_MS_MAX = 10_000;
/** A timeline that takes in nothing of what it was handed for this long, ms, has lost it (a restart): stream again. */
export const WAL_UNTAKEN_MS_MAX = 60_000;
/** A timeline may take this long, ms, to say where streaming starts: it may be replaying its WAL files. */
export const WAL_ATTACH_MS_MAX = 60_000;
/** Wait before the first and at most before any later attempt to reach a WAL source again, ms. Short, because synchronous commits wait meanwhile. */
export const WAL_RETRY_MS_MIN = 200;
export const WAL_RETRY_MS_MAX = 10_000;
/** Connecting to a PostgreSQL, TLS and login included, ms. */
export const REPLICATION_CONNECT_MS_MAX = 15_000;
/** A replication command's answer, ms. Creating a slot may wait for a checkpoint's lock. */
export const REPLICATION_COMMAND_MS_MAX = 60_000;
/** Messages of a base backup read ahead of their consumer, bytes; beyond it the socket is not read. */
export const REPLICATION_QUEUE_BYTES = 1 * MiB;
/** A base backup may be silent this long, ms: the server finishes a checkpoint and adds up file sizes first. */
export const BASE_BACKUP_SILENCE_MS_MAX = 30 * 60_000;
/** A data directory's lock is waited for this long, ms: its last holder may just have been killed. */
export const DATA_LOCK_MS_MAX = 2_000;

/** Compute links at once. Each costs a socket and some KiB; a compute has one for each backend that reads. */
export const CONNECTIONS_MAX = 4_000;
/** Default of those of one tenant: half, so that none alone keeps the others out. */
export const TENANT_CONNECTIONS_MAX = CONNECTIONS_MAX / 2;
/** Bytes of answers that one message to a timeline asks for; a socket read that wants more is sent as several. */
export const BATCH_SLAB_BYTES_MAX = 1 * MiB;
/** Slabs kept for reuse, bytes, all connections together. Enough for 32 links in full flow. */
export const SLAB_POOL_BYTES_MAX = 32 * MiB;
/** From accept to a finished login, ms: PostgreSQL's authentication_timeout. */
export const HANDSHAKE_MS_MAX = 60_000;
/** A timeline may take this long to answer, ms: the wait for WAL and a redo, and some more. Then the compute is told to reconnect. */
export const ANSWER_MS_MAX = WAIT_LSN_MS_MAX + REDO_DEADLINE_MS + 30_000;
/** Answers lie unread this long, ms: the reader is gone. TCP gives up after about 15 min, with all the memory held. */
export const SEND_STALL_MS_MAX = 5 * 60_000;
/** How often a connection looks at its deadlines, ms. */
export const CONNECTION_WATCH_MS = 5_000;
/** What a connection that is being closed has for its last bytes to be taken, ms. */
export const CLOSE_GRACE_MS = 2_000;

/** One page read-ahead unit of a base backup, pages (1 MiB): large enough to keep redo processes busy, small enough to hold two. */
export const BACKUP_BATCH_PAGES = 128;
/** Small parts of a base backup are joined until they make a chunk of this many bytes. */
export const BACKUP_CHUNK_BYTES = 256 * KiB;
/** A data directory's small state files (prepared transactions, relation maps) may have this many bytes. A PREPARE record of this size held millions of locks. */
export const STATE_FILE_BYTES_MAX = 16 * MiB;
/** A data directory's files are read in pieces of this many bytes. */
export const DATA_DIR_READ_BYTES = 1 * MiB;
/** Small PostgreSQL programs (--version, id) must end within this time, ms. */
export const PROGRAM_MS_MAX = 30_000;
/** initdb, ms. Takes two seconds; a slow disk may need many more. */
export const INITDB_MS_MAX = 300_000;
/** What a PostgreSQL program prints, bytes. */
export const PROGRAM_OUTPUT_BYTES_MAX = 4 * MiB;
/** A compute must accept connections this long after its start, ms. It starts without recovery, so seconds are plenty. */
export const COMPUTE_START_MS_MAX = 60_000;
/** PostgreSQL's cumulative statistics that outlive a compute, bytes: some 400 a relation. */
export const STATISTICS_BYTES_MAX = 64 * MiB;
/** A compute's fast shutdown, ms: its last checkpoint, and the page server's taking in all WAL. */
export const COMPUTE_STOP_MS_MAX = 60_000;
/** An immediate shutdown, ms; then the process is killed. */
export const COMPUTE_QUIT_MS_MAX = 5_000;

/** A commit whose time lies this many seconds or less before the last one's counts as simultaneous (commits queue for the WAL after taking their time); further back, the clock was set. */
export const COMMIT_CLOCK_BACK_S = 2;
/** Blocks that one WAL record may leave as a gap of zero pages. Hash indexes grow by a quarter at once: 32 GiB of gap is an index of 128 GiB. Every gap block costs memory. */
export const GAP_BLOCKS_MAX = 4 * 1_024 * 1_024;

/** A WAL record sent to redo, bytes. One that changes pages holds at most 33 images and about as much data; pgext/include/wire.h has the same bound. */
export const REDO_RECORD_BYTES_MAX = 64 * MiB;
/** Deaths of a redo process that one request may be blamed for: it is retried once, on a fresh process. */
export const REDO_DEATHS_MAX = 2;
/** Bytes of stderr kept of one redo process: the last lines say why it ended. */
export const REDO_STDERR_BYTES_MAX = 64 * KiB;
/** A compute that is being stopped is looked at this often, ms. */
export const COMPUTE_POLL_MS = 20;
/** Files up to this size, bytes, are gathered and written whole, several at a time, when a data directory is unpacked. */
export const DATA_DIR_SMALL_FILE_BYTES = 128 * KiB;
/** How many of them at a time: four threads do the work, the rest keeps them busy. */
export const DATA_DIR_WRITES_MAX = 16;

/** Relation sizes of one timeline kept in memory, entries of about 200 bytes. A compute's working set of tables and indexes. */
export const RELATION_SIZES_MAX = 20_000;
/** Databases that were copied from one another by files, in a row. More is a loop, not a use. */
export const DB_COPY_DEPTH_MAX = 64;
/** A redo worker that was given up (its process cannot be started) is tried again after this time, ms. Until then reads that need it fail at once. */
export const REDO_RESPAWN_MS = 10_000;

/** How long a lease on an LSN lasts, ms; Neon's default. It is renewed, not held. */
export const LEASE_MS = 10 * 60_000;
/** How long the lease of a compute that shows one moment lasts, ms: ten years. It outlives us, so nobody would renew it; stopping the compute ends it. */
export const FIXED_COMPUTE_LEASE_MS = 10 * 365 * 86_400_000;
/** How often a timeline looks at what depends on time (idle layers, readers' deadlines), ms. */
export const TIMELINE_TICK_MS = 1_000;
/** A tenant with no more timelines keeps all of them loaded; of more, those sleep that nobody uses. One that is loaded costs 50 KB. */
export const TIMELINES_AWAKE = 64;
/** A timeline that nobody has asked for anything for so long, ms, may sleep. Loading it again takes milliseconds. */
export const TIMELINE_SLEEP_MS = 10 * 60_000;
/** How often a timeline that sleeps and has layers is woken, ms, to let go of history that is no longer kept. A small part of the window's seven days. */
export const TIMELINE_LOOK_MS = 6 * 3_600_000;
/** How long a branch waits before it looks again whether its ancestor is loaded, ms. */
export const ANCESTOR_POLL_MS = 20;
/** How long a started compute's WAL may take to begin to stream, or a stopped one's to arrive, ms. */
export const COMPUTE_STREAM_MS_MAX = 60_000;
/** Sealing on request must end within this time, ms: two full layers on a slow disk. */
export const CHECKPOINT_MS_MAX = 5 * 60_000;

/** So many tiers of similar size are merged into one. Two would write each byte twice as often, eight leave twice as many layers to look into. */
export const MERGE_FAN_IN = 4;
/** A tier up to this many times as large as all newer ones of its merge joins it. */
export const MERGE_STEP_RATIO = 2;
/** Tiers up to this size, bytes, join any merge: those of idle timelines, which are sealed early. */
export const MERGE_SMALL_BYTES = 4 * MiB;
/** Tiers of one timeline after compaction: with the open and the frozen layer a read looks into at most eight layers. */
export const TIERS_MAX = 6;
/** Records of sealed layers that a read of any page at the end of its timeline applies, after compaction: 0.2 ms of WAL redo. */
export const READ_RECORDS_MAX = 20;
/** The oldest tier is rewritten when what would be folded into it has at least this part of its size. */
export const COLLECT_PART = 0.5;
/** More records than this behind a page, and merging leaves an image; native operations, which are a hundred times cheaper, IMAGE_OPS_MAX. */
export const IMAGE_RECORDS_MAX = 12;
export const IMAGE_OPS_MAX = 64;
/** While WAL comes faster than this, bytes a second, no merge begins until there are TIERS_MAX tiers: taking in WAL has one thread, and merging can be done later. */
export const MERGE_BACK_OFF_BYTES_PER_S = 8 * MiB;
/** A merged layer is cut at the next key after this many bytes: small enough to be rewritten, uploaded or fetched alone. */
export const MERGED_LAYER_BYTES_MAX = 128 * MiB;
/** How far the thread that merges stands back behind all others, 1 to 19: merging can be done later, a page that is asked for cannot. */
export const MERGE_NICE = 10;
/** One turn of merging: keys looked at or LMDB entries written, and ms, whichever comes first. Another merge waits for at most one. */
export const MERGE_KEYS_PER_TURN = 1_000;
export const MERGE_TURN_MS_MAX = 5;
/** Pages that one turn of merging asks of WAL redo: enough to keep its processes busy, small enough that readers hardly wait behind them. */
export const MERGE_IMAGES_PER_TURN = 64;
/** A merge that failed (a full disk) is tried again after this time, ms. */
export const MERGE_RETRY_MS = 60_000;
/** How often a timeline looks whether its cutoff may move, ms. */
export const GC_PERIOD_MS = 10 * 60_000;
/** Default of how long history is readable, ms: seven days. */
export const RETENTION_MS = 7 * 24 * 3_600_000;
/** Default of how much WAL stays readable whatever its age, bytes. */
export const RETENTION_WAL_BYTES = 64 * MiB;

/** Over the budget an open layer is frozen from this size on, bytes. A smaller one is not worth a file. */
export const OPEN_LAYER_BUDGET_BYTES_MIN = 1 * MiB;
/** A layer that could not be sealed (a full disk) is tried again after this time, ms. */
export const SEAL_RETRY_MS = 5_000;
/** A timeline that found the disk full while it was loaded is loaded again after this time, ms. */
export const LOAD_RETRY_MS = 5_000;
/** Leases of one timeline that have not ended. They are renewed, not gathered: more is a mistake or an attack. */
export const LEASES_MAX = 1_000;
/** A lease asked for with a duration lasts at most this long, ms. Who needs more takes a snapshot, which somebody has to delete. */
export const LEASE_MS_MAX = 24 * 3_600_000;
/** Named snapshots of one timeline. All of them are looked at by every read below the cutoff. */
export const SNAPSHOTS_MAX = 1_000;
/** A merged layer names so many pins that it keeps something for. With more it is rewritten when its turn comes, not when one of them goes. */
export const LAYER_PINS_MAX = 64;
/** A walk over a timeline's layers begins so often anew when they are merged meanwhile. Then the caller retries when the merging is over. */
export const KEPT_WALKS_MAX = 3;
/** Logical sizes at earlier moments that one timeline remembers, entries of some 50 bytes: branch points and snapshots are asked for again and again. */
export const LOGICAL_SIZES_MAX = 4_096;
/** Public keys that tokens may be signed with: each rotation leaves one. A token may have to be tried against all. */
export const AUTH_KEYS_MAX = 64;
/** A file of public keys, bytes. */
export const AUTH_KEY_BYTES_MAX = 1 * MiB;
/** A file with a certificate and those above it, or with a private key, bytes. */
export const TLS_FILE_BYTES_MAX = 1 * MiB;
/** Fetching public keys from a URL, ms. */
export const AUTH_KEYS_MS_MAX = 10_000;
/** Runs of a sealed layer that one turn of the store's check reads. A few ms. */
export const CHECK_RUNS_PER_TURN = 500;

/** Timelines of the process that are merged at one time. One keeps a disk and a redo process busy; two, so that a large one does not hold up all others. */
export const MERGES_MAX = 2;
/** A base backup that has read nothing for this long, ms, is no reason any more to keep its LSN. */
export const READER_PIN_MS = 10 * 60_000;
/** Merging or deleting on request must be over within this time, ms, or the caller is told that it goes on. */
export const COMPACT_MS_MAX = 10 * 60_000;
/** Log lines that could not be written wait for a better time, up to so many bytes. */
export const LOG_WAITING_BYTES_MAX = 1 * MiB;

/** An object that is read whole (a manifest, a WAL segment), bytes. Larger ones are streamed. */
export const OBJECT_BYTES_MAX = 64 * MiB;
/** Names in one page of a list of objects: what S3 answers at most. */
export const OBJECT_LIST_MAX = 1_000;
/** Names that one request deletes: what S3 takes at most. */
export const OBJECT_DELETES_MAX = 1_000;
/** A part of a large object, bytes: S3 takes none below 5 MiB but the last; a failed one is sent again. */
export const OBJECT_PART_BYTES = 8 * MiB;
/** Requests to object storage at one time: those that someone waits for, and those of background work. */
export const OBJECT_CALLS_MAX = 16;
export const OBJECT_BACKGROUND_CALLS_MAX = 6;
/** Background calls that may wait for their turn; each actor has few, so more is a mistake. */
export const OBJECT_CALLS_WAITING_MAX = 100_000;
/** Tries of one call before it is given up, and the waits between them, ms. About 10 s in all: whoever asked plans anew. */
export const OBJECT_TRIES_MAX = 6;
export const OBJECT_RETRY_MS_MIN = 100;
export const OBJECT_RETRY_MS_MAX = 5_000;
/** So many failures in a row, and object storage is left alone for this long, ms. */
export const OBJECT_FAILURES_MAX = 20;
export const OBJECT_REST_MS = 10_000;
/** Connecting to object storage, and silence on a connection, ms. */
export const OBJECT_CONNECT_MS_MAX = 5_000;
export const OBJECT_SILENCE_MS_MAX = 20_000;
/** A tenant's server looks at least this often, ms, whether the tenant was attached to another one: when it uploads it finds out at once. One small read. */
export const OWNER_LOOK_MS = 60_000;
/** Deleting a timeline waits at most this long, ms, for object storage to hear of it: a call with its retries, and some more. */
export const DELETE_TOLD_MS_MAX = 15_000;
/** Objects of WAL that one turn of a timeline's backup puts: at most 64 MiB, a second or two. */
export const BACKUP_WAL_PIECES_MAX = 4;
/** Parts of a WAL segment in object storage; one more, and all are put again as one. A segment is then sent about twice, and restoring has few objects to get. */
export const BACKUP_PARTS_MAX = 32;
/** Segments that leave the archive in one turn. */
export const BACKUP_ARCHIVE_TRIM_MAX = 256;
/** Turns of timelines' backups, and uploads of layers, at one time. */
export const BACKUP_TURNS_MAX = 4;
export const BACKUP_LAYERS_MAX = 2;
/** A backup turn that failed is tried again after this time, ms; object storage has its own retries below. */
export const BACKUP_RETRY_MS = 5_000;
/** WAL files that sealed layers cover and that wait to be uploaded, bytes a timeline; beyond it they go, and the archive has a gap. */
export const BACKUP_WAL_WAITING_BYTES = 1024 * MiB;
/** Timelines of one tenant, layers and WAL objects of one timeline in a manifest. A manifest is read whole. */
export const BACKUP_TIMELINES_MAX = 100_000;
export const BACKUP_LAYERS_LISTED_MAX = 100_000;
export const BACKUP_WAL_LISTED_MAX = 100_000;
/** Bytes of a layer that are compressed together: small enough for memory, large enough to compress well. */
export const LAYER_FRAME_BYTES = 4 * MiB;
/** Layers that are fetched at one time; each holds a few parts of OBJECT_PART_BYTES. */
export const LAYER_FETCHES_MAX = 6;
/** A read waits this long for layers that have to be fetched, ms. A layer of 128 MiB at 10 MB/s takes 13 s. */
export const FETCH_WAIT_MS_MAX = 60_000;
/** How often it is looked which layers were read, and whether some have to leave the disk, ms; while the disk is being drained, as soon as the last pass is over. */
export const EVICT_PERIOD_MS = 10_000;
/** A layer's heat, its reads, counts half after this time, ms. */
export const HEAT_HALF_MS = 3_600_000;
/** A manifest is written anew for the heat of layers alone at most so often, ms. */
export const HEAT_WRITE_MS = 15 * 60_000;
/** Layers that are fetched at one time because they were hot before an attach: readers have most of LAYER_FETCHES_MAX. */
export const WARM_UP_AT_ONCE = 2;
/** Layers that leave the disk in one pass: a second's work of the disk at most. */
export const EVICT_LAYERS_PER_PASS = 64;
/** A timeline that does not answer in this time, ms, is passed by. */
export const EVICT_ANSWER_MS_MAX = 60_000;
/** Timelines that an attach takes over at one time. */
export const ATTACH_AT_ONCE = 4;
/** A manifest that someone else writes again and again is tried so often while it is taken over. */
export const TAKE_OVER_TRIES_MAX = 10;
/** Problems that a scrub lists one by one; the rest is counted, so that a report stays an answer. */
export const SCRUB_PROBLEMS_LISTED_MAX = 1_000;
/** Objects that a scrub reads at one time: each holds at most one part, or one WAL segment, in memory. */
export const SCRUB_READS_MAX = 2;
/** Objects of one timeline that no manifest names and that one scrub looks at; the next one sees the rest. */
export const SCRUB_UNNAMED_MAX = 10_000;
/** Bytes of layer files that one restore drill of a timeline brings to the local disk: four of the largest. */
export const DRILL_BYTES_MAX = 512 * MiB;
/** A restore drill of a timeline begins nothing new after this time, ms. */
export const DRILL_MS_MAX = 10 * 60_000;
/** Layers of a manifest that a drill takes by chance, and pages that it compares of each; as many again of layers as they are served. */
export const DRILL_LAYERS_MAX = 4;
export const DRILL_PAGES_A_LAYER = 8;
/** Keys of a layer that a drill looks at before others have a turn: some milliseconds. */
export const DRILL_KEYS_PER_TURN = 2_000;
/** Files of restored layers that are open at one time. */
export const DRILL_OPEN_FILES = 64;
/** Pages that a drill has made stay in memory for this many bytes: the next LSN may need them. */
export const DRILL_CACHE_BYTES = MiB;
/** Problems that are remembered of a drill; a scrub finds all. */
export const DRILL_PROBLEMS_MAX = 20;
/** How often it is looked whether a drill is due, ms; one that could not be brought to its end is tried again after the second. */
export const DRILL_LOOK_MS = 60_000;
export const DRILL_RETRY_MS = 3_600_000;
/** A page that is served to a drill comes within this time, ms: layers may have to be fetched for it. */
export const DRILL_ANSWER_MS_MAX = 2 * FETCH_WAIT_MS_MAX;
/** A file of master keys, bytes: a key has a line. */
export const KEY_FILE_BYTES_MAX = 64 * KiB;
/** Tenants whose keys stay in memory; a key is one request to get again. */
export const TENANT_KEYS_MAX = 10_000;
