//! As many hostile requests as one likes, against a real coordinator, and what must hold after each and at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tcc_core::wire::ProblemCode;
use tokio::task::JoinSet;

use crate::coordinator::Coordinator;
use crate::documented::{By, Said, read};
use crate::exchange::{Answer, End, Heard, Request, exchange};
use crate::hostile::{Case, Kind, ROUTES, Shown, Subject, case, is_open};
use crate::participant::{Asked, Participant, Reaction, answer};
use crate::secrets::{NOT_IN_LOGS, REPLY, found};

/// The most memory that the coordinator may use in the end, in KiB: its caches, and nothing that grows with the cases.
const MEMORY: u64 = 400 * 1024;

/// What is to be done.
pub struct Campaign {
    /// This package's program.
    pub program: PathBuf,
    /// Draws everything.
    pub seed: u64,
    /// How many cases.
    pub cases: u64,
    /// Only this case.
    pub only: Option<u64>,
    /// How many at once.
    pub at_once: usize,
}

/// What happened.
#[derive(Default)]
pub struct Tally {
    /// Cases by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// Cases by operation.
    pub routes: BTreeMap<usize, u64>,
    /// Answers by what they are.
    pub answers: BTreeMap<String, u64>,
    /// Calls that participants got from transactions that were taken.
    pub calls: usize,
    /// The coordinators' memory in the end, in KiB.
    pub memory: Vec<u64>,
    /// Bytes of logs that were searched.
    pub logged: usize,
    /// The promises that were broken.
    pub broken: Vec<Broken>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        other.kinds.into_iter().for_each(|(kind, n)| *self.kinds.entry(kind).or_default() += n);
        other.routes.into_iter().for_each(|(route, n)| *self.routes.entry(route).or_default() += n);
        other.answers.into_iter().for_each(|(said, n)| *self.answers.entry(said).or_default() += n);
        self.calls += other.calls;
        self.memory.extend(other.memory);
        self.logged += other.logged;
        self.broken.extend(other.broken);
    }

    /// What should have happened and never did.
    #[must_use]
    pub fn never(&self) -> Vec<String> {
        let kinds = Kind::ALL.iter().filter(|kind| !self.kinds.contains_key(kind)).map(|kind| kind.word());
        let routes = (0..ROUTES.len()).filter(|route| !self.routes.contains_key(route)).map(|i| ROUTES[i].1);
        kinds.chain(routes).map(ToOwned::to_owned).collect()
    }

    /// Answers that a caller can bring about, and that some thousands of cases should have. The others need a store
    /// in trouble, or another writer.
    #[must_use]
    pub fn unheard(&self) -> Vec<String> {
        let codes = [
            ProblemCode::Malformed,
            ProblemCode::Invalid,
            ProblemCode::Unauthorized,
            ProblemCode::NotFound,
            ProblemCode::MethodNotAllowed,
            ProblemCode::TooLarge,
            ProblemCode::UnsupportedMediaType,
            ProblemCode::UnknownGid,
            ProblemCode::NotAllTried,
            ProblemCode::NotDecided,
        ];
        let codes = codes.iter().map(|code| code.as_str()).chain([
            "201",
            "200",
            "200, a list",
            "400 bare",
            "414 bare",
            "431 bare",
        ]);
        codes.filter(|said| !self.answers.contains_key(*said)).map(ToOwned::to_owned).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, n) in &self.kinds {
            writeln!(f, "{n:>8}  {}", kind.word())?;
        }
        for (route, n) in &self.routes {
            writeln!(f, "{n:>8}  {} {}", ROUTES[*route].0, ROUTES[*route].1)?;
        }
        for (said, n) in &self.answers {
            writeln!(f, "{n:>8}  answered {said}")?;
        }
        writeln!(f, "{:>8}  calls to participants", self.calls)?;
        writeln!(f, "{:>8}  bytes of logs without a secret", self.logged)?;
        for memory in &self.memory {
            writeln!(f, "{memory:>8}  KiB of memory in the end")?;
        }
        Ok(())
    }
}

/// A promise that was broken.
#[derive(Debug)]
pub struct Broken {
    /// The case, if it was one.
    pub case: Option<u64>,
    /// How.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.case {
            Some(case) => write!(f, "case {case}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl Campaign {
    /// Runs it: half of the cases against a coordinator that logs in JSON all that it can, half against one whose log
    /// is made for people.
    pub async fn run(&self) -> Tally {
        let mut tally = Tally::default();
        let half = self.cases / 2;
        for (format, level, numbers) in [("json", "trace", 0..half), ("human", "debug", half..self.cases)] {
            let flags = ["--log", level, "--log-format", format];
            tally.add(self.against(&flags, numbers).await);
        }
        tally
    }

    async fn against(&self, flags: &[&str], mut numbers: std::ops::Range<u64>) -> Tally {
        if let Some(only) = self.only {
            numbers = if numbers.contains(&only) { only..only + 1 } else { 0..0 };
        }
        let coordinator = Arc::new(Coordinator::start(&self.program, flags).await);
        let participant = Participant::start(react).await;
        let next = Arc::new(AtomicU64::new(numbers.start));
        let mut workers = JoinSet::new();
        for _ in 0..self.at_once {
            let (coordinator, next, end) = (coordinator.clone(), next.clone(), numbers.end);
            let (seed, address) = (self.seed, participant.address());
            workers.spawn(async move {
                let mut tally = Tally::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return tally;
                    }
                    let case = case(seed, number, address);
                    if let Err(why) = attack(&coordinator, &case, &mut tally).await {
                        let sent =
                            String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(3000)]).into_owned();
                        let why = format!("{why}\n{:?} at {}\n{sent}", case.kind, ROUTES[case.route].1);
                        tally.broken.push(Broken { case: Some(number), why });
                        // Enough to see what is wrong.
                        if tally.broken.len() > 3 {
                            return tally;
                        }
                    }
                }
            });
        }
        let mut tally = Tally::default();
        while let Some(worker) = workers.join_next().await {
            tally.add(worker.expect("a worker is not stopped and does not panic"));
        }
        tally.calls = participant.asked().len();
        let coordinator = Arc::into_inner(coordinator).expect("all workers have ended");
        if let Err(why) = at_the_end(coordinator, flags, &mut tally).await {
            tally.broken.push(Broken { case: None, why });
        }
        tally
    }
}

/// What must hold when all is over.
async fn at_the_end(coordinator: Coordinator, flags: &[&str], tally: &mut Tally) -> Result<(), String> {
    for probe in ["/livez", "/readyz"] {
        let answer = coordinator.send(&Request::new("GET", probe)).await;
        if answer.status != 200 {
            return Err(format!("{probe} says {}", answer.status));
        }
    }
    let memory = coordinator.memory();
    tally.memory.push(memory);
    if memory > MEMORY {
        return Err(format!("it uses {memory} KiB of memory"));
    }
    let log = coordinator.end().await;
    tally.logged += log.len();
    if let Some(secret) = found(log.as_bytes(), &NOT_IN_LOGS) {
        let line = log.lines().find(|line| line.contains(secret)).unwrap_or_default();
        return Err(format!("the log holds {secret}: {line}"));
    }
    if log.contains("panicked") {
        let at = log.find("panicked").unwrap_or_default();
        return Err(format!("it panicked: {}", log[at..].lines().take(3).collect::<Vec<_>>().join(" ")));
    }
    lines(&log, flags.contains(&"json"))
}

/// Checks that every line of a log was written as one.
///
/// # Errors
/// The line that was not.
pub fn lines(log: &str, json: bool) -> Result<(), String> {
    for line in log.lines() {
        let whole = if json {
            serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string())
        } else {
            // A moment first; a line that begins otherwise was forged.
            line.split_once(' ').is_some_and(|(at, _)| at.len() > 20 && at.ends_with('Z') && at.contains('T'))
        };
        if !whole || line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("a line of the log is none: {line:?}"));
        }
    }
    Ok(())
}

/// Participants that are hostile, too, each call in another way.
fn react(asked: &Asked) -> Reaction {
    let attempt: u64 = asked.header("tcc-attempt").first().and_then(|n| n.parse().ok()).unwrap_or(0);
    let name = asked.header("tcc-gid").concat();
    let drawn = name.bytes().fold(attempt, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let forged = "\\n{\\\"level\\\":\\\"ERROR\\\"}\\u001b[31m forged";
    match drawn % 8 {
        0 => answer(409, "", format!(r#"{{"code":"refused","detail":"{forged}"}}"#)),
        1 => answer(409, "", format!(r#"{{"code":"{forged}","detail":"{REPLY}"}}"#)),
        2 => answer(200, "", format!("[1,\n\n\r\"2026-11-20T00:00:00Z ERROR {REPLY}\"]")),
        3 => answer(200, "", "[".repeat(20_000) + &"]".repeat(20_000)),
        4 => answer(425, "retry-after: 18446744073709551615\r\n", ""),
        5 => answer(503, "retry-after: 0\r\n", REPLY),
        6 => Reaction::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort".to_vec()),
        _ => answer(200, "", format!(r#"{{"reply":"{REPLY}"}}"#)),
    }
}

/// How its transaction stands: the status, the phase and the branches.
type Standing = (u16, Value, Vec<Value>);

async fn standing(coordinator: &Coordinator, subject: &Subject) -> Result<Option<Standing>, String> {
    let Some(gid) = subject.gid() else { return Ok(None) };
    let path = format!("/{}", gid.replace('/', "%2F"));
    let answer = coordinator.ask("GET", &path, None).await;
    match read(&answer, By::Api, false)? {
        Said::View(view) => {
            let ids = view.branches.iter().map(|branch| json!(branch.id)).collect();
            Ok(Some((200, json!(view.phase), ids)))
        }
        Said::Problem(code) => Ok(Some((answer.status, json!(code.as_str()), Vec::new()))),
        other => Err(format!("a look at it is answered {other:?}")),
    }
}

/// Sends a case and checks what comes of it.
async fn attack(coordinator: &Coordinator, case: &Case, tally: &mut Tally) -> Result<(), String> {
    if let Subject::Begun(gid) = &case.subject {
        let begin = json!({"gid": gid, "decider": "initiator", "timeout_ms": 600_000});
        let begun = coordinator.ask("POST", "", Some(&begin)).await;
        if begun.status != 201 {
            return Err(format!("a good begin is answered {} {}", begun.status, begun.text()));
        }
    }
    let before = standing(coordinator, &case.subject).await?;
    let heard = exchange(coordinator.address(), &case.bytes, case.until, case.bodyless).await;
    let heard = heard.map_err(|error| format!("it cannot be reached: {error}"))?;
    *tally.kinds.entry(case.kind).or_default() += 1;
    *tally.routes.entry(case.route).or_default() += 1;
    let said = answers(case, &heard)?;
    for (answer, said) in heard.answers.iter().zip(&said) {
        let word = match said {
            Said::View(_) => answer.status.to_string(),
            Said::Events => format!("{}, events", answer.status),
            Said::Metrics => format!("{}, metrics", answer.status),
            Said::Topics => format!("{}, topics", answer.status),
            Said::List(_) => format!("{}, a list", answer.status),
            Said::Problem(code) => code.as_str().to_owned(),
            Said::Probe => "a probe".to_owned(),
            Said::Bare(status) if case.bodyless => format!("{status} to HEAD"),
            Said::Bare(status) => format!("{status} bare"),
        };
        *tally.answers.entry(word).or_default() += 1;
    }
    if heard.answers.is_empty() {
        *tally.answers.entry("by hanging up".to_owned()).or_default() += 1;
    }
    let after = standing(coordinator, &case.subject).await?;
    stored(case, &heard.answers, &said, before, after)
}

/// What the answers say, if all of them are documented and no more than there may be.
fn answers(case: &Case, heard: &Heard) -> Result<Vec<Said>, String> {
    if heard.end == End::Hangs {
        return Err("it neither answers nor hangs up".to_owned());
    }
    if heard.answers.len() > case.most {
        return Err(format!("it answers {} times, not {}: {heard:?}", heard.answers.len(), case.most));
    }
    if case.by == By::Api && heard.answers.len() < case.most {
        return Err(format!("it does not answer: {heard:?}"));
    }
    let said: Vec<Said> = heard
        .answers
        .iter()
        .map(|answer| read(answer, case.by, case.bodyless).map_err(|why| format!("{why}: {}", answer.status)))
        .collect::<Result<_, _>>()?;
    let probe = |said: &Said| matches!(said, Said::Probe);
    // What was smuggled in asks for a probe, and must not be heard as a request.
    if case.kind == Kind::Smuggled && !is_open(case.route) && said.iter().any(probe) {
        return Err("a request was smuggled in".to_owned());
    }
    let protected = !is_open(case.route);
    let refused = |said: &Said| matches!(said, Said::Problem(ProblemCode::Unauthorized));
    if case.shown == Shown::Wrong && protected && !said.iter().all(refused) {
        return Err(format!("without the right token it says {said:?}"));
    }
    Ok(said)
}

/// Checks that nothing is stored of what was refused, and all of what was taken.
fn stored(
    case: &Case,
    answers: &[Answer],
    said: &[Said],
    before: Option<Standing>,
    after: Option<Standing>,
) -> Result<(), String> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
    let method = ROUTES[case.route].0;
    let view =
        |said: &Said| matches!(said, Said::View(view) if Some(view.gid.as_str()) == case.subject.gid());
    let taken = method == "POST" && case.kind != Kind::Method && said.iter().any(view);
    let unknown = before.0 == 404;
    if taken {
        let whole = match (&case.branches, ROUTES[case.route].1) {
            (Some(ids), "/v1/transactions" | "/v1/transactions/{gid}/branches") => {
                let ids: Vec<Value> = ids.iter().map(|id| json!(id)).collect();
                ids == after.2 || case.kind == Kind::Twice
            }
            _ => true,
        };
        if after.0 != 200 || !whole {
            return Err(format!("it was taken and is not whole: {before:?} became {after:?}"));
        }
        return Ok(());
    }
    if !answers.is_empty() && before != after {
        return Err(format!("it was not taken, and yet {before:?} became {after:?}, {said:?}"));
    }
    // Without an answer it may have been done, but never by halves.
    if unknown && after.0 == 200 && after.2.is_empty() && ROUTES[case.route].1 == "/v1/transactions" {
        return Err(format!("a begin was stored by halves: {after:?}"));
    }
    Ok(())
}

/// How long a campaign may take at the most, for so many cases: beyond it, something hangs.
#[must_use]
pub fn patience(cases: u64) -> Duration {
    Duration::from_secs(60)
        + Duration::from_millis(20).saturating_mul(u32::try_from(cases).unwrap_or(u32::MAX))
}
