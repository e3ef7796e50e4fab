//! Breadth first, every state: so the first violation that is found has a shortest story.

use std::time::{Duration, Instant};

use crate::action::Action;
use crate::fair::{self, Next};
use crate::graph::{Graph, Index, NONE};
use crate::model::{Broken, Model};
use crate::shape::Budget;
use crate::story;
use crate::world::World;

/// What one run found.
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) steps: u64,
    pub(crate) depth: usize,
    pub(crate) took: Duration,
    pub(crate) violation: Option<Violation>,
}

/// A broken promise and how it came about.
pub(crate) struct Violation {
    pub(crate) broken: Broken,
    /// One line per step.
    pub(crate) story: Vec<String>,
}

/// A run under way.
struct Run<'m> {
    model: &'m mut Model,
    graph: Graph,
    /// For each state the one that follows once faults stop; itself where there is nothing to do.
    onward: Vec<Index>,
    steps: u64,
    depth: usize,
}

/// Explores every state that can be reached with these faults.
pub(crate) fn explore(model: &mut Model, budget: Budget) -> Found {
    let began = Instant::now();
    let mut run = Run { model, graph: Graph::new(), onward: Vec::new(), steps: 0, depth: 0 };
    let violation =
        run.all_states(budget).or_else(|| run.everything_ends()).or_else(|| run.nothing_was_missed());
    Found { states: run.graph.len(), steps: run.steps, depth: run.depth, took: began.elapsed(), violation }
}

impl Run<'_> {
    fn all_states(&mut self, budget: Budget) -> Option<Violation> {
        self.graph.insert(World::new(budget).in_order().0, NONE);
        let mut actions = Vec::new();
        let (mut at, mut level_ends) = (0, 1);
        while (at as usize) < self.graph.len() {
            if at as usize == level_ends {
                level_ends = self.graph.len();
                self.depth += 1;
            }
            let state = *self.graph.state(at);
            Action::all(&state, self.model.shape, &mut actions);
            for action in &actions {
                match self.model.step(&state, *action) {
                    Ok(None) => {}
                    Ok(Some(after)) => {
                        self.steps += 1;
                        self.graph.insert(after.in_order().0, at);
                    }
                    Err(broken) => return Some(self.violation(at, Some(*action), broken)),
                }
            }
            match self.onward_from(at, &state) {
                Ok(next) => self.onward.push(next),
                Err(broken) => return Some(self.violation(at, None, broken)),
            }
            at += 1;
        }
        None
    }

    fn onward_from(&mut self, at: Index, state: &World) -> Result<Index, Broken> {
        let stuck = |how: String| Broken { promise: "C9", how };
        match fair::next(self.model, state) {
            Next::Ended => Ok(at),
            Next::Stuck => Err(stuck("there is something to do, and nobody does it".to_owned())),
            Next::Step(action) => match self.model.step(state, action)? {
                Some(after) => Ok(self.graph.insert(after.in_order().0, at)),
                None => Err(stuck(format!("it should go on with {action:?}, and cannot"))),
            },
        }
    }

    /// Follows every state's way on to its end.
    fn everything_ends(&mut self) -> Option<Violation> {
        let mut ends = vec![false; self.onward.len()];
        let mut way = Vec::new();
        for first in 0..self.onward.len() {
            let mut at = first;
            way.clear();
            while !ends[at] && self.onward[at] as usize != at {
                way.push(at);
                at = self.onward[at] as usize;
                if way.len() > self.onward.len() {
                    let how = "faults have stopped, and the same states come again and again".to_owned();
                    return Some(self.violation(first as Index, None, Broken { promise: "C9", how }));
                }
            }
            ends[at] = true;
            way.iter().for_each(|state| ends[*state] = true);
        }
        None
    }

    /// Asks whether what drivers forgot would have mattered.
    fn nothing_was_missed(&mut self) -> Option<Violation> {
        let broken = self.model.forgotten.check(&mut self.model.documents).err()?;
        Some(Violation { broken, story: Vec::new() })
    }

    fn violation(&mut self, at: Index, last: Option<Action>, broken: Broken) -> Violation {
        let way: Vec<World> =
            self.graph.way_to(at).into_iter().map(|index| *self.graph.state(index)).collect();
        Violation { broken, story: story::tell(self.model, &way, last) }
    }
}
