//! Every schedule, depth first, within a bound of preemptions; equivalent ones once.
//!
//! A schedule is run from its start each time. The path of the last one is kept; the next differs
//! from it at the deepest decision that has a choice left. A preemption takes the CPU from one that
//! could go on; most bugs need one or two (Musuvathi and Qadeer, *Iterative context bounding*).
//!
//! Pruning: where the state (see [`crate::order`]) and the running CPU were met before with no more
//! preemptions spent, what can come was or will be run from there. Nothing is lost by it but
//! repetition: `pruning_loses_no_outcome` below compares.

use alloc::vec;
use alloc::vec::Vec;

use crate::order::mix;
use crate::schedule::{Choice, Choices};
use crate::strategy::{Decision, Strategy};

/// Decisions at the start of a schedule by which shards are told apart.
const CUT: usize = 6;

/// A depth-first search.
pub struct Dfs {
    bound: u32,
    shard: Shard,
    path: Vec<Node>,
    /// Decisions made in the schedule that runs.
    depth: usize,
    /// The rest of the schedule that runs is of no interest.
    coasting: bool,
    /// It belongs to another shard.
    foreign: bool,
    started: bool,
    done: bool,
    visited: Option<Visited>,
    pruned: u64,
    diverged: u64,
}

/// Part `index` of `of`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// From 0.
    pub index: u32,
    /// How many parts; at least 1.
    pub of: u32,
}

/// A decision with more than one choice.
struct Node {
    /// Choices not taken yet.
    left: Choices,
    taken: Choice,
    decision: Decision,
    /// Preemptions before it.
    spent: u32,
}

/// States that were met, with the fewest preemptions spent. Bounded: what finds no room is met
/// anew each time.
struct Visited {
    /// State, mixed with the running CPU; 0 is empty.
    entries: Vec<(u64, u32)>,
    free: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    const fn owns(self, hash: u64) -> bool {
        hash % self.of as u64 == self.index as u64
    }
}

impl Dfs {
    /// All schedules with at most `bound` preemptions. `states` is the number of states that may be
    /// remembered for pruning, rounded up to a power of two; 0 for none.
    pub fn new(bound: u32, states: usize, shard: Shard) -> Self {
        Self {
            bound,
            shard,
            path: Vec::new(),
            depth: 0,
            coasting: false,
            foreign: false,
            started: false,
            done: false,
            visited: (states > 0).then(|| Visited::new(states)),
            pruned: 0,
            diverged: 0,
        }
    }

    /// A decision behind the path.
    fn enter(&mut self, decision: &Decision) -> Choice {
        let spent = self.path.last().map_or(0, Node::spent_behind);
        if self.depth == CUT && !self.shard.owns(self.prefix()) {
            (self.coasting, self.foreign) = (true, true);
        } else if self.is_known(decision, spent) {
            self.coasting = true;
            self.pruned += 1;
        }
        let taken = decision.default();
        if self.coasting {
            return taken;
        }
        let affordable = |choice: &Choice| spent < self.bound || !decision.preempts(*choice);
        let others = decision.choices.without(Choices::NONE.with(taken)).iter().filter(affordable);
        let left = others.fold(Choices::NONE, Choices::with);
        self.path.push(Node { left, taken, decision: *decision, spent });
        self.depth += 1;
        taken
    }

    /// Whether the state was met before, with no more spent. Remembers it.
    fn is_known(&mut self, decision: &Decision, spent: u32) -> bool {
        // Every shard walks and prunes alike above the cut, so what is left out of one place there is in
        // the parts of another; below it a state's future is one shard's.
        let current = decision.current.map_or(u64::MAX, u64::from);
        let key = mix(decision.state, current);
        self.visited.as_mut().is_some_and(|visited| visited.meet(key, spent))
    }

    /// Stands for the first decisions of the path.
    fn prefix(&self) -> u64 {
        let number = |choice: Choice| {
            u64::from(choice.cpu()) << 1 | u64::from(matches!(choice, Choice::Tick(_)))
        };
        self.path.iter().take(CUT).fold(0, |hash, node| mix(hash, number(node.taken)))
    }
}

impl Strategy for Dfs {
    fn next(&mut self) -> bool {
        if self.done {
            return false;
        }
        if self.started {
            while let Some(node) = self.path.last_mut() {
                if let Some(choice) = node.left.iter().next() {
                    node.left = node.left.without(Choices::NONE.with(choice));
                    node.taken = choice;
                    break;
                }
                self.path.pop();
            }
            self.done = self.path.is_empty();
        }
        self.started = true;
        (self.depth, self.coasting, self.foreign) = (0, false, false);
        !self.done
    }

    fn choose(&mut self, decision: &Decision) -> Choice {
        if self.coasting || decision.choices.len() == 1 {
            return decision.default();
        }
        match self.path.get(self.depth) {
            Some(node) if node.decision.choices == decision.choices => {
                self.depth += 1;
                self.path[self.depth - 1].taken
            }
            // The code did not do again what it did: nothing behind this can be told apart.
            Some(_) => {
                self.path.truncate(self.depth);
                self.coasting = true;
                self.diverged += 1;
                decision.default()
            }
            None => self.enter(decision),
        }
    }

    fn end(&mut self) -> bool {
        // A schedule with no decision behind the cut was not told apart yet.
        if self.path.len() <= CUT && !self.foreign {
            self.foreign = !self.shard.owns(self.prefix());
        }
        !self.foreign
    }

    fn wants_state(&self) -> bool {
        self.visited.is_some()
    }

    fn is_exhaustive(&self) -> bool {
        self.done
    }

    fn diverged(&self) -> u64 {
        self.diverged
    }

    fn pruned(&self) -> u64 {
        self.pruned
    }
}

impl Node {
    /// Preemptions up to and including this decision.
    fn spent_behind(&self) -> u32 {
        self.spent + u32::from(self.decision.preempts(self.taken))
    }
}

impl Visited {
    fn new(states: usize) -> Self {
        let room = states.next_power_of_two();
        Self { entries: vec![(0, 0); room], free: room - room / 4 }
    }

    /// Whether `key` was met with at most `spent`; remembers it otherwise.
    fn meet(&mut self, key: u64, spent: u32) -> bool {
        let key = key.max(1);
        let mask = self.entries.len() - 1;
        let mut at = key as usize & mask;
        loop {
            let entry = &mut self.entries[at];
            if entry.0 == key {
                let known = entry.1 <= spent;
                entry.1 = entry.1.min(spent);
                return known;
            }
            if entry.0 == 0 {
                if self.free > 0 {
                    *entry = (key, spent);
                    self.free -= 1;
                }
                return false;
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
mod test;
