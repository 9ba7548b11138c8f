//! Kinds of values, and what is known at one instruction.

use core::fmt;

use crate::insn::{R10, REGISTERS};
use crate::vm::STACK_BYTES;

/// Slots of a frame's stack: eight bytes each.
pub const SLOTS: usize = (STACK_BYTES / 8) as usize;

/// What a register or a stack slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing yet, or different pointers on different paths.
    Unset,
    /// A number.
    Scalar,
    /// An arena pointer, in either form; null also.
    Arena,
    /// A pointer into the stack of this frame, so many bytes from its top.
    Stack {
        /// The frame, outermost 0.
        frame: u8,
        /// Bytes from r10 of that frame.
        offset: i16,
    },
    /// The context.
    Ctx,
    /// The arena itself.
    Map,
}

/// Kinds of registers, and of the slots of the function's own stack.
#[derive(Clone)]
pub struct State {
    pub regs: [Kind; REGISTERS],
    pub slots: [Kind; SLOTS],
}

/// What holds on both of two paths. A number may stand for an arena pointer: null does.
pub fn join(a: Kind, b: Kind) -> Kind {
    match (a, b) {
        (a, b) if a == b => a,
        (Kind::Arena, Kind::Scalar) | (Kind::Scalar, Kind::Arena) => Kind::Arena,
        _ => Kind::Unset,
    }
}

impl State {
    /// What a program begins with.
    pub fn entry() -> Self {
        let mut state = Self::called(0, &[Kind::Unset; 5]);
        state.regs[1] = Kind::Ctx;
        state
    }

    /// What a function in `frame` begins with.
    pub fn called(frame: usize, args: &[Kind; 5]) -> Self {
        let mut regs = [Kind::Unset; REGISTERS];
        regs[1..6].copy_from_slice(args);
        regs[usize::from(R10)] = Kind::Stack { frame: frame as u8, offset: 0 };
        Self { regs, slots: [Kind::Scalar; SLOTS] }
    }

    /// Joins what another path brings; whether anything changed.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        let pairs = self.regs.iter_mut().zip(&other.regs);
        for (mine, theirs) in pairs.chain(self.slots.iter_mut().zip(&other.slots)) {
            let joined = join(*mine, *theirs);
            changed |= joined != *mine;
            *mine = joined;
        }
        changed
    }
}

impl Kind {
    /// Whether it is an address that must stay inside the program.
    pub const fn is_private(self) -> bool {
        matches!(self, Self::Stack { .. } | Self::Ctx | Self::Map)
    }

    /// What a slot holds after it was written in part, or perhaps: of a private address some bytes
    /// may be left, and nobody may have those.
    pub const fn smeared(self) -> Self {
        if self.is_private() || matches!(self, Self::Unset) { Self::Unset } else { Self::Scalar }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "not set",
            Self::Scalar => "a number",
            Self::Arena => "an arena pointer",
            Self::Stack { .. } => "a stack pointer",
            Self::Ctx => "the context",
            Self::Map => "the arena itself",
        })
    }
}
