//! The lab without a machine: which interleaving comes next, whether it was seen before, and what
//! is wrong with it.
//!
//! The kernel's lab runs one CPU between two steps and asks here who goes next
//! ([`strategy::Strategy`]); it tells every step to [`order::Order`], which knows equivalent
//! interleavings apart from new ones, and every write to a page table, every TLBI, DSB and frame to
//! [`ghost::Ghost`], which knows the rules. All of it is deterministic and host-tested.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod dfs;
pub mod ghost;
pub mod order;
pub mod random;
pub mod replay;
pub mod schedule;
pub mod strategy;

/// CPUs that one exploration can interleave.
pub const MAX_CPUS: usize = 4;
