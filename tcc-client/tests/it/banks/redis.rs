//! A bank in Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncTypedCommands, Client};
use tcc_client::{BoxError, Call, RedisDatabase, RedisTx};

use super::{Bank, Books, GuardRow, Open};

#[derive(Clone)]
pub(crate) struct Redis {
    url: Arc<str>,
    database: RedisDatabase,
    conn: MultiplexedConnection,
}

const NONE: &[&str] = &[];
const CHECK: &str =
    "if tonumber(redis.call('HGET', KEYS[1], 'free')) + tonumber(ARGV[1]) < 0 then return 'no funds' end";
const MOVE: &str = "
    for place, column in ipairs({ 'free', 'reserved', 'spent' }) do
        redis.call('HINCRBY', KEYS[1], column, ARGV[place])
    end
    redis.call('RPUSH', KEYS[2], ARGV[4])";

fn account_key(name: &str) -> String {
    format!("account:{name}")
}

impl Redis {
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.conn.clone()
    }
}

impl Bank for Redis {
    type Database = RedisDatabase;

    fn database(&self) -> RedisDatabase {
        self.database.clone()
    }

    fn place(&self) -> String {
        self.url.to_string()
    }

    async fn at(place: &str) -> Self {
        let client = Client::open(place).unwrap();
        let conn = client.get_multiplexed_async_connection().await.unwrap();
        Self { url: place.into(), database: RedisDatabase::new(client).unwrap(), conn }
    }

    async fn move_money(tx: &mut RedisTx, call: &Call, account: &str, by: Books) -> Result<bool, BoxError> {
        let key = account_key(account);
        // As an application does that wants to know at once; the script has the last word.
        let free: i64 = tx.connection().hget(&key, "free").await?.unwrap_or_default().parse()?;
        if free + by.free < 0 {
            return Ok(false);
        }
        tx.check(CHECK, &key, by.free);
        let logged = format!("{}|{}|{}", call.gid, call.branch, call.operation);
        tx.effect(MOVE, (key, "log"), (by.free, by.reserved, by.spent, logged));
        Ok(true)
    }

    /// A piece of Lua.
    async fn statement(tx: &mut RedisTx, lua: &str) -> Result<(), BoxError> {
        tx.effect(lua, NONE, NONE);
        Ok(())
    }

    async fn execute(&self, sql: &str) {
        panic!("Redis knows no {sql:?}");
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        panic!("Redis knows no {sql:?}");
    }

    async fn killing(_: &mut RedisTx) -> Result<Option<String>, BoxError> {
        // One connection is for all.
        Ok(None)
    }

    async fn served(&self) -> BTreeSet<String> {
        let clients: String =
            redis::cmd("CLIENT").arg("LIST").query_async(&mut self.connection()).await.unwrap();
        let db = format!("db={}", self.url.rsplit('=').next().unwrap());
        let ours = clients.lines().filter(|client| client.split(' ').any(|word| word == db));
        ours.map(|client| client.split(' ').next().unwrap().to_owned()).collect()
    }

    async fn fund(&self, account: &str, cents: i64) {
        let columns = [("free", cents), ("reserved", 0), ("spent", 0)];
        self.connection().hset_multiple(account_key(account), &columns).await.unwrap();
    }

    async fn set_free(&self, account: &str, cents: i64) {
        self.connection().hset(account_key(account), "free", cents).await.unwrap();
    }

    async fn rows(&self) -> Vec<GuardRow> {
        let mut conn = self.connection();
        let mut rows = Vec::new();
        for key in conn.keys("tcc:*|*").await.unwrap() {
            // It may go in between.
            let Some(value) = conn.get(&key).await.unwrap() else { continue };
            let (gid, branch) = key.strip_prefix("tcc:").unwrap().split_once('|').unwrap();
            let (state, kept) = value.split_once('|').unwrap();
            let kept = (!kept.is_empty()).then(|| kept.into());
            rows.push(GuardRow { gid: gid.into(), branch: branch.into(), state: state.into(), kept });
        }
        assert!(conn.zcard("tcc:begun").await.unwrap() >= rows.len(), "the index has them all");
        rows
    }

    async fn accounts(&self) -> BTreeMap<String, Books> {
        let mut conn = self.connection();
        let mut accounts = BTreeMap::new();
        for key in conn.keys("account:*").await.unwrap() {
            let columns = conn.hgetall(&key).await.unwrap();
            let cents = |column: &str| columns[column].parse().unwrap();
            let books = Books { free: cents("free"), reserved: cents("reserved"), spent: cents("spent") };
            accounts.insert(key["account:".len()..].to_owned(), books);
        }
        accounts
    }

    async fn log(&self) -> Vec<String> {
        self.connection().lrange("log", 0, -1).await.unwrap()
    }

    async fn mark(&self) -> Option<i64> {
        self.connection().get("tcc:settled").await.unwrap().map(|mark| mark.parse().unwrap())
    }

    async fn forget_rows(&self) {
        let mut conn = self.connection();
        for key in conn.keys("tcc:*|*").await.unwrap() {
            conn.del(key).await.unwrap();
        }
        conn.del("tcc:begun").await.unwrap();
    }

    async fn clear(&self) {
        redis::cmd("FLUSHDB").exec_async(&mut self.connection()).await.unwrap();
    }
}

impl Open for Redis {
    async fn open() -> Option<Self> {
        let bank = Self::at(&tcc_tests::redis()?.database()).await;
        bank.fund("alice", 1000).await;
        Some(bank)
    }
}
