//! What the services have written down, and whether it is what was decided.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tcc_client::{Decision, Operation, Phase};

use crate::Broken;
use crate::host::Host;
use crate::plan::Plan;
use crate::work::{INITIAL, Sums};

/// The open books of one service.
pub struct Books {
    connection: Connection,
    /// The last line of the ledger that was read.
    read: i64,
}

/// A line of a ledger: the service, the branch and the operation.
type Line = (usize, String, String);

/// What stands in the ledgers, by gid, and is not checked yet.
#[derive(Debug, Default)]
struct Ledger {
    lines: HashMap<String, Vec<Line>>,
    /// What was given up: a call of it may arrive yet, once.
    given_up: HashSet<(String, Line)>,
}

impl Books {
    /// Opens the books of a service.
    ///
    /// # Errors
    /// When there are none.
    pub fn open(file: &Path) -> Result<Self, Broken> {
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|e| unreadable(&e))?;
        connection.busy_timeout(Duration::from_secs(20)).map_err(|e| unreadable(&e))?;
        Ok(Self { connection, read: 0 })
    }

    fn sums(&self) -> rusqlite::Result<Sums> {
        let sql = "SELECT available, frozen, incoming, on_hand, held, sold FROM books";
        self.connection.query_row(sql, [], |row| {
            Ok(Sums {
                available: row.get(0)?,
                frozen: row.get(1)?,
                incoming: row.get(2)?,
                on_hand: row.get(3)?,
                held: row.get(4)?,
                sold: row.get(5)?,
            })
        })
    }

    /// The lines that were written since this was last asked.
    fn new_lines(&mut self) -> rusqlite::Result<Vec<(String, String, String)>> {
        let sql = "SELECT id, gid, branch, operation FROM ledger WHERE id > ?1 ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let lines = statement.query_map([self.read], |row| {
            Ok((row.get::<_, i64>(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)))
        })?;
        let lines: Vec<(i64, _)> = lines.collect::<Result<_, _>>()?;
        self.read = lines.last().map_or(self.read, |(id, _)| *id);
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }

    fn guard(&self, gid: &str, branch: &str) -> rusqlite::Result<Option<String>> {
        let sql = "SELECT state FROM tcc_guard WHERE gid = ?1 AND branch = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([gid, branch])?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }
}

impl Ledger {
    fn add(&mut self, gid: String, line: Line) {
        let entry = (gid, line);
        if !self.given_up.remove(&entry) {
            let (gid, line) = entry;
            self.lines.entry(gid).or_default().push(line);
        }
    }
}

/// The books of both services, and what should be in them.
pub struct Audit {
    books: [Books; 2],
    ledger: Ledger,
    expected: [Sums; 2],
    /// How many transactions were found in order.
    pub audited: usize,
}

impl Audit {
    /// Of two services that are new.
    ///
    /// # Errors
    /// When their books cannot be opened.
    pub fn new(hosts: &[Host; 2]) -> Result<Self, Broken> {
        let books = [Books::open(&hosts[0].file())?, Books::open(&hosts[1].file())?];
        Ok(Self { books, ledger: Ledger::default(), expected: [INITIAL; 2], audited: 0 })
    }

    /// Checks transactions that have ended, each with its view, and that nothing else happened: every branch did what was
    /// decided, once; nothing is held any more; no money and no goods came or went. Nothing may be under way.
    ///
    /// # Errors
    /// What is not in order.
    pub fn check(&mut self, ended: &[(&Plan, Value)], at_random: bool) -> Result<(), Broken> {
        for (service, books) in self.books.iter_mut().enumerate() {
            for (gid, branch, operation) in books.new_lines().map_err(|e| unreadable(&e))? {
                self.ledger.add(gid, (service, branch, operation));
            }
        }
        for (plan, view) in ended {
            self.check_one(plan, view, at_random)?;
            self.audited += 1;
        }
        // Of those checked earlier none may have another line.
        if let Some((gid, lines)) = self.ledger.lines.iter().next() {
            return Err(format!("{gid} is over, or was never begun, and there is {lines:?}"));
        }
        for (service, books) in self.books.iter().enumerate() {
            let (sums, expected) = (books.sums().map_err(|e| unreadable(&e))?, self.expected[service]);
            if sums != expected {
                return Err(format!("the books of service {service} say {sums:?}, and should {expected:?}"));
            }
        }
        self.conserved()
    }

    /// Checks that there is as much money and goods as ever.
    fn conserved(&self) -> Result<(), Broken> {
        let [one, other] = [
            self.books[0].sums().map_err(|e| unreadable(&e))?,
            self.books[1].sums().map_err(|e| unreadable(&e))?,
        ];
        let all = one.plus(other, 1);
        let money = all.available + all.frozen;
        let goods = all.on_hand + all.held + all.sold;
        let initially = (2 * INITIAL.available, 2 * INITIAL.on_hand);
        if (money, goods) == initially { Ok(()) } else { Err(format!("there is {all:?}")) }
    }

    fn check_one(&mut self, plan: &Plan, view: &Value, at_random: bool) -> Result<(), Broken> {
        let wrong = |what: String| {
            Err(format!("{} ({}/{}): {what}", plan.gid, plan.shape.word(), plan.outcome.word()))
        };
        let word = view["phase"].as_str().unwrap_or_default();
        let phase = Phase::ALL.into_iter().find(|phase| phase.as_str() == word);
        let Some(phase) = phase.filter(|phase| plan.may_end(*phase, at_random)) else {
            return wrong(format!("it should not have ended so: {view}"));
        };
        if view["decision"] != json!(plan.decision().as_str()) {
            return wrong(format!("it should have been decided otherwise: {view}"));
        }
        let mut lines = self.ledger.lines.remove(&plan.gid).unwrap_or_default();
        let local = lines.iter().filter(|(_, branch, _)| plan.is_local(branch)).count();
        let is_local = plan.pays().is_some() && plan.decision() == Decision::Confirm;
        lines.retain(|(_, branch, _)| !plan.is_local(branch));
        if local != usize::from(is_local) {
            return wrong(format!("its local transaction happened {local} times"));
        }
        for branch in &plan.branches {
            let service = plan.service(branch);
            let mut count = |operation: Operation| {
                let before = lines.len();
                lines.retain(|line| *line != (service, branch.id.to_owned(), operation.as_str().to_owned()));
                before - lines.len()
            };
            let counts = [Operation::Try, Operation::Confirm, Operation::Cancel].map(&mut count);
            for ((operation, least, most), count) in
                plan.entries(branch, phase, counts[0]).into_iter().zip(counts)
            {
                if branch.ladder && count < most {
                    let line = (service, branch.id.to_owned(), operation.as_str().to_owned());
                    self.ledger.given_up.insert((plan.gid.clone(), line));
                }
                if !(least..=most).contains(&count) {
                    return wrong(format!("{} had its {operation} {count} times; {view}", branch.id));
                }
            }
            let guard = self.books[service].guard(&plan.gid, branch.id).map_err(|e| unreadable(&e))?;
            if !guard_fits(guard.as_deref(), counts) {
                return wrong(format!("the guard of {} says {guard:?} after {counts:?}", branch.id));
            }
        }
        if !lines.is_empty() {
            return wrong(format!("there is also {lines:?}"));
        }
        for (expected, net) in self.expected.iter_mut().zip(plan.net(plan.decision())) {
            *expected = expected.plus(net, 1);
        }
        Ok(())
    }
}

/// Whether a guard row says what the ledger does. What is only delivered has none.
fn guard_fits(guard: Option<&str>, [tries, confirms, cancels]: [usize; 3]) -> bool {
    match guard {
        None => tries == 0 && cancels == 0,
        Some("tried") => tries == 1 && confirms + cancels == 0,
        Some("refused") => tries + confirms + cancels == 0,
        Some("confirmed") => tries == 1 && confirms == 1 && cancels == 0,
        Some("cancelled") => tries == cancels && confirms == 0,
        Some(_) => false,
    }
}

fn unreadable(error: &rusqlite::Error) -> Broken {
    format!("the books cannot be read: {error}")
}
