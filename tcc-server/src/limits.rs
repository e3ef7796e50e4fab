//! Every limit of the server, each with its reason. The protocol's own limits stand in [`tcc_core::limits`].

use std::time::Duration;

/// Transactions driven at once. Others wait in the store, where they cost disk and no memory.
pub const DRIVERS: usize = 4096;
/// Of these, how many may have come from the store: the rest is for those whose callers are waiting.
pub const DRIVERS_CLAIMED: usize = DRIVERS / 2;
/// Rows claimed from the store at once.
pub const CLAIM_WINDOW: usize = 256;
/// How long a claim holds: longer than any call, so that two nodes do not make the same one.
pub const LEASE: Duration = Duration::from_secs(90);
/// A driver waits this long for its next call; beyond it, the transaction goes back to the store.
pub const LINGER: Duration = Duration::from_millis(250);
/// How long attempts may go unsaved, and so unseen by whoever asks why a transaction is where it is.
pub const UNSEEN: Duration = Duration::from_secs(1);
/// How often the store is asked for due work that no event of this node announced.
pub const POLL: Duration = Duration::from_secs(1);
/// The watermark stays at least this far behind now, whatever the retention: a begin carries the moment it was made,
/// and may take its time to be stored.
pub const WATERMARK_LAG: Duration = Duration::from_secs(600);
/// How old the numbers of unfinished transactions may be that are told to whoever measures: counting looks at every one.
pub const COUNTS: Duration = Duration::from_secs(5);
/// How often it is looked for what calls for a human, where somebody is to be told.
pub const ALERTING: Duration = Duration::from_secs(5);
/// How many transactions are told of at each look, so that a webhook gets no more than four a second of them.
pub const ALERTS: usize = 20;
/// Alerts of which it is remembered that they were begun.
pub const ALERTS_BEGUN: usize = 10_000;
/// At what age it is told again that a transaction calls for a human; then each time its age has doubled.
pub const ALERT_AGAIN: Duration = Duration::from_secs(600);
/// How often finished transactions are purged and the watermark is renewed.
pub const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Rows purged in one go, so that the writer is not held up.
pub const PURGE_BATCH: usize = 500;
/// Times a change is applied anew because another writer was first.
pub const CONFLICTS: usize = 32;
/// Times a driver offers a change that the store does not take, before it leaves it to a later claim.
pub const UNSTORABLE: u32 = 10;
/// How long a call waits for a place at its destination before its transaction is parked.
pub const DESTINATION_WAIT: Duration = Duration::from_secs(1);
/// How long a call is put off that is made although its destination is shut, when even so there is no place for it.
pub const PUT_OFF: Duration = Duration::from_secs(30);
/// Calls in a row without an answer after which a destination is shut: few enough to spare it, and more than a restart
/// behind a balancer takes.
pub const FAILURES: u32 = 8;
/// How long a destination is shut until it is probed for the first time. It doubles with every probe that fails.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest until the next probe. One call a second burdens nobody, and whoever waits for a destination that was
/// mended does not wait much longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long after a probe that was answered with an error: the destination is there, and whoever comes next may fare
/// better.
pub const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
/// How long a transaction stays parked before it is looked at even so: no promise rests on what wakes it before.
pub const PARKED: Duration = Duration::from_secs(3600);
/// How often it is looked whether destinations take those parked there.
pub const RELEASE: Duration = Duration::from_millis(50);
/// The same while they do: in between they are called.
pub const NEXT_RELEASE: Duration = Duration::from_millis(10);
/// Destinations remembered; idle ones beyond it are forgotten.
pub const DESTINATIONS: usize = 10_000;
/// Endpoints of which is remembered what was read of them.
pub const TARGETS: usize = 4096;

/// Bytes of a file that a setting names, or of the file of settings: certificates are the longest.
pub const CONFIGURED_FILE: u64 = 1024 * 1024;

/// Bytes of a request body: all payloads of a transaction and what surrounds them.
pub const BODY: usize = 512 * 1024;
/// Connections to the API at once.
pub const CONNECTIONS: usize = 4096;
/// Requests that are followed at once. It bounds those whose callers have hung up: what was begun for them goes on,
/// and a store that is slow would else gather them without end.
pub const REQUESTS: usize = CONNECTIONS;
/// Requests that wait for a decision or an end at once; the other connections are for those who act.
pub const WAITS: usize = CONNECTIONS / 2;
/// Connections that wait in the kernel's queue for their place. Those beyond it are tried again by their callers'
/// kernels ever more seldom, so that somebody who came during a flood would be late long after it.
pub const CONNECTIONS_WAITING: u32 = 1024;
/// Headers of a request.
pub const HEAD_LINES: usize = 100;
/// Bytes of the head of a request, and the most that is read of its body at once.
pub const HEAD_BYTES: usize = 64 * 1024;
/// The pause after a connection could not be accepted, mostly for want of file descriptors: none comes free sooner.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the head of a request may take to arrive; also how long an idle connection is kept.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a TLS handshake may take. It holds a place among the connections.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last spans may take to be told when it ends: who waits for them waits for a restart.
pub const LAST_SPANS: Duration = Duration::from_secs(5);
/// How often files that may change are read again: soon enough for whoever has just changed one and looks what happens.
pub const REREAD: Duration = Duration::from_secs(1);
/// How long the body of a request may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an answer may wait for its caller to read on.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// Documents that are read for one page of a list by destination, which no index knows of.
pub const LIST_LOOKED_AT: usize = 1000;
/// Transactions on a page of a list that does not say how many.
pub const LIST_PAGE: usize = 50;
/// The most transactions on one page of a list: each is read whole, and may be half a megabyte.
pub const LONGEST_LIST_PAGE: usize = 200;
/// Lists made at once, which bounds the memory that their pages take; others wait.
pub const LISTS: usize = 2;
/// The longest a request may wait for a decision or an end.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a request waits that does not say how long.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// How often a waiting request looks into the store, for what other nodes did.
pub const WAIT_POLL: Duration = Duration::from_secs(1);
/// Connections to brokers that are kept; beyond it all are made anew, so that endpoints cannot gather them.
pub const BROKER_CONNECTIONS: usize = 256;
/// How long connecting to a broker may take, with what the two say to each other before the first message.
pub const BROKER_CONNECT: Duration = Duration::from_secs(10);
/// How long a broker may leave everything unanswered before a call that timed out takes its connection for dead.
pub const BROKER_SILENCE: Duration = Duration::from_secs(1);
/// Addresses of a broker to which links are kept; beyond it all are made anew.
pub const BROKER_ADDRESSES: usize = 256;
/// What may wait to be asked of one of RocketMQ's servers, and for its answer before those that nobody waits for are
/// forgotten.
pub const REMOTING_ASKS: usize = 1024;
/// Bytes that one of RocketMQ's servers may answer at once: routes of topics, on a cluster of any size.
pub const REMOTING_REPLY: usize = 1024 * 1024;
/// How long Kafka's client tries by itself to deliver a message: no longer than most calls wait.
pub const KAFKA_TIMEOUT: Duration = tcc_core::limits::DEFAULT_CALL_TIMEOUT;
/// How long after a cluster was first asked for a topic it is taken for absent.
pub const KAFKA_TOPIC: Duration = Duration::from_secs(2);
/// Messages in the queue of Kafka's client: those whose calls timed out may still be in it.
pub const KAFKA_MESSAGES: usize = 10_000;
/// How long connecting to a participant may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The wait of `tcc-server conformance` before it repeats a call: of 60 that are answered pending, six seconds.
pub const CONFORMANCE_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that are read of an answer at once, and the most its head may have.
pub const ANSWER_BUFFER: usize = 16 * 1024;
/// How long an idle connection to a participant is kept; below what most servers keep one.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// Commits that wait to be batched; whoever comes then waits for a place.
pub const COMMITS_WAITING: usize = 4096;
/// Writes in one commit of a batch: beyond some hundred a larger one gains nothing and the last waits for the first.
pub const COMMIT_WRITES: usize = 512;
/// Bytes of documents in one commit of a batch, unless one caller's own are more.
pub const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// How long a commit of the log is held back to gather others, where there were many of late: at 64 transactions in
/// flight it saves 4 of 10 fsyncs and makes a twentieth more transactions a second than 100 µs; 550 µs make fewer again.
pub const GATHER: Duration = Duration::from_micros(400);
/// Writes in the last commit from which on the next is held back: with 8 transactions in flight there are fewer.
pub const GATHER_FROM: usize = 8;
/// Commits and purges that wait for the SQLite writer.
pub const STORE_JOBS: usize = 4096;
/// Reads that wait for an SQLite reader.
pub const STORE_READS: usize = 1024;
/// Rows of the table of which the SQLite writer remembers what they were: all that are driven, and as many again.
pub const RECENT: usize = 2 * DRIVERS;
/// Bytes of a document: many times what a transaction of the largest request and the longest replies has.
pub const DOCUMENT: usize = 64 * 1024 * 1024;
/// Writes after which rows are moved from the journal into their table: those of some 85 transactions that ended. More at
/// a time cost less, but commits wait meanwhile: with 768 the slowest one in a hundred takes a tenth longer.
pub const JOURNAL_WRITES: usize = 256;
/// Bytes of the journal after which they are moved, however few: all of them are read at a start.
pub const JOURNAL_BYTES: i64 = 16 * 1024 * 1024;
/// How long rows stand in the journal alone, where whoever reads the file by other means does not find them.
pub const SETTLE: Duration = Duration::from_secs(1);
/// Rows that one page of a list looks at where no index leads to those it asks for.
pub const LIST_SCAN: i64 = 20_000;
/// Rows purged in one SQLite transaction: commits wait for it.
pub const PURGE_STEP: usize = 100;
/// Bytes of WAL after which SQLite is made to checkpoint.
pub const WAL_BYTES: u64 = 8 * 1024 * 1024;
/// A WAL so many times larger than it should be is emptied, even if that has to wait for readers.
pub const WAL_OVERGROWN: u64 = 8;
/// How long without a write before the WAL is emptied.
pub const WAL_IDLE: Duration = Duration::from_secs(10);
/// Rows, and bytes of documents, after which the size of the WAL is looked at.
pub const WAL_LOOK_ROWS: usize = 256;
/// See [`WAL_LOOK_ROWS`].
pub const WAL_LOOK_BYTES: usize = 1024 * 1024;
/// Bytes of a page, SQLite's default.
pub const PAGE_BYTES: u64 = 4096;
