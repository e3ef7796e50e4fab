//! A way through the states as a story, one line per step.

use tcc_core::Operation;

use crate::action::{Action, Answer, Commit};
use crate::document::{Clock, Standing};
use crate::fair::{self, Next};
use crate::guard::Mood;
use crate::model::Model;
use crate::shape::CHECK;
use crate::world::{Local, Request, World};

const BRANCHES: [&str; 4] = ["a", "b", "c", "the initiator"];

/// Tells the way through these states, and the step after the last of them.
pub(crate) fn tell(model: &mut Model, way: &[World], last: Option<Action>) -> Vec<String> {
    let mut names = ["node 1", "node 2"];
    let mut lines = Vec::new();
    for pair in way.windows(2) {
        let Some((action, after, swapped)) = step_between(model, &pair[0], &pair[1]) else {
            lines.push("?".to_owned());
            continue;
        };
        lines.push(line(model, &pair[0], action, names) + &what_changed(model, &pair[0], &after, names));
        if swapped {
            names.swap(0, 1);
        }
    }
    if let (Some(state), Some(action)) = (way.last(), last) {
        lines.push(line(model, state, action, names));
    }
    lines.iter().enumerate().map(|(i, line)| format!("{:3}. {line}", i + 1)).collect()
}

fn step_between(model: &mut Model, before: &World, after: &World) -> Option<(Action, World, bool)> {
    let mut actions = Vec::new();
    Action::all(before, model.shape, &mut actions);
    if let Next::Step(action) = fair::next(model, before) {
        actions.push(action);
    }
    actions.into_iter().find_map(|action| {
        let reached = model.step(before, action).ok().flatten()?;
        let (ordered, swapped) = reached.in_order();
        (ordered == *after).then_some((action, reached, swapped))
    })
}

fn line(model: &Model, world: &World, action: Action, names: [&str; 2]) -> String {
    match action {
        Action::End(Local::Committed) => "the initiator's local transaction commits".to_owned(),
        Action::End(Local::RolledBack | Local::Open) => {
            "the initiator's local transaction rolls back".to_owned()
        }
        Action::Try(i, _) => format!("the initiator tries {}, and is told", BRANCHES[i]),
        Action::Arrive(i, operation, mood) => {
            format!(
                "a {operation} arrives at {}{}; nobody waits for its answer",
                BRANCHES[i],
                mood_text(mood, operation)
            )
        }
        Action::Take(request, clock, commit, answer) => {
            let (request, at) = (request_text(request), clock_text(world, clock));
            format!("a node follows {request}{at}{}{}", commit_text(commit), answer_text(answer))
        }
        Action::Offer(answer) => {
            let request = world.offered.map_or("", |offered| request_text(offered.request));
            format!("the node that followed {request} offers its write again{}", answer_text(answer))
        }
        Action::Claim(n) => format!("{} claims the transaction", names[n]),
        Action::Call(n, place) => format!("{} calls {}", names[n], BRANCHES[place]),
        Action::Receive(n, place, mood, clock, commit) => {
            let operation = world.nodes[n].slots[place].operation().unwrap_or(Operation::Check);
            let (mood, at) = (mood_text(mood, operation), clock_text(world, clock));
            format!(
                "{}'s {operation} is answered by {}{mood}{at}{}",
                names[n],
                BRANCHES[place],
                commit_text(commit)
            )
        }
        Action::Lose(n, place, clock, commit) => {
            let at = clock_text(world, clock);
            format!("{} waits no longer for {}{at}{}", names[n], BRANCHES[place], commit_text(commit))
        }
        Action::Expire(n, commit) => format!("{} acts on the deadline{}", names[n], commit_text(commit)),
        Action::Settle(n, clock, commit) => {
            let (at, commit) = (clock_text(world, clock), commit_text(commit));
            format!("{} goes on with what it learned{at}{commit}", names[n])
        }
        Action::WriteBack(n, commit) => {
            format!("{} writes back what it holds{}", names[n], commit_text(commit))
        }
        Action::LetGo(n) => format!("{} lets go of the transaction", names[n]),
        Action::Crash(n) => format!("{} crashes and is started anew", names[n]),
        Action::Pass => "the deadline passes".to_owned(),
        Action::Purge => format!("the store purges the transaction ({:?})", model.phase(world.row)),
    }
}

fn what_changed(model: &Model, before: &World, after: &World, names: [&str; 2]) -> String {
    let mut text = String::new();
    if before.row != after.row {
        text += &format!("; the store holds {:?}", model.phase(after.row));
    }
    for (n, name) in names.iter().enumerate() {
        let (old, new) = (&before.nodes[n], &after.nodes[n]);
        if new.held != 0 && (old.held != new.held || old.standing != new.standing) {
            let how = match new.standing {
                Standing::Fresh => "",
                Standing::Stale => ", stale",
                Standing::Mine => ", not knowing that it is stored",
                Standing::Overtaken => ", overtaken",
            };
            text += &format!("; {name} holds {:?}{how}", model.phase(new.held));
        }
    }
    for (i, (old, new)) in before.parties.iter().zip(&after.parties).enumerate() {
        if old != new {
            text += &format!("; {} is {:?}", BRANCHES[i], new.row);
        }
    }
    text
}

fn clock_text(world: &World, clock: Clock) -> &'static str {
    match (world.late, clock) {
        (true, Clock::Early) => ", its clock being behind",
        (false, Clock::Early) | (_, Clock::Late) => "",
    }
}

const fn answer_text(answer: Answer) -> &'static str {
    match answer {
        Answer::Heard => ", and the initiator hears it",
        Answer::Lost => "",
    }
}

const fn commit_text(commit: Commit) -> &'static str {
    match commit {
        Commit::Known => "",
        Commit::Written => "; its commit is unknown, written, and it is started anew",
        Commit::Unwritten => "; its commit is unknown, not written, and it is started anew",
        Commit::Offered => "; its commit is unknown, written, and it will offer it again",
    }
}

fn mood_text(mood: Mood, operation: Operation) -> &'static str {
    match mood {
        Mood::Refuses if matches!(operation, Operation::Try | Operation::Check) => ", which refuses",
        Mood::Before => ", which had accepted before it was cancelled",
        Mood::Busy => ", which is busy",
        Mood::Accepts | Mood::Refuses => "",
    }
}

const fn request_text(request: Request) -> &'static str {
    match request {
        Request::Begin => "the begin",
        Request::Register(0) => "the register of a",
        Request::Register(_) => "the register of b",
        Request::ConfirmFirst => "a confirm that names a alone",
        Request::ConfirmAll => "the confirm",
        Request::Cancel => "the cancel",
        Request::Acknowledge => "an operator's note of what calls for a human",
    }
}

const _: () = assert!(BRANCHES.len() == CHECK + 1);
