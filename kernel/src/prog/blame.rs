//! Why a program is at its end: the first reason, kept in one word, so that the abort handler can note
//! it and an interrupt can read it.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use bpf::vm::Stop;

/// A reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// A kernel function's access on its behalf met an unmapped page of its arena.
    Violation {
        /// Whether it wrote.
        write: bool,
        /// The address, as the program sees it.
        address: u64,
    },
    /// A run ended without `exit`.
    Stopped(Stop),
}

/// The first reason of a program; see [`Blame`].
///
/// | bits 0-1 | the rest |
/// | --- | --- |
/// | 0 | none yet |
/// | 1, 2 | a read, a write; the address, which is below 2^34, from bit 2 on |
/// | 3 | stopped: bits 2-7 how, the instruction from bit 8 on |
pub struct First(AtomicU64);

impl First {
    /// None yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Notes `blame` if it is the first. Any context.
    pub fn note(&self, blame: Blame) {
        let word = match blame {
            Blame::Violation { write, address } => address << 2 | if write { 2 } else { 1 },
            Blame::Stopped(stop) => {
                let (how, insn) = match stop {
                    Stop::Budget => (0, 0),
                    Stop::Aborted => (1, 0),
                    Stop::Bad(insn) => (2, insn),
                    Stop::Unaligned(insn) => (3, insn),
                    Stop::Stray(insn) => (4, insn),
                };
                (insn as u64) << 8 | how << 2 | 3
            }
        };
        // Relaxed: one word says all. Whoever was first stays.
        let _ = self.0.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The first reason, if there is one.
    pub fn get(&self) -> Option<Blame> {
        let word = self.0.load(Ordering::Relaxed);
        let insn = (word >> 8) as usize;
        Some(match word & 3 {
            0 => return None,
            3 => Blame::Stopped(match word >> 2 & 63 {
                0 => Stop::Budget,
                1 => Stop::Aborted,
                2 => Stop::Bad(insn),
                3 => Stop::Unaligned(insn),
                _ => Stop::Stray(insn),
            }),
            kind => Blame::Violation { write: kind == 2, address: word >> 2 },
        })
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation { write, address } => {
                let what = if *write { "WRITE" } else { "READ" };
                write!(f, "arena {what} access at unmapped address {address:#x}")
            }
            Self::Stopped(stop) => stop.fmt(f),
        }
    }
}
