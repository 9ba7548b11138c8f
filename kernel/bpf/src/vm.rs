//! Where a program runs: the memory that it sees, and what it asks of the machine.
//!
//! | numbers | memory |
//! | --- | --- |
//! | [`STACK_BASE`] + 1024 f, 512 bytes | the stack of frame f; r10 is one past it |
//! | [`CTX_BASE`], [`CTX_WORDS`] words | the arguments of the attach point, read only |
//! | every other | the arena: the low 32 bits, plus the instruction's offset, from the window's base |
//!
//! So no program, whatever it computes, names an address outside its stack, its context, and the
//! window of its arena with the guards around it.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::insn::{Insn, Width};

/// Where frame 0's stack begins.
pub const STACK_BASE: u64 = 0x7000_0000_0000_0000;
/// Distance of two frames' stacks.
pub const FRAME_STRIDE: u64 = 1024;
/// Bytes of a frame's stack (RFC 9669 leaves it open; Linux `MAX_BPF_STACK`).
pub const STACK_BYTES: u64 = 512;
/// Frames, the program's own included (Linux `MAX_CALL_FRAMES`).
pub const FRAMES: usize = 8;
/// Where the context lies.
pub const CTX_BASE: u64 = 0x7100_0000_0000_0000;
/// Words of the context.
pub const CTX_WORDS: usize = 4;
/// What every program's arena begins at, as the program sees it.
pub const ARENA_USER_BASE: u64 = 0x1_0000_0000;
/// Most instructions of a program.
pub const MAX_INSNS: usize = 4096;
/// How often `may_goto` falls through in one run (Linux `BPF_MAX_LOOPS`).
pub const MAX_LOOPS: u64 = 8 * 1024 * 1024;

/// The instructions of a program; it begins at the first.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// At most [`MAX_INSNS`].
    pub insns: &'a [Insn],
}

/// A place in the arena: bytes from its base, from -32 KiB to 4 GiB + 32 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArenaOffset(i64);

impl ArenaOffset {
    /// What an access by `pointer` with the instruction's `off` means.
    pub const fn of(pointer: u64, off: i16) -> Self {
        Self((pointer & 0xffff_ffff) as i64 + off as i64)
    }

    /// Bytes from the base.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// A read-modify-write of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtomicOp {
    /// `old + operand`
    Add,
    /// `old | operand`
    Or,
    /// `old & operand`
    And,
    /// `old ^ operand`
    Xor,
    /// `operand`
    Exchange,
    /// `operand` if `old` is this, else `old`.
    CompareExchange(u64),
}

/// What a program asks of the machine. Accesses never fail: where nothing is mapped a load gives
/// zero, a store vanishes, and the machine reports it.
pub trait Machine {
    /// Reads, zero-extended; with acquire semantics if `ordered`.
    fn load(&mut self, at: ArenaOffset, width: Width, ordered: bool) -> u64;

    /// Writes the low bytes of `value`; with release semantics if `ordered`.
    fn store(&mut self, at: ArenaOffset, width: Width, value: u64, ordered: bool);

    /// Changes a word or a double word in one step; returns the old value, zero-extended. `None` if
    /// the address is not a multiple of the width.
    fn atomic(&mut self, at: ArenaOffset, width: Width, op: AtomicOp, operand: u64) -> Option<u64>;

    /// Calls the kernel function `id` with r1 to r5. Pointers to the stack are read by way of
    /// `stack`.
    ///
    /// # Errors
    /// Why the program must not go on.
    fn call(&mut self, id: u32, args: [u64; 5], stack: &dyn Stack) -> Result<u64, Stop>;

    /// Whether the program is to end before its time: somebody aborted it.
    fn should_stop(&self) -> bool;
}

/// The program's stack as kernel functions see it.
pub trait Stack {
    /// Copies the bytes from `address` on, if all of them lie in one frame's stack.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
}

/// Why a run ended without `exit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// All instructions that it may execute are spent.
    Budget,
    /// [`Machine::should_stop`] said so, or a kernel function did.
    Aborted,
    /// An instruction that no checked program has; its index.
    Bad(usize),
    /// An atomic at an address that is no multiple of its width.
    Unaligned(usize),
    /// An access to what looks like the stack or the context and is no part of it: arithmetic on an
    /// arena pointer led there.
    Stray(usize),
}

/// Where a run stands, for whoever interrupts it: the abort handler on the same CPU. Written before
/// each access and each call.
#[derive(Debug)]
pub struct Trace {
    depth: AtomicU32,
    at: [AtomicU32; FRAMES],
}

impl Trace {
    /// A run that has not begun.
    pub const fn new() -> Self {
        Self { depth: AtomicU32::new(0), at: [const { AtomicU32::new(0) }; FRAMES] }
    }

    /// The innermost of `depth` + 1 frames stands at instruction `insn`.
    #[inline(always)]
    pub fn note(&self, depth: usize, insn: usize) {
        // Relaxed: read on the same CPU only. The frame first, so that no reader sees one unwritten.
        self.at[depth % FRAMES].store(insn as u32, Ordering::Relaxed);
        self.depth.store(depth as u32, Ordering::Relaxed);
    }

    /// The instructions at which the frames stand, innermost first.
    pub fn frames(&self) -> impl Iterator<Item = u32> {
        let depth = self.depth.load(Ordering::Relaxed) as usize % FRAMES;
        (0..=depth).rev().map(|frame| self.at[frame].load(Ordering::Relaxed))
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget => f.write_str("the instruction budget is spent"),
            Self::Aborted => f.write_str("the program was aborted"),
            Self::Bad(insn) => write!(f, "instruction {insn} is none that a checked program has"),
            Self::Unaligned(insn) => write!(f, "the atomic of instruction {insn} is not aligned"),
            Self::Stray(insn) => write!(f, "instruction {insn} accesses neither stack nor arena"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_access_stays_within_the_guards() {
        for (pointer, off, at) in [
            (0, 0, 0),
            (0, i16::MIN, -32768),
            (u64::MAX, i16::MAX, (4 << 30) + 32766),
            (ARENA_USER_BASE | 0x2000, 8, 0x2008),
        ] {
            assert_eq!(ArenaOffset::of(pointer, off).get(), at);
        }
    }

    #[test]
    fn a_trace_tells_the_innermost_frame_first() {
        let trace = Trace::new();
        trace.note(0, 7);
        trace.note(1, 30);
        assert!(trace.frames().eq([30, 7]));
        trace.note(0, 9);
        assert!(trace.frames().eq([9]));
    }
}
