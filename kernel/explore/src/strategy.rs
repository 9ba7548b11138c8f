//! What every way of choosing schedules has in common.

use crate::schedule::{Choice, Choices};

/// A moment at which somebody must go on.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// The CPU that made the last step; `None` at the start.
    pub current: Option<u8>,
    /// What can happen. Not empty.
    pub choices: Choices,
    /// Stands for everything that happened so far: equal states have equal futures.
    pub state: u64,
}

/// Chooses schedules, one after the other.
pub trait Strategy {
    /// Prepares the next schedule; `false` when there is none left.
    fn next(&mut self) -> bool;

    /// Chooses at a decision. Called for every step, also where there is one choice only.
    fn choose(&mut self, decision: &Decision) -> Choice;

    /// The schedule that was prepared last is over. Whether it counts: a depth-first search runs
    /// some to learn where another shard's part begins, or that the rest was seen before.
    fn end(&mut self) -> bool {
        true
    }

    /// Whether all schedules (within the bound) were run, once [`next`](Self::next) said `false`.
    fn is_exhaustive(&self) -> bool {
        false
    }

    /// Whether it looks at [`Decision::state`], which costs something to keep.
    fn wants_state(&self) -> bool {
        false
    }

    /// Decisions at which the code did not offer what it offered before, or what a token asks for:
    /// it does not depend on the schedule alone, and no verdict on it can be trusted.
    fn diverged(&self) -> u64 {
        0
    }

    /// Schedules cut short because their state was seen before.
    fn pruned(&self) -> u64 {
        0
    }
}

impl Decision {
    /// Whether `choice` takes the CPU from one that could go on.
    pub fn preempts(&self, choice: Choice) -> bool {
        let goes_on = self.current.map(Choice::Cpu);
        goes_on != Some(choice) && goes_on.is_some_and(|current| self.choices.contains(current))
    }

    /// What happens where nothing is asked for.
    pub fn default(&self) -> Choice {
        self.choices.default(self.current).unwrap_or(Choice::Cpu(0))
    }
}
