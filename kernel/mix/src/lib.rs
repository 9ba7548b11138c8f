//! Random operations on arenas, and what must come of them: a guest does them on real arenas, on four
//! CPUs at once, and the host does the same on a model that is simple enough to be believed.
//!
//! Both sides draw the same operations from the same seed. There are three [`Phase`]s:
//! - [`Phase::Shared`]: one arena, in which each CPU has pages of its own. The CPUs share tables, the
//!   lock, frames and TLB maintenance, but every reply is foreseeable.
//! - [`Phase::Own`]: an arena for each CPU. Everything is foreseeable, also where an allocation goes
//!   that asks for no address, and what the books say.
//! - [`Phase::Anywhere`]: one arena, and every CPU takes pages wherever they are. Who gets which
//!   depends on who comes first, so every operation is noted with a ticket before it and one behind
//!   it, and [`judge`] sees whether some order explains all notes.
//!
//! Replies of the first two are compared by the digest of a batch; a batch that differs is run again
//! with its replies in full.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod ground;
pub mod hand;
pub mod judge;
pub mod model;
pub mod note;
pub mod op;
pub mod reply;

use core::fmt;

/// CPUs that operate at once.
pub const CPUS: usize = 4;

/// Operations of one CPU whose replies are compared by one digest.
pub const BATCH: u64 = 1000;

/// Operations where no number is given.
pub const FEW: u64 = 2_000;

/// A part of the mix: see the crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// One arena, each CPU on pages of its own.
    Shared,
    /// An arena for each CPU.
    Own,
    /// One arena, pages wherever they are.
    Anywhere,
}

/// The batch whose replies are wanted in full, as `PHASE:CPU:NUMBER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Its phase.
    pub phase: Phase,
    /// Its CPU.
    pub cpu: usize,
    /// Which of that CPU's batches, from 0.
    pub number: u64,
}

impl Phase {
    /// All, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Shared, Self::Own, Self::Anywhere];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Own => "own",
            Self::Anywhere => "anywhere",
        }
    }

    /// Operations of each CPU, of `total` in all: half are of the first phase, a quarter of each other.
    pub const fn each(self, total: u64) -> u64 {
        let cpus = CPUS as u64;
        match self {
            Self::Shared => total.div_ceil(2 * cpus),
            Self::Own | Self::Anywhere => total.div_ceil(4 * cpus),
        }
    }

    /// The seed of `cpu`'s operations: no two CPUs and no two phases draw the same.
    pub const fn seed(self, seed: u64, cpu: usize) -> u64 {
        seed.wrapping_mul(64).wrapping_add((self as u64) << 4 | cpu as u64)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Batch {
    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (phase, rest) = text.split_once(':')?;
        let (cpu, number) = rest.split_once(':')?;
        let phase = Phase::ALL.into_iter().find(|known| known.name() == phase)?;
        let cpu = cpu.parse().ok().filter(|&cpu| cpu < CPUS)?;
        Some(Self { phase, cpu, number: number.parse().ok()? })
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.phase, self.cpu, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_batch_is_read_as_it_is_written() {
        let batch = Batch { phase: Phase::Own, cpu: 3, number: 17 };
        assert_eq!(batch.to_string(), "own:3:17");
        assert_eq!(Batch::parse("own:3:17"), Some(batch));
        for wrong in ["", "own:4:1", "own:3", "else:0:0", "own:0:x"] {
            assert_eq!(Batch::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_phases_together_are_the_number_asked_for() {
        let all = |total| -> u64 {
            Phase::ALL.into_iter().map(|phase| phase.each(total) * CPUS as u64).sum()
        };
        assert_eq!(all(1_000_000), 1_000_000);
        assert_eq!(all(100_000), 100_000);
        assert!(all(1) >= 1);
    }

    #[test]
    fn no_two_cpus_or_phases_draw_from_the_same_seed() {
        let seeds: std::collections::BTreeSet<_> = (0..8)
            .flat_map(|seed| Phase::ALL.map(|phase| (seed, phase)))
            .flat_map(|(seed, phase)| (0..CPUS).map(move |cpu| phase.seed(seed, cpu)))
            .collect();
        assert_eq!(seeds.len(), 8 * 3 * CPUS);
    }
}
