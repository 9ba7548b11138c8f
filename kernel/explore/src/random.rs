//! Schedules by chance: uniform, or by random priorities.
//!
//! Schedule `n` depends on the seed and `n` alone, so that any of them can be run again, and shards
//! take every `of`th.
//!
//! PCT (Burckhardt and others, *A randomized scheduler with probabilistic guarantees of finding
//! bugs*): CPUs have random priorities, the highest that can runs, and at `depth - 1` random steps
//! the running one falls below all others. A bug of depth `d` among `n` CPUs and `k` steps is found
//! with a chance of at least 1 / (n k^(d-1)) a schedule.

use alloc::vec::Vec;

use crate::MAX_CPUS;
use crate::dfs::Shard;
use crate::order::mix;
use crate::schedule::Choice;
use crate::strategy::{Decision, Strategy};

/// A sequence of numbers that depends on its seed alone (SplitMix64).
#[derive(Clone, Copy, Debug)]
pub struct Rng(u64);

/// How a random strategy chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Every choice is as likely as any other.
    Uniform,
    /// By priorities, with this many changes of them.
    Pct {
        /// Changes; a bug that needs `n` ordered events needs `n - 1`.
        changes: u32,
        /// Steps among which they fall: about as many as a schedule has.
        length: u64,
    },
}

/// Random schedules without end, or up to a number of them.
#[derive(Clone, Debug)]
pub struct Random {
    manner: Manner,
    seed: u64,
    number: u64,
    end: u64,
    shard: Shard,
    rng: Rng,
    priorities: [u32; MAX_CPUS],
    /// Steps at which the running CPU loses its priority.
    changes: Vec<u64>,
    step: u64,
}

/// Chance that a possible interrupt comes, one in this many.
const TICK_ODDS: u64 = 16;

impl Rng {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0, 0)
    }

    /// A number below `end`, which is not 0. Slightly uneven for large ends, which matters to
    /// nobody here.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }
}

impl Random {
    /// Schedules `first..end` of `seed`, those of `shard`.
    pub fn new(manner: Manner, seed: u64, first: u64, end: u64, shard: Shard) -> Self {
        let of = u64::from(shard.of);
        let number = first + (u64::from(shard.index) + of - first % of) % of;
        Self {
            manner,
            seed,
            number,
            end,
            shard,
            rng: Rng::new(seed),
            priorities: [0; MAX_CPUS],
            changes: Vec::new(),
            step: 0,
        }
    }

    /// The number of the schedule that [`next`](Strategy::next) prepares next.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn uniform(&mut self, decision: &Decision) -> Choice {
        if let Some(tick) = decision.choices.ticks().nth(0)
            && self.rng.below(TICK_ODDS) == 0
        {
            return tick;
        }
        let cpus = decision.choices.cpus();
        let at = self.rng.below(cpus.len().max(1) as u64);
        cpus.nth(at as usize).unwrap_or(decision.default())
    }

    fn by_priority(&mut self, decision: &Decision) -> Choice {
        if self.changes.contains(&self.step)
            && let Some(current) = decision.current
        {
            // Below all that began, and below those that fell before.
            self.priorities[usize::from(current)] = (1 << 16) - self.step.min(1 << 16) as u32;
            if let Some(tick) = decision.choices.ticks().iter().next() {
                return tick;
            }
        }
        let cpus = decision.choices.cpus().iter();
        let highest = cpus.max_by_key(|choice| self.priorities[usize::from(choice.cpu())]);
        highest.unwrap_or(decision.default())
    }
}

impl Strategy for Random {
    fn next(&mut self) -> bool {
        if self.number >= self.end {
            return false;
        }
        self.rng = Rng::new(mix(self.seed, self.number));
        self.number += u64::from(self.shard.of);
        self.step = 0;
        if let Manner::Pct { changes, length } = self.manner {
            for priority in &mut self.priorities {
                *priority = (1 << 17) + self.rng.below(1 << 16) as u32;
            }
            self.changes.clear();
            for _ in 0..changes {
                let step = self.rng.below(length.max(1));
                self.changes.push(step);
            }
        }
        true
    }

    fn choose(&mut self, decision: &Decision) -> Choice {
        let choice = match self.manner {
            _ if decision.choices.len() == 1 => decision.default(),
            Manner::Uniform => self.uniform(decision),
            Manner::Pct { .. } => self.by_priority(decision),
        };
        self.step += 1;
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Choices;

    const fn pct(changes: u32) -> Manner {
        Manner::Pct { changes, length: 20 }
    }

    fn decision(current: u8) -> Decision {
        let choices = (0..3).fold(Choices::NONE, |all, cpu| all.with(Choice::Cpu(cpu)));
        Decision { current: Some(current), choices, state: 0 }
    }

    fn schedule(strategy: &mut Random) -> Vec<Choice> {
        let mut all = Vec::new();
        let mut current = 0;
        for _ in 0..20 {
            let choice = strategy.choose(&decision(current));
            current = choice.cpu();
            all.push(choice);
        }
        all
    }

    fn schedules(manner: Manner, first: u64, end: u64, shard: Shard) -> Vec<Vec<Choice>> {
        let mut strategy = Random::new(manner, 7, first, end, shard);
        let mut all = Vec::new();
        while strategy.next() {
            all.push(schedule(&mut strategy));
        }
        all
    }

    #[test]
    fn a_schedule_depends_on_seed_and_number_alone() {
        for manner in [Manner::Uniform, pct(2)] {
            let all = schedules(manner, 0, 10, Shard::WHOLE);
            assert_eq!(all, schedules(manner, 0, 10, Shard::WHOLE));
            assert_eq!(all[6..], schedules(manner, 6, 10, Shard::WHOLE));
            assert!(all.iter().any(|one| *one != all[0]), "every number gives one schedule");
            let mut other = Random::new(manner, 8, 0, 10, Shard::WHOLE);
            assert!(all.iter().any(|one| other.next() && *one != schedule(&mut other)));
        }
    }

    #[test]
    fn shards_share_the_numbers_out() {
        let all = schedules(Manner::Uniform, 5, 20, Shard::WHOLE);
        let mut parts: Vec<_> = (0..4)
            .flat_map(|index| schedules(Manner::Uniform, 5, 20, Shard { index, of: 4 }))
            .collect();
        assert_eq!(parts.len(), all.len());
        parts.retain(|part| !all.contains(part));
        assert!(parts.is_empty());
    }

    #[test]
    fn priorities_preempt_at_changes_only() {
        for changes in [0, 1, 3] {
            for one in schedules(pct(changes), 0, 50, Shard::WHOLE) {
                let switches = one.windows(2).filter(|pair| pair[0] != pair[1]).count();
                assert!(switches <= changes as usize, "{switches} switches, {changes} changes");
            }
        }
        let some = schedules(pct(2), 0, 50, Shard::WHOLE);
        assert!(some.iter().any(|one| one.windows(2).any(|pair| pair[0] != pair[1])));
    }

    #[test]
    fn chance_reaches_every_choice() {
        let all = schedules(Manner::Uniform, 0, 20, Shard::WHOLE);
        for cpu in 0..3 {
            let seen = all.iter().flatten().filter(|choice| **choice == Choice::Cpu(cpu)).count();
            assert!((60..200).contains(&seen), "{seen} of 400");
        }
    }
}
