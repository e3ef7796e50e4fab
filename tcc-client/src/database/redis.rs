//! The guard in Redis, through `redis`.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncTypedCommands, Client, ErrorKind, RedisError, Script, ServerErrorKind, ToRedisArgs};

use super::trouble::trouble_of;
use crate::limits::{CONNECT, FINISH};
use crate::{BoxError, Call, Commit, Database, Row, Timestamp, Trouble};

/// A Redis server, for participants and consumers whose data is in it. Not a cluster, whose nodes have no script in common.
///
/// Guard and effects are one script, which Redis runs without anything in between. What it does not do is undo: see
/// [`RedisTx::effect`]. And it keeps what it answered only as well as it is told to:
///
/// | | so that the promises hold |
/// |---|---|
/// | a crash of the server | `appendonly yes` and `appendfsync always`; with `everysec` the last second is gone, and with it rows and effects alike: a confirm may find no try (P6), a repeat have a second effect (P2), a late try run after its cancel (P4) |
/// | a failover to a replica | never: replicas lag, and `WAIT` only makes it rarer; the same is lost as above |
/// | `maxmemory` | `noeviction`, or else Redis forgets guard rows of its own accord, with the same results |
///
/// What is still there is in itself whole, always: rows and effects were written together.
///
/// Keys begin with `tcc:`, or what [`prefix`](Self::prefix) says: one for each branch, until its transaction has
/// ended long ago, one index of them by time, and the coordinator's mark.
///
/// ```no_run
/// # fn f() -> Result<(), tcc_client::BoxError> {
/// use tcc_client::RedisDatabase;
///
/// let db = RedisDatabase::new(redis::Client::open("redis://localhost/")?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisDatabase {
    conn: ConnectionManager,
    prefix: Arc<str>,
    looked: Arc<AtomicBool>,
}

/// What a method wants done, for the one script at the end.
pub struct RedisTx {
    conn: ConnectionManager,
    prefix: Arc<str>,
    checks: Vec<Piece>,
    effects: Vec<Piece>,
    /// The row as it was found; the script does nothing if it has changed. Empty if there was none.
    found: Option<String>,
    row: Option<NewRow>,
}

/// A piece of Lua, with its own keys and arguments.
struct Piece {
    lua: String,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
}

/// A row as the script is to leave it.
struct NewRow {
    key: String,
    value: String,
    begun: i64,
    /// Whether the mark bars it.
    tries: bool,
    /// How long it is kept, in milliseconds; `None`: until its transaction has ended long ago.
    keep: Option<i64>,
}

/// Keys: the row, the mark, the index; then those of the pieces. Arguments: the row as found, as it shall be, when
/// its transaction began, whether the mark bars it, how long it is kept if not until the mark passes it; then for each
/// piece how many keys and arguments it has, and these.
///
/// The row is written before the effects, so that what the server itself has to say against a write (no memory, a
/// read-only replica, a full disk) it says while nothing is done.
const HEAD: &str = "\
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return {'conflict'} end
if ARGV[4] == '1' and tonumber(redis.call('GET', KEYS[2]) or ARGV[3]) > tonumber(ARGV[3]) then return {'conflict'} end
local tcc_key, tcc_arg = 3, 5
local function tcc_run(work)
    local keys, args, from = {}, {}, tcc_arg + 2
    for i = 1, tonumber(ARGV[tcc_arg + 1]) do keys[i] = KEYS[tcc_key + i] end
    for i = 1, tonumber(ARGV[tcc_arg + 2]) do args[i] = ARGV[from + i] end
    tcc_key, tcc_arg = tcc_key + #keys, from + #args
    return work(keys, args)
end
local tcc_no
";

const ROW: &str = "\
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[5] == '' then redis.call('ZADD', KEYS[3], ARGV[3], KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
local tcc_done, tcc_why = pcall(function()
";

/// What a failed effect has written stays, so its row must not say that it is done.
const TAIL: &str = "\
end)
if tcc_done then return {'committed'} end
if ARGV[1] ~= '' then redis.call('SET', KEYS[1], ARGV[1]) else
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[3], KEYS[1])
end
return {'failed', tostring(type(tcc_why) == 'table' and tcc_why.err or tcc_why)}
";

/// Keys: the mark, the index. Arguments: the mark, the bound.
const FORGET: &str = "\
local kept = redis.call('GET', KEYS[1])
if not kept or tonumber(kept) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for _, row in ipairs(old) do
    redis.call('DEL', row)
    redis.call('ZREM', KEYS[2], row)
end
return #old
";

impl RedisDatabase {
    /// The server and database of a client, to be connected to when a call needs it.
    ///
    /// # Errors
    /// When the client can have no such connection.
    pub fn new(client: Client) -> Result<Self, BoxError> {
        let config = ConnectionManagerConfig::new();
        let config = config.set_response_timeout(Some(FINISH)).set_connection_timeout(Some(CONNECT));
        let conn = ConnectionManager::new_lazy_with_config(client, config)?;
        Ok(Self { conn, prefix: "tcc:".into(), looked: Arc::default() })
    }

    /// What its keys begin with: different for services that share a database.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Whether it keeps what it answers, said in the log where it does not.
    async fn look(mut self) {
        let mut ask = redis::cmd("CONFIG");
        ask.arg("GET").arg(&["appendonly", "appendfsync", "maxmemory-policy"]);
        let Ok(config) = ask.query_async::<HashMap<String, String>>(&mut self.conn).await else {
            return tracing::debug!("Redis does not tell its configuration");
        };
        let is = |name: &str, value: &str| config.get(name).is_none_or(|set| set == value);
        if !is("appendonly", "yes") || !is("appendfsync", "always") {
            tracing::warn!("Redis does not sync every write: a crash may lose what was answered");
        }
        if !is("maxmemory-policy", "noeviction") {
            tracing::warn!("Redis may evict guard rows: maxmemory-policy is not noeviction");
        }
    }
}

impl RedisTx {
    /// Has a try looked at the data, in the script, before anything is written. A piece of Lua with `KEYS` and
    /// `ARGV` of its own; if it returns a text the try is refused, for this reason. Of confirm and cancel it is an
    /// error.
    ///
    /// ```no_run
    /// # fn f(tx: &mut tcc_client::RedisTx) {
    /// tx.check("if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[1]) then return 'sold out' end",
    ///     "stock:apples", 3);
    /// tx.effect("redis.call('DECRBY', KEYS[1], ARGV[1])", "stock:apples", 3);
    /// # }
    /// ```
    pub fn check(&mut self, lua: impl Into<String>, keys: impl ToRedisArgs, args: impl ToRedisArgs) {
        self.checks.push(Piece::new(lua, keys, args));
    }

    /// Has something done, in the script, after all checks and in the order of these calls: a piece of Lua with
    /// `KEYS` and `ARGV` of its own. What it returns is ignored.
    ///
    /// It must not fail after its first write, for Redis takes nothing back: when it does, the call is answered with
    /// an error, its guard row is as before, and what it wrote stays and is written again by the repeat. Keep the
    /// text constant, and what differs in the arguments: Redis keeps every text.
    pub fn effect(&mut self, lua: impl Into<String>, keys: impl ToRedisArgs, args: impl ToRedisArgs) {
        self.effects.push(Piece::new(lua, keys, args));
    }

    /// The connection, to read by. What is written through it is written at once, and no part of the transaction.
    pub fn connection(&mut self) -> &mut ConnectionManager {
        &mut self.conn
    }

    /// Has the row, which is set already, kept for that long and no longer, whatever the mark is.
    pub(crate) fn keep(&mut self, length: Duration) {
        if let Some(row) = &mut self.row {
            // Redis counts up to a moment, and knows none that is over.
            row.keep = Some(i64::try_from(length.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::MAX / 4));
        }
    }

    fn key(&self, call: &Call) -> String {
        // Neither id has a bar in it.
        format!("{}{}|{}", self.prefix, call.gid, call.branch)
    }

    fn mark(&self) -> String {
        format!("{}settled", self.prefix)
    }

    fn index(&self) -> String {
        format!("{}begun", self.prefix)
    }

    async fn find(&mut self, call: &Call) -> Result<&str, BoxError> {
        let found = self.conn.get(self.key(call)).await?.unwrap_or_default();
        Ok(self.found.insert(found))
    }
}

impl Database for RedisDatabase {
    type Tx = RedisTx;

    async fn begin(&self) -> Result<RedisTx, BoxError> {
        if !self.looked.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().look());
        }
        let (conn, prefix) = (self.conn.clone(), self.prefix.clone());
        Ok(RedisTx { conn, prefix, checks: Vec::new(), effects: Vec::new(), found: None, row: None })
    }

    async fn insert(tx: &mut RedisTx, call: &Call, row: &Row) -> Result<bool, BoxError> {
        if !tx.find(call).await?.is_empty() {
            return Ok(false);
        }
        let tries = matches!(row, Row::Tried { .. });
        tx.row = Some(NewRow::new(tx.key(call), row, call, tries));
        Ok(true)
    }

    async fn load(tx: &mut RedisTx, call: &Call) -> Result<Option<Row>, BoxError> {
        let found = tx.find(call).await?;
        let Some((state, kept)) = found.split_once('|') else { return Ok(None) };
        Ok(Some(Row::from_columns(state, (!kept.is_empty()).then(|| kept.to_owned()))?))
    }

    async fn set(tx: &mut RedisTx, call: &Call, row: &Row) -> Result<(), BoxError> {
        let tries = tx.row.as_ref().is_some_and(|row| row.tries);
        tx.row = Some(NewRow::new(tx.key(call), row, call, tries));
        Ok(())
    }

    async fn settled(tx: &mut RedisTx) -> Result<Option<Timestamp>, BoxError> {
        let settled = tx.conn.get(tx.mark()).await?;
        Ok(settled.map(|settled| settled.parse()).transpose()?.map(Timestamp::from_millis))
    }

    async fn forget(tx: &mut RedisTx, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        let script = Script::new(FORGET);
        let mut forget = script.key(tx.mark());
        forget.key(tx.index()).arg(settled.as_millis()).arg(most);
        Ok(forget.invoke_async(&mut tx.conn).await?)
    }

    async fn commit(mut tx: RedisTx) -> Result<Commit, BoxError> {
        let (Some(found), Some(row)) = (tx.found.take(), tx.row.take()) else { return Ok(Commit::Committed) };
        let script = Script::new(&script(&tx.checks, &tx.effects));
        let mut commit = script.key(&row.key);
        commit.key(tx.mark()).key(tx.index());
        commit.arg(found).arg(row.value).arg(row.begun).arg(row.tries);
        commit.arg(row.keep.map_or(String::new(), |keep| keep.to_string()));
        for piece in tx.checks.iter().chain(&tx.effects) {
            commit.key(&piece.keys[..]);
            commit.arg(piece.keys.len()).arg(piece.args.len()).arg(&piece.args[..]);
        }
        let said: Vec<String> = commit.invoke_async(&mut tx.conn).await?;
        match said.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["committed"] => Ok(Commit::Committed),
            ["conflict"] => Ok(Commit::Conflict),
            ["refused", why] => Ok(Commit::Refused(why.to_owned())),
            _ => Err(format!("an effect failed: {}", said.join(": ")).into()),
        }
    }

    async fn rollback(tx: RedisTx) -> Result<(), BoxError> {
        drop(tx);
        Ok(())
    }

    fn trouble(error: &BoxError) -> Trouble {
        trouble_of(error, judge)
    }
}

fn judge(error: &RedisError) -> Trouble {
    match error.kind() {
        // It loads its data; a cluster moves; its master is away: nothing was done.
        ErrorKind::Server(
            ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain | ServerErrorKind::MasterDown,
        ) => Trouble::Locked,
        _ if error.code() == Some("BUSY") => Trouble::Locked,
        _ => Trouble::Other,
    }
}

/// A row as it is kept. Neither a reply nor its absence is an empty text.
fn text(row: &Row) -> String {
    format!("{}|{}", row.state(), row.kept().unwrap_or_default())
}

/// Each piece is a function, whose arguments hide the names that Redis gives to those of the whole.
fn script(checks: &[Piece], effects: &[Piece]) -> String {
    let mut script = HEAD.to_owned();
    let mut write = |lua: std::fmt::Arguments<'_>| {
        script.write_fmt(lua).expect("a String takes everything");
    };
    for check in checks {
        write(format_args!("tcc_no = tcc_run(function(KEYS, ARGV)\n{}\nend)\n", check.lua));
        write(format_args!("if type(tcc_no) == 'string' then return {{'refused', tcc_no}} end\n"));
    }
    write(format_args!("{ROW}"));
    for effect in effects {
        write(format_args!("tcc_run(function(KEYS, ARGV)\n{}\nend)\n", effect.lua));
    }
    write(format_args!("{TAIL}"));
    script
}

impl NewRow {
    fn new(key: String, row: &Row, call: &Call, tries: bool) -> Self {
        Self { key, value: text(row), begun: call.begun.as_millis(), tries, keep: None }
    }
}

impl Piece {
    fn new(lua: impl Into<String>, keys: impl ToRedisArgs, args: impl ToRedisArgs) -> Self {
        Self { lua: lua.into(), keys: keys.to_redis_args(), args: args.to_redis_args() }
    }
}

impl std::fmt::Debug for RedisDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisDatabase").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
