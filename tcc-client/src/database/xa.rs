//! A guard over prepared transactions (XA, two-phase commit): the database itself keeps what a try has written until its
//! transaction is decided.
//!
//! | | what is done | if the process dies right after it |
//! |---|---|---|
//! | try | row `confirmed` and business rows, in one local transaction | rolled back by the server |
//! | | a note of whose it is and what the try replied, in another | a note of nothing |
//! | | the first is **prepared** | a repeat finds it, and answers from the note |
//! | confirm | what is prepared is committed | a repeat finds the row `confirmed` |
//! | cancel | what is prepared is rolled back | a repeat finds nothing, and goes on |
//! | | row `cancelled`, in a local transaction | a repeat finds it |
//!
//! So the guard finds a branch `tried` where it is prepared, and only there. A row of a prepared transaction is locked and
//! nobody can read it: hence the note, and hence a try or a cancel that comes while another try is at work waits for that
//! row and is told to ask again.

use std::fmt::{self, Write};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tcc_core::{BranchId, Decision, Digest, Gid, Operation};

use crate::call::pair;
use crate::limits::XA_CONNECTIONS;
use crate::local::{self, End};
use crate::{BoxError, Call, Commit, Database, Dialect, LocalError, Row, SqlDatabase, Timestamp, Trouble};

/// A database that can prepare local transactions, and end them later over any connection.
///
/// Whoever implements [`SqlDatabase`] for another driver of these servers adds this.
pub trait XaDatabase: SqlDatabase {
    /// The statements that create the table of notes, `tcc_prepared`, if it is not there.
    const NOTES: &'static [&'static str];

    /// The same database, with so many connections that are counted apart.
    #[must_use]
    fn beside(&self, most: usize) -> Self;

    /// What tells the guard's tables from all others on the server.
    ///
    /// # Errors
    /// [`XaError`] when the server cannot do what is asked of it here; or when it cannot be asked.
    fn place(tx: &mut Self::Tx) -> impl Future<Output = Result<String, BoxError>> + Send;

    /// Makes of a local transaction that has written nothing one that can be prepared, under this name alone.
    ///
    /// # Errors
    /// When the statement fails.
    fn open(tx: &mut Self::Tx, name: &XaName) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Prepares what was opened, durably.
    ///
    /// # Errors
    /// When nobody knows whether it was prepared.
    fn prepare(tx: Self::Tx, name: &XaName) -> impl Future<Output = Result<Commit, BoxError>> + Send;

    /// Rolls back what was opened, and makes the connection ready for the next transaction.
    ///
    /// # Errors
    /// When the connection is broken; the transaction will have no effect all the same.
    fn undo(tx: Self::Tx) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Rolls back a local transaction that has only looked, and ends what is prepared under a name, durably. `false`:
    /// nothing can be ended under it now. It may have ended, or another connection may be at it.
    ///
    /// # Errors
    /// When nobody knows whether it ended.
    fn end(
        tx: Self::Tx,
        name: &XaName,
        decision: Decision,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// The names of what is prepared at this moment and begins with a place (see [`XaName`]); since when, if the server
    /// says that.
    ///
    /// # Errors
    /// When the server refuses to say.
    fn prepared(
        tx: &mut Self::Tx,
        place: &str,
    ) -> impl Future<Output = Result<Vec<(String, Option<Duration>)>, BoxError>> + Send;
}

/// The name under which a branch's try is prepared, the same for every process: `tcc:`, 32 letters that are a hash of
/// [the place](XaDatabase::place), `:`, 64 letters that are a hash of gid and branch. 101 letters, which stand in the SQL of
/// every server as they are; as XA has it, `bqual` is what stands before the last colon and `gtrid` what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XaName {
    place: String,
    key: String,
}

/// Why a database does no XA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XaError {
    /// PostgreSQL takes no prepared transactions, unless it is told how many.
    #[error("the server takes no prepared transactions: set max_prepared_transactions, and restart it")]
    Disabled,
    /// PostgreSQL has as many prepared transactions as it takes.
    #[error("the server has as many prepared transactions as max_prepared_transactions lets it")]
    Full,
    /// MariaDB before 10.6 or MySQL before 8.0, which may roll back what is prepared when its connection ends.
    #[error("the server has the version {0}; it takes MariaDB 10.6 or MySQL 8.0 to keep what is prepared")]
    TooOld(String),
    /// The database could not be asked.
    #[error("the database could not be asked")]
    Local(#[source] LocalError),
}

/// A database whose tries are prepared. Clones are cheap and the same.
///
/// It has the connections of the database it is made of for tries, and [`XA_CONNECTIONS`] more for all else: a confirm must
/// not wait for a connection behind tries that wait for the rows which only that confirm will let go.
///
/// To be served by [`Participants::xa`](crate::Participants::xa), with an [`XaParticipant`](crate::XaParticipant).
///
/// ```no_run
/// # #[cfg(feature = "tokio-postgres")]
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tcc_client::{PgDatabase, Xa};
///
/// let db = PgDatabase::new("postgres://pay@localhost/pay".parse()?, tokio_postgres::NoTls);
/// db.create_schema().await.map_err(|error| error.to_string())?;
/// let xa = Xa::new(db);
/// xa.create_schema().await?;
///
/// for left in xa.prepared(Duration::from_secs(3600)).await? {
///     println!("prepared for an hour: {:?} {:?} under {}", left.gid, left.branch, left.name);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Xa<D> {
    tries: D,
    beside: D,
    place: Arc<OnceLock<String>>,
}

/// What a call does by way of local transactions.
pub struct XaTx<D: XaDatabase> {
    xa: Xa<D>,
    /// Begun with the first statement: only then it is known over which connections.
    tx: Option<D::Tx>,
    part: Part,
}

/// What will become of the local transaction.
enum Part {
    /// It is committed.
    Plain,
    /// It is a try that will be prepared.
    Trying(XaName),
    /// It has found this branch prepared, and what its try replied.
    Found(XaName, Option<String>),
    /// It is given up, and what is prepared is ended.
    Ending(XaName, Box<Call>, Decision),
}

/// A try that is prepared, and neither confirmed nor cancelled yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The name under which the server has it.
    pub name: String,
    /// Its transaction; `None` if its note was lost.
    pub gid: Option<Gid>,
    /// Its branch; `None` if its note was lost.
    pub branch: Option<BranchId>,
    /// For how long, by the clock of the database; `None` if nobody knows, which counts as long.
    pub age: Option<Duration>,
}

impl<D: XaDatabase> Xa<D> {
    /// Over a database that has the guard's tables, and [`XA_CONNECTIONS`] more connections to it.
    pub fn new(database: D) -> Self {
        let beside = database.beside(XA_CONNECTIONS);
        Self { tries: database, beside, place: Arc::default() }
    }

    /// The statements that create the table of notes, for those who run migrations of their own.
    #[must_use]
    pub const fn schema() -> &'static [&'static str] {
        D::NOTES
    }

    /// Creates the table of notes, if it is not there, and finds out whether the server can prepare at all. Several may
    /// do so at once. The guard's tables are created by the database's own `create_schema`, before this.
    ///
    /// # Errors
    /// [`XaError`]. Only [`Local`](XaError::Local) may pass by itself.
    pub async fn create_schema(&self) -> Result<(), XaError> {
        let xa = self.clone();
        let created = local::commit(&self.beside, move |tx| {
            let xa = xa.clone();
            Box::pin(async move {
                let place = xa.place(tx).await?;
                D::prepared(tx, &place).await?;
                if D::DIALECT == Dialect::Postgres {
                    // IF NOT EXISTS alone fails when two do it at once. The number is `tcc_prep` in ASCII.
                    D::query(tx, "SELECT pg_advisory_xact_lock(8386656192653583728)".to_owned()).await?;
                }
                for statement in D::NOTES {
                    D::execute(tx, (*statement).to_owned()).await?;
                }
                Ok(())
            })
        });
        created.await.map_err(|error| match error {
            LocalError::Failed(error) => match error.downcast() {
                Ok(error) => *error,
                Err(error) => XaError::Local(LocalError::Failed(error)),
            },
            LocalError::Unknown(error) => XaError::Local(LocalError::Unknown(error)),
        })
    }

    /// What has been prepared for at least so long, the longest first. Whatever is in this list for longer than its
    /// transaction may take is somebody's to look at: nothing is rolled back by itself, for the coordinator may have
    /// decided that it is to be confirmed.
    ///
    /// # Errors
    /// When it could not be asked.
    pub async fn prepared(&self, at_least: Duration) -> Result<Vec<Prepared>, LocalError> {
        let xa = self.clone();
        let found = local::run(&self.beside, move |tx| {
            let xa = xa.clone();
            Box::pin(async move {
                let place = xa.place(tx).await?;
                let mut found = Vec::new();
                for (name, age) in D::prepared(tx, &place).await? {
                    found.push(noted::<D>(tx, name, age).await?);
                }
                Ok(End::Rollback(found))
            })
        });
        let mut found = found.await?;
        found.retain(|left| left.age.is_none_or(|age| age >= at_least));
        found.sort_by_key(|left| std::cmp::Reverse(left.age.unwrap_or(Duration::MAX)));
        Ok(found)
    }

    async fn place(&self, tx: &mut D::Tx) -> Result<String, BoxError> {
        if let Some(place) = self.place.get() {
            return Ok(place.clone());
        }
        let place = format!("tcc:{:.32}", Digest::of(&D::place(tx).await?).to_string());
        Ok(self.place.get_or_init(|| place).clone())
    }

    async fn name(&self, tx: &mut D::Tx, call: &Call) -> Result<XaName, BoxError> {
        let key = pair(call.gid.as_str(), call.branch.as_str()).to_string();
        Ok(XaName { place: self.place(tx).await?, key })
    }

    /// Notes whose try is about to be prepared under a name. Only the one that has the lock of its guard row does so.
    async fn note(&self, name: &XaName, call: &Call, reply: Option<&str>) -> Result<(), LocalError> {
        let reply = reply.map_or_else(|| "NULL".to_owned(), |reply| D::DIALECT.text(reply));
        let old = format!("DELETE FROM tcc_prepared WHERE name = '{name}'");
        let new = format!(
            "INSERT INTO tcc_prepared (name, gid, branch, kept, begun, noted)
             VALUES ('{name}', '{}', '{}', {reply}, {}, {})",
            call.gid,
            call.branch,
            call.begun.as_millis(),
            D::DIALECT.now()
        );
        let noted = local::commit(&self.beside, move |tx| {
            let statements = [old.clone(), new.clone()];
            Box::pin(async move {
                for statement in statements {
                    D::execute(tx, statement).await?;
                }
                Ok(())
            })
        });
        noted.await
    }

    /// Leaves the row of a cancel whose try was rolled back, so that a later one finds it.
    async fn bar(&self, call: Call) -> Result<Commit, BoxError> {
        let barred = local::run(&self.beside, move |tx| {
            let call = call.clone();
            Box::pin(async move {
                let inserted = D::insert(tx, &call, &Row::Cancelled).await?;
                Ok(if inserted { End::Commit(true) } else { End::Rollback(false) })
            })
        });
        match barred.await {
            Ok(true) => Ok(Commit::Committed),
            // A late try or another cancel was quicker.
            Ok(false) => Ok(Commit::Conflict),
            Err(LocalError::Failed(error)) if D::trouble(&error) != Trouble::Other => Ok(Commit::Conflict),
            Err(error) => Err(error.into()),
        }
    }
}

impl<D: XaDatabase> Database for Xa<D> {
    type Tx = XaTx<D>;

    async fn begin(&self) -> Result<XaTx<D>, BoxError> {
        Ok(XaTx { xa: self.clone(), tx: None, part: Part::Plain })
    }

    async fn insert(tx: &mut XaTx<D>, call: &Call, row: &Row) -> Result<bool, BoxError> {
        tx.begin(call.operation).await?;
        let XaTx { xa, tx: Some(local), part } = tx else { return Err(NOT_BEGUN.into()) };
        let tries = match call.operation {
            Operation::Try => matches!(row, Row::Tried { .. }),
            Operation::Cancel => false,
            // Of messages, which nobody prepares.
            Operation::Confirm | Operation::Check => return D::insert(local, call, row).await,
        };
        let name = xa.name(local, call).await?;
        if let Some(reply) = find::<D>(local, &name).await? {
            *part = Part::Found(name, reply);
            return Ok(false);
        }
        if !tries {
            return D::insert(local, call, row).await;
        }
        D::open(local, &name).await?;
        *part = Part::Trying(name);
        D::insert(local, call, row).await
    }

    async fn load(tx: &mut XaTx<D>, call: &Call) -> Result<Option<Row>, BoxError> {
        tx.begin(call.operation).await?;
        let XaTx { xa, tx: Some(local), part } = tx else { return Err(NOT_BEGUN.into()) };
        if let Part::Found(_, reply) = part {
            return Ok(Some(Row::Tried { reply: reply.clone() }));
        }
        if call.operation == Operation::Confirm {
            let name = xa.name(local, call).await?;
            if let Some(reply) = find::<D>(local, &name).await? {
                *part = Part::Found(name, reply.clone());
                return Ok(Some(Row::Tried { reply }));
            }
        }
        match D::load(local, call).await? {
            Some(Row::Tried { .. }) => {
                Err("the branch was tried, and committed without being prepared".into())
            }
            row => Ok(row),
        }
    }

    async fn set(tx: &mut XaTx<D>, call: &Call, row: &Row) -> Result<(), BoxError> {
        let XaTx { xa, tx: Some(local), part } = tx else { return Err(NOT_BEGUN.into()) };
        let decision = match (&*part, row) {
            (Part::Plain, _) => return D::set(local, call, row).await,
            (Part::Trying(name), Row::Tried { reply }) => {
                // As it is if this is ever committed. A method that has committed by itself leaves it `tried`.
                D::set(local, call, &Row::Confirmed { reply: reply.clone() }).await?;
                return Ok(xa.note(name, call, reply.as_deref()).await?);
            }
            (Part::Found(..), Row::Confirmed { .. }) => Decision::Confirm,
            (Part::Found(..), Row::Cancelled) => Decision::Cancel,
            (Part::Trying(_) | Part::Found(..) | Part::Ending(..), _) => {
                return Err(format!("a branch that is prepared cannot become {row}").into());
            }
        };
        if let Part::Found(name, _) = part {
            *part = Part::Ending(name.clone(), Box::new(call.clone()), decision);
        }
        Ok(())
    }

    async fn commit(tx: XaTx<D>) -> Result<Commit, BoxError> {
        let XaTx { xa, tx: Some(local), part } = tx else { return Err(NOT_BEGUN.into()) };
        match part {
            Part::Plain | Part::Found(..) => D::commit(local).await,
            Part::Trying(name) => D::prepare(local, &name).await,
            Part::Ending(name, call, decision) => {
                if !D::end(local, &name, decision).await? {
                    return Ok(Commit::Conflict);
                }
                match decision {
                    Decision::Confirm => Ok(Commit::Committed),
                    Decision::Cancel => xa.bar(*call).await,
                }
            }
        }
    }

    async fn rollback(tx: XaTx<D>) -> Result<(), BoxError> {
        match (tx.tx, tx.part) {
            (None, _) => Ok(()),
            (Some(local), Part::Trying(_)) => D::undo(local).await,
            (Some(local), Part::Plain | Part::Found(..) | Part::Ending(..)) => D::rollback(local).await,
        }
    }

    async fn settled(tx: &mut XaTx<D>) -> Result<Option<Timestamp>, BoxError> {
        D::settled(tx.local().ok_or(NOT_BEGUN)?).await
    }

    /// Notes go as the rows do, but for those of what is still prepared: that is to be found by its gid.
    async fn forget(tx: &mut XaTx<D>, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        tx.begin(Operation::Confirm).await?;
        let XaTx { xa, tx: Some(local), .. } = tx else { return Err(NOT_BEGUN.into()) };
        let forgotten = D::forget(local, settled, most).await?;
        let mut old = format!("begun < {}", settled.as_millis());
        let place = xa.place(local).await?;
        for (name, _) in D::prepared(local, &place).await? {
            write!(old, " AND name <> '{name}'")?;
        }
        D::execute(local, D::DIALECT.delete("tcc_prepared", &old, most)).await?;
        Ok(forgotten)
    }

    fn trouble(error: &BoxError) -> Trouble {
        D::trouble(error)
    }
}

const NOT_BEGUN: &str = "the local transaction has not begun";

impl<D: XaDatabase> XaTx<D> {
    /// The local transaction of the database itself; `None` before the guard's first statement. What is written through it
    /// while a branch is confirmed or cancelled is taken back.
    pub const fn local(&mut self) -> Option<&mut D::Tx> {
        self.tx.as_mut()
    }

    async fn begin(&mut self, operation: Operation) -> Result<(), BoxError> {
        if self.tx.is_none() {
            let database = match operation {
                Operation::Try => &self.xa.tries,
                Operation::Confirm | Operation::Cancel | Operation::Check => &self.xa.beside,
            };
            self.tx = Some(database.begin().await?);
        }
        Ok(())
    }
}

/// `Some`: a try is prepared under this name; with what it replied.
async fn find<D: XaDatabase>(tx: &mut D::Tx, name: &XaName) -> Result<Option<Option<String>>, BoxError> {
    let (text, place) = (name.to_string(), &name.place);
    if !D::prepared(tx, place).await?.iter().any(|(name, _)| *name == text) {
        return Ok(None);
    }
    let note = D::query(tx, format!("SELECT kept FROM tcc_prepared WHERE name = '{text}'")).await?;
    Ok(Some(note.into_iter().flatten().next().flatten()))
}

/// What is prepared under a name, with what its note says.
async fn noted<D: XaDatabase>(
    tx: &mut D::Tx,
    name: String,
    age: Option<Duration>,
) -> Result<Prepared, BoxError> {
    let since = D::DIALECT.number(&format!("{} - noted", D::DIALECT.now()));
    let note = format!("SELECT gid, branch, {since} FROM tcc_prepared WHERE name = '{name}'");
    let note: [Option<String>; 3] = match D::query(tx, note).await?.pop() {
        Some(note) => note.try_into().map_err(|_| "a note has three columns")?,
        None => [None, None, None],
    };
    let [gid, branch, since] = note;
    let since = since.map(|millis| millis.parse::<i64>()).transpose()?;
    let since = since.map(|millis| Duration::from_millis(millis.max(0).unsigned_abs()));
    let (gid, branch) = (gid.map(|gid| gid.parse()).transpose()?, branch.map(|id| id.parse()).transpose()?);
    Ok(Prepared { name, gid, branch, age: age.or(since) })
}

impl XaName {
    /// What stands before the last colon.
    #[must_use]
    pub fn bqual(&self) -> &str {
        &self.place
    }

    /// What follows the last colon.
    #[must_use]
    pub fn gtrid(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for XaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.place, self.key)
    }
}

impl<D> fmt::Debug for Xa<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Xa").field(&self.place.get()).finish()
    }
}
