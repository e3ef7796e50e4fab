//! The states met so far, whole and compared whole: no two are ever taken for one because their hashes agree.

use std::hash::{Hash, Hasher};

use crate::mixer::Mixer;
use crate::world::World;

/// The number of a state.
pub(crate) type Index = u32;

/// Where the graph ends, in place of a number.
pub(crate) const NONE: Index = Index::MAX;

const CHUNK_BITS: u32 = 16;
const CHUNK: usize = 1 << CHUNK_BITS;

/// The states and how each was reached first.
pub(crate) struct Graph {
    /// In pieces, so that growing copies nothing.
    states: Vec<Vec<World>>,
    /// The state each was first reached from, which is on a shortest way to it.
    parents: Vec<Index>,
    /// Open addressing; `NONE` is a free place.
    table: Vec<Index>,
}

impl Graph {
    pub(crate) fn new() -> Self {
        Self { states: Vec::new(), parents: Vec::new(), table: vec![NONE; 1 << 16] }
    }

    pub(crate) fn len(&self) -> usize {
        self.parents.len()
    }

    pub(crate) fn state(&self, index: Index) -> &World {
        let index = index as usize;
        &self.states[index >> CHUNK_BITS][index & (CHUNK - 1)]
    }

    /// The number of a state, a new one if it was never met.
    pub(crate) fn insert(&mut self, state: World, parent: Index) -> Index {
        let mut at = self.home(&state);
        while self.table[at] != NONE {
            if *self.state(self.table[at]) == state {
                return self.table[at];
            }
            at = (at + 1) & (self.table.len() - 1);
        }
        let index = Index::try_from(self.len()).expect("fewer states than a number can name");
        self.table[at] = index;
        if self.len() & (CHUNK - 1) == 0 {
            self.states.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.states.last_mut() {
            chunk.push(state);
        }
        self.parents.push(parent);
        if self.len() * 4 > self.table.len() * 3 {
            self.grow();
        }
        index
    }

    /// The states on a shortest way to this one, the first state first.
    pub(crate) fn way_to(&self, index: Index) -> Vec<Index> {
        let mut way = vec![index];
        while let Some(last) = way.last().copied().filter(|last| self.parents[*last as usize] != NONE) {
            way.push(self.parents[last as usize]);
        }
        way.reverse();
        way
    }

    fn grow(&mut self) {
        self.table = vec![NONE; self.table.len() * 2];
        for index in 0..self.len() {
            let index = index as Index;
            let mut at = self.home(self.state(index));
            while self.table[at] != NONE {
                at = (at + 1) & (self.table.len() - 1);
            }
            self.table[at] = index;
        }
    }

    fn home(&self, state: &World) -> usize {
        let mut hasher = Mixer::default();
        state.hash(&mut hasher);
        hasher.finish() as usize & (self.table.len() - 1)
    }
}
