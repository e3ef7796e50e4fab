//! Plays the steps of a case on a real database, and holds what is heard and found there against the model.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tcc_client::{Database, Trouble};
use tokio::time::timeout;

use super::broken::{Broken, Mistake};
use super::death;
use super::steps::Step;
use super::world::{Ask, Cleaning, Doing, Heard, Mark, Payload, World};
use crate::banks::Bank;
use crate::cleaning::forget;
use crate::flaky::{Fate, Flaky};
use crate::payment::Caller;

/// Far more than any call takes, on a slow machine too.
const STUCK: Duration = Duration::from_secs(60);

/// A participant with two processes on one database.
pub(super) struct Stage<B: Bank> {
    replicas: Vec<B>,
    mistake: Option<Mistake>,
    world: World,
    calls: u32,
    pub(super) tally: Tally,
}

/// What a campaign has been through, to see that it was not idle.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) cases: u32,
    pub(super) steps: u32,
    /// Answers by their code, `nothing` where the caller had left.
    pub(super) heard: BTreeMap<String, u32>,
    pub(super) deaths: u32,
    pub(super) clean_ups: u32,
}

/// A way in which the database is not, or said not, what the model allows.
#[derive(Debug)]
pub(super) struct Violation(String);

impl Violation {
    pub(super) const WORD: &str = "violated at step";
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Self::WORD, self.0)
    }
}

impl<B: Bank> Stage<B> {
    pub(super) async fn new(bank: B, mistake: Option<Mistake>) -> Self {
        let other = B::at(&bank.place()).await;
        let world = World::new(B::PREPARES);
        Self { replicas: vec![bank, other], mistake, world, calls: 0, tally: Tally::default() }
    }

    /// Plays a case from the beginning of the world.
    pub(super) async fn play(
        &mut self,
        steps: &[Step],
        mut before_each: impl FnMut(),
    ) -> Result<(), Violation> {
        self.reset().await;
        self.tally.cases += 1;
        for (place, step) in steps.iter().enumerate() {
            before_each();
            self.tally.steps += 1;
            let played = match step {
                Step::Calls(asks) => self.calls(asks).await,
                Step::Twice(ask) => self.twice(ask).await,
                Step::Dies(asks, at) => self.dies(asks, *at).await,
                Step::Restart => self.restart().await,
                Step::Settle(cleaning, asks) => self.settle(*cleaning, asks).await,
            };
            played.map_err(|Violation(how)| Violation(format!("{place}, {step:?}: {how}")))?;
        }
        Ok(())
    }

    async fn reset(&mut self) {
        self.replicas[0].clear().await;
        self.world = World::new(B::PREPARES);
        for (name, books) in &self.world.accounts {
            self.replicas[0].fund(name, books.free).await;
        }
    }

    fn numbered(&mut self, asks: &[Ask]) -> Vec<Ask> {
        let number = |ask: &Ask| {
            self.calls += 1;
            Ask { number: self.calls, ..ask.clone() }
        };
        asks.iter().map(number).collect()
    }

    /// Whatever befell the first, the second finds it as it is.
    async fn twice(&mut self, ask: &Ask) -> Result<(), Violation> {
        self.calls(std::slice::from_ref(ask)).await?;
        self.calls(&[Ask { fate: Fate::Well, ..ask.clone() }]).await
    }

    async fn calls(&mut self, asks: &[Ask]) -> Result<(), Violation> {
        let asks = self.numbered(asks);
        let all = self.heard(&asks, None).await?;
        self.judge(&asks, &all, None).await
    }

    /// What each of these calls is answered, made at once and during this clean-up.
    async fn heard(
        &mut self,
        asks: &[Ask],
        cleaning: Option<Cleaning>,
    ) -> Result<Vec<Option<Heard>>, Violation> {
        let mut calls = Vec::new();
        for ask in asks {
            calls.push((self.bank(ask.fate, ask.replica).await, ask.clone()));
        }
        let cleaning = match cleaning {
            Some(cleaning) => {
                let bank = self.bank(cleaning.fate, 0).await;
                self.tally.clean_ups += 1;
                tokio::spawn(clean(bank, cleaning))
            }
            None => tokio::spawn(async {}),
        };
        let begun: Vec<_> = calls.into_iter().map(|(bank, ask)| tokio::spawn(heard(bank, ask))).collect();
        let mut all = Vec::new();
        for asking in begun {
            let heard = timeout(STUCK, asking).await.map_err(|_| Violation("a call is stuck".into()))?;
            let heard = heard.expect("no call panics");
            let word = heard.as_ref().map_or("nothing", Heard::word).to_owned();
            *self.tally.heard.entry(word).or_default() += 1;
            all.push(heard);
        }
        let cleaned = timeout(STUCK, cleaning).await.map_err(|_| Violation("a clean-up is stuck".into()))?;
        cleaned.expect("no clean-up panics");
        Ok(all)
    }

    async fn bank(&self, fate: Fate, replica: usize) -> Broken<B> {
        // That kill may come late, and must not meet whoever is given the connection next.
        let bank = if fate == Fate::KilledCommitting {
            B::at(&self.replicas[0].place()).await
        } else {
            self.replicas[replica].clone()
        };
        Broken::new(&bank, self.mistake)
    }

    /// Calls to a third process, which dies with what it has not committed.
    async fn dies(&mut self, asks: &[Ask], at: usize) -> Result<(), Violation> {
        let asks: Vec<_> =
            self.numbered(asks).into_iter().map(|ask| Ask { fate: Fate::HungUp, ..ask }).collect();
        let served = self.replicas[0].served().await;
        death::of_another_process(&self.replicas[0], &asks, at);
        let over = async {
            // A server goes on with what it had received, a commit perhaps.
            while !self.replicas[0].served().await.is_subset(&served) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(STUCK, over).await.map_err(|_| Violation("the dead do not leave".into()))?;
        self.tally.deaths += 1;
        self.judge(&asks, &vec![None; asks.len()], None).await
    }

    async fn restart(&mut self) -> Result<(), Violation> {
        let mut old = std::mem::take(&mut self.replicas).into_iter();
        let (first, second) = (old.next().expect("the first"), old.next());
        drop(second);
        let first = first.reopen().await;
        let second = B::at(&first.place()).await;
        self.replicas = vec![first, second];
        self.judge(&[], &[], None).await
    }

    /// As the coordinator does it: what has not ended by then ends first.
    async fn settle(&mut self, cleaning: Cleaning, asks: &[Ask]) -> Result<(), Violation> {
        for key in self.world.unfinished(cleaning.before) {
            let (operation, payload, mark, fate) = (Doing::Cancel, Payload::Plain, Mark::Open, Fate::Well);
            self.calls(&[Ask { key, operation, payload, mark, fate, replica: 0, number: 0 }]).await?;
        }
        let asks = self.numbered(asks);
        let all = self.heard(&asks, Some(cleaning)).await?;
        self.judge(&asks, &all, Some(cleaning)).await
    }

    async fn judge(
        &mut self,
        asks: &[Ask],
        heard: &[Option<Heard>],
        cleaning: Option<Cleaning>,
    ) -> Result<(), Violation> {
        let found = World::read(&self.replicas[1]).await;
        found.is_sound().map_err(Violation)?;
        if !self.world.explains(asks, heard, cleaning, &found) {
            return Err(Violation(format!(
                "no order explains what was heard\n  heard: {heard:?}\n  before: {:?}\n  after: {found:?}",
                self.world
            )));
        }
        self.world = found;
        Ok(())
    }
}

/// Cleans up once, until it was done or interrupted; and waits until nothing is at work for it.
async fn clean<B: Bank>(bank: B, cleaning: Cleaning) {
    let flaky = Flaky::new(&bank);
    flaky.next(cleaning.fate);
    let gone = flaky.gone();
    while let Err(error) = forget(flaky.database(), cleaning.mark(), 1000).await {
        match B::Database::trouble(&error) {
            Trouble::Conflict | Trouble::Locked => {}
            Trouble::Other => assert_ne!(cleaning.fate, Fate::Well, "{error}"),
        }
        if cleaning.fate != Fate::Well {
            break;
        }
    }
    drop(flaky);
    gone.acquire().await.expect("it is never closed").forget();
}

/// Makes one call, until it is answered or its caller is to leave; and waits until nothing is at work for it.
async fn heard<B: Bank>(bank: B, ask: Ask) -> Option<Heard> {
    let flaky = Flaky::new(&bank);
    flaky.next(ask.fate);
    let (begun, gone) = (flaky.begun(), flaky.gone());
    let asking = tokio::spawn(call(flaky, ask.clone()));
    let heard = if ask.fate == Fate::HungUp {
        begun.acquire().await.expect("it is never closed").forget();
        asking.abort();
        // It may have been answered in the meantime; nobody listens.
        drop(asking.await);
        None
    } else {
        Some(asking.await.expect("no call panics"))
    };
    gone.acquire().await.expect("it is never closed").forget();
    heard
}

/// Makes one call, until it is answered.
pub(super) async fn call<B: Bank>(bank: B, ask: Ask) -> Heard {
    let (gid, branch) = ask.key.names();
    let caller = Caller::new(&bank);
    let begun = ask.key.begun();
    let settled = match ask.mark {
        Mark::Absent => None,
        Mark::Open => Some(begun),
        Mark::Settled => Some(begun + 1),
    };
    let caller = Caller { branch, begun, settled, timeout: STUCK, ..caller };
    Heard::of(&caller.insist(ask.operation.operation().as_str(), &gid, ask.body(B::PREPARES)).await)
}
