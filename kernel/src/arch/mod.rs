//! The machine: the only home of `asm!`, system registers and barriers.
//!
//! Everything else asks for an operation by its architectural name. Nothing here knows about
//! arenas, programs or tests. Three modules call up, because the machine is entered and left here:
//! [`trap`] into `crate::fault` and `crate::interrupt`, [`smp`] and [`exit`] into the
//! firmware and the log.

pub mod access;
pub mod alternative;
pub mod atomic;
pub mod barrier;
pub mod cache;
pub mod exit;
pub mod features;
pub mod irq;
pub mod layout;
pub mod mmu;
pub mod percpu;
pub mod smp;
pub mod stack;
pub mod timer;
pub mod tlb;
pub mod trap;
pub mod user;
pub mod zero;
