//! What a run came to, for people and for programs.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use tcc_client::Decision;

use super::books::{Books, Check, Outcome, audit};
use super::event::{Event, Moment, What, Who};
use super::plan::Plan;
use super::screen::Screen;
use crate::order::Style;

/// All that is known when a run is over.
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    pub(super) before: Books,
    pub(super) after: Books,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) events: Vec<Event>,
    pub(super) coordinator_kills: u32,
    pub(super) participant_kills: u32,
}

/// A run in numbers.
#[derive(Serialize)]
struct Line {
    orders: usize,
    confirmed: usize,
    cancelled: usize,
    unfinished: usize,
    coordinator_kills: u32,
    participant_kills: u32,
    /// Cents, as those below.
    money_before: i64,
    money_after: i64,
    /// Pieces, as those below.
    stock_before: i64,
    stock_after: i64,
    /// Cents that are frozen and pieces that are reserved.
    reserved_after: i64,
}

impl Report<'_> {
    /// The one line for programs.
    pub(super) fn json(&self) -> String {
        let decided = |decision| self.outcomes.iter().filter(|outcome| outcome.ended() == decision).count();
        let line = Line {
            orders: self.outcomes.len(),
            confirmed: decided(Some(Decision::Confirm)),
            cancelled: decided(Some(Decision::Cancel)),
            unfinished: decided(None),
            coordinator_kills: self.coordinator_kills,
            participant_kills: self.participant_kills,
            money_before: self.before.money(),
            money_after: self.after.money(),
            stock_before: self.before.goods(),
            stock_after: self.after.goods(),
            reserved_after: self.after.frozen() + self.after.reserved(),
        };
        serde_json::to_string(&line).expect("a struct of numbers is JSON")
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        audit(&self.before, &self.after, &self.outcomes)
    }

    pub(super) fn print(&self, screen: &Screen) {
        self.timeline(screen);
        self.outcomes(screen);
        self.books(screen);
        self.calls(screen);
        for Check { says, holds } in self.checks() {
            let mark = if holds { screen.ink.green("✔") } else { screen.ink.red("✘ not true:") };
            screen.say(&format!("  {mark} {says}"));
        }
    }

    /// The order during which the coordinator was killed after it had decided to confirm.
    fn timeline(&self, screen: &Screen) {
        let is_it = |scene: &&super::plan::Scene| {
            scene.victim == Who::Coordinator && scene.hold.operation == "confirm"
        };
        let Some(scene) = self.plan.scenes.iter().find(is_it) else { return };
        let mut events: Vec<&Event> =
            self.events.iter().filter(|event| event.gid == scene.hold.gid).collect();
        events.sort_by_key(|event| event.at);
        let Some(begun) = events.first().map(|event| event.at) else { return };
        let title = format!("{}: the coordinator is killed {}", scene.hold.gid, scene.told);
        screen.say(&format!("\n{}\n", screen.ink.bold(&title)));
        let mut calls = HashSet::new();
        for event in events {
            let (ms, who) = ((event.at - begun) as f64 / 1000.0, event.who.name());
            let what = match &event.what {
                What::Customer(what) => what.clone(),
                What::Answered { operation, answer } if calls.insert((event.who, operation)) => {
                    format!("{operation} → {answer}")
                }
                What::Answered { operation, answer } => format!("{operation}, once more → {answer}"),
                What::Held { operation, moment: Moment::Before } => {
                    format!("{operation} arrives, and the demo holds it back")
                }
                What::Held { operation, moment: Moment::After } => {
                    format!("{operation} is committed, and the demo holds the answer back")
                }
                What::Stands(phase) => format!("asked, it says: {}", screen.ink.bold(phase)),
                What::Killed => screen.ink.red("SIGKILL"),
                What::Back => screen.ink.green("back, on the same port with the same log"),
            };
            screen.say(&format!("  {} {who:<11}  {what}", screen.ink.dim(&format!("{ms:7.1} ms "))));
        }
    }

    fn outcomes(&self, screen: &Screen) {
        let mut rows: BTreeMap<(u8, String), [usize; 2]> = BTreeMap::new();
        for outcome in &self.outcomes {
            let row = match outcome.ended() {
                Some(Decision::Confirm) => (0, "confirmed".to_owned()),
                Some(Decision::Cancel) => (1, format!("cancelled: {}", outcome.reason)),
                None => (2, "unfinished".to_owned()),
            };
            rows.entry(row).or_default()[usize::from(outcome.order.style == Style::Submitted)] += 1;
        }
        let head =
            format!("{:<52}{:>9}{:>11}{:>7}", "What became of the orders", "closure", "submitted", "all");
        screen.say(&format!("\n{}\n", screen.ink.bold(&head)));
        for ((_, row), [closure, submitted]) in rows {
            screen.say(&format!("  {row:<50}{closure:>9}{submitted:>11}{:>7}", closure + submitted));
        }
    }

    /// How often it mattered that a call made twice is done once.
    fn calls(&self, screen: &Screen) {
        let answered = self.events.iter().filter_map(|event| match &event.what {
            What::Answered { operation, .. } => Some((event.who, operation, &event.gid)),
            What::Customer(_) | What::Held { .. } | What::Stands(_) | What::Killed | What::Back => None,
        });
        let calls: Vec<_> = answered.collect();
        let again = calls.len() - calls.iter().collect::<HashSet<_>>().len();
        let kills = self.coordinator_kills + self.participant_kills;
        let line =
            format!("{kills} kills; {} calls of participants answered, {again} of them repeats", calls.len());
        screen.say(&format!("\n  {line}"));
    }

    fn books(&self, screen: &Screen) {
        let head = format!("{:<38}{:>20}{:>21}", "The books", "before", "after");
        screen.say(&format!("\n{}\n", screen.ink.bold(&head)));
        let row = |name: &str, number: &dyn Fn(&Books) -> String| {
            let (before, after) = (number(&self.before), number(&self.after));
            screen.say(&format!("  {name:<36}{before:>20}{after:>21}"));
        };
        row("money   with customers, available", &|b| money(b.money() - b.shop() - b.frozen()));
        row("        with customers, frozen", &|b| money(b.frozen()));
        row("        with the shop", &|b| money(b.shop()));
        row("        in all", &|b| money(b.money()));
        row("goods   on the shelf", &|b| (b.goods() - b.reserved() - b.sold()).to_string());
        row("        reserved", &|b| b.reserved().to_string());
        row("        sold", &|b| b.sold().to_string());
        row("        in all", &|b| b.goods().to_string());
    }
}

/// Cents, as people write them.
pub(super) fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
