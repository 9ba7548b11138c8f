//! The load-time check: which programs are let in.
//!
//! What it promises of a program that passes: every instruction is one that there is, with reserved
//! fields zero; every jump and call lands on an instruction, never inside a wide one; the end is never
//! run into, functions nest at most [`FRAMES`] deep, and nothing is unreachable; no
//! register is used before it is set; every load and store goes to the arena, to a byte of the stack
//! that exists, or reads a word of the context; kernel functions get arguments of the kinds that they
//! take; no address of the stack or the context is stored in the arena, returned, or calculated with.
//!
//! What it does not promise, and is no full verifier for: that the program ends (a run has a budget),
//! that an arena access meets a mapped page (it is stepped over or recovered, and reported), that a
//! number is in any range. The interpreter relies on none of it.
//!
//! It is an abstract interpretation: registers and stack slots have kinds ([`Kind`]), which are
//! joined where paths meet, to a fixpoint; a function is looked at anew for each call. Visits are
//! counted, and too many of them are a refusal. Answers to Linux kernel/bpf/verifier.c.

mod form;
mod step;
mod types;

use alloc::vec::Vec;
use core::fmt;

use crate::insn::{self, Insn, LD_IMM64};
use crate::vm::{FRAMES, MAX_INSNS, Program};
use types::State;

pub use types::Kind;

/// Instructions that are looked at, at most, each visit counted.
pub const MAX_VISITS: u32 = 1 << 20;

/// Why a program is not let in, and at which instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// Index of the instruction.
    pub insn: usize,
    /// The reason.
    pub reason: Reason,
}

/// See [`Rejection`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No instructions, or more than [`MAX_INSNS`].
    Length(usize),
    /// No such opcode, or one that is not served here.
    Opcode(u8),
    /// A register beyond r10.
    Register(u8),
    /// A field that must be zero is not, or an offset or immediate means nothing here.
    Field,
    /// A write to r10.
    FramePointer,
    /// A wide instruction lacks its second half.
    HalfWide,
    /// A jump or call to this instruction, which is none.
    Target(i64),
    /// The program runs on behind its last instruction.
    FallsOff,
    /// No path leads here.
    Unreachable,
    /// A register is used that was never set, or that holds different kinds on different paths.
    Unset(u8),
    /// A load or store by a register that is no pointer to memory.
    NoPointer(u8, Kind),
    /// Bytes of the stack that are not there.
    StackBounds(i32),
    /// Other than a whole word of the context, or a write to it.
    Context,
    /// An atomic on something else than the arena.
    Atomic(u8, Kind),
    /// Arithmetic that makes no pointer of this kind.
    Arithmetic(u8, Kind),
    /// An address of this kind would get into the arena or out of the program.
    Leak(u8, Kind),
    /// A helper, or something else that cannot be called.
    Call,
    /// No kernel function has this number.
    Kfunc(u32),
    /// This register is no argument that the function takes.
    Argument(u8, Kind),
    /// The arena is used by a program that has none.
    NoArena,
    /// Functions nest too deep, or for ever.
    Depth,
    /// Too many paths to look at.
    TooComplex,
    /// No memory for the check.
    NoMemory,
}

/// Lets `program` in, or says why not. `has_arena`: it comes with one. Allocates, fallibly.
///
/// # Errors
/// The first reason that was found.
pub fn check(program: &Program<'_>, has_arena: bool) -> Result<(), Rejection> {
    let insns = program.insns;
    let at = |insn, reason| Rejection { insn, reason };
    if insns.is_empty() || insns.len() > MAX_INSNS {
        return Err(at(0, Reason::Length(insns.len())));
    }
    let leaders = form::leaders(insns)?;
    let visited = filled(insns.len(), false).ok_or(at(0, Reason::NoMemory))?;
    let mut check = Check { insns, has_arena, leaders, visited, visits: 0, frames: Vec::new() };
    check.frames.try_reserve_exact(FRAMES).map_err(|_| at(0, Reason::NoMemory))?;
    check.function(0, State::entry())?;
    let is_second_half = |n: usize| n > 0 && insns[n - 1].code == LD_IMM64 && check.visited[n - 1];
    match (0..insns.len()).find(|&n| !check.visited[n] && !is_second_half(n)) {
        Some(unreachable) => Err(at(unreachable, Reason::Unreachable)),
        None => Ok(()),
    }
}

/// A check in progress.
struct Check<'a> {
    insns: &'a [Insn],
    has_arena: bool,
    /// Whether a jump goes there: states are kept and joined at those.
    leaders: Vec<bool>,
    visited: Vec<bool>,
    visits: u32,
    /// The callers of the function that is looked at, outermost first.
    frames: Vec<Caller>,
}

/// A function that waits for a callee.
struct Caller {
    slots: [Kind; types::SLOTS],
    /// Slots that the callee may have written, a bit each.
    written: u64,
}

impl Check<'_> {
    /// Looks at the function that begins at `entry` with what it is called with; returns r0.
    fn function(&mut self, entry: usize, state: State) -> Result<Kind, Rejection> {
        if self.frames.len() >= FRAMES {
            return Err(Rejection { insn: entry, reason: Reason::Depth });
        }
        loop {
            // A slot of a caller counts as written from its first write on. What was read from it
            // before, in a loop around that write, was looked at too kindly: once more.
            let before = self.written();
            let result = self.walk(entry, state.clone())?;
            if self.written() == before {
                return Ok(result);
            }
        }
    }

    /// Follows all paths of a function once.
    fn walk(&mut self, entry: usize, state: State) -> Result<Kind, Rejection> {
        let at = |insn, reason| Rejection { insn, reason };
        let no_memory = at(entry, Reason::NoMemory);
        let mut known: Vec<Option<State>> = filled(self.insns.len(), None).ok_or(no_memory)?;
        let mut todo: Vec<(usize, State)> = Vec::new();
        todo.try_reserve(1).map_err(|_| no_memory)?;
        todo.push((entry, state));
        let mut result = None;
        while let Some((mut insn, mut state)) = todo.pop() {
            loop {
                if self.leaders.get(insn).is_some_and(|leader| *leader) {
                    match &mut known[insn] {
                        Some(before) => {
                            if !before.join(&state) {
                                break;
                            }
                            state = before.clone();
                        }
                        empty => *empty = Some(state.clone()),
                    }
                }
                self.visits += 1;
                if self.visits > MAX_VISITS {
                    return Err(at(insn, Reason::TooComplex));
                }
                let Some(now) = self.insns.get(insn).copied() else {
                    return Err(at(insn - 1, Reason::FallsOff));
                };
                self.visited[insn] = true;
                let next = self.step(insn, now, &mut state).map_err(|reason| match reason {
                    step::Refused::Here(reason) => at(insn, reason),
                    step::Refused::Inside(rejection) => rejection,
                })?;
                match next {
                    step::Next::To(target) => insn = target,
                    step::Next::Either(target) => {
                        todo.try_reserve(1).map_err(|_| no_memory)?;
                        todo.push((target, state.clone()));
                        insn += 1;
                    }
                    step::Next::Exit(kind) => {
                        result = Some(result.map_or(kind, |before| types::join(before, kind)));
                        break;
                    }
                }
            }
        }
        // A function that never returns leaves nothing behind it to look at with this.
        Ok(result.unwrap_or(Kind::Unset))
    }

    /// How many slots of callers were written so far.
    fn written(&self) -> u32 {
        self.frames.iter().map(|caller| caller.written.count_ones()).sum()
    }
}

/// `len` times `value`; `None` without memory.
fn filled<T: Clone>(len: usize, value: T) -> Option<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).ok()?;
    all.resize(len, value);
    Some(all)
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "insn {}: {}", self.insn, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(0) => f.write_str("the program has no instructions"),
            Self::Length(n) => write!(f, "the program has {n} instructions, more than {MAX_INSNS}"),
            Self::Opcode(code) => write!(f, "there is no opcode {code:#04x} here"),
            Self::Register(n) => write!(f, "there is no register r{n}"),
            Self::Field => f.write_str("a field that must be zero is not, or has no such meaning"),
            Self::FramePointer => f.write_str("r10 is read only"),
            Self::HalfWide => f.write_str("the second half of the wide instruction is missing"),
            Self::Target(to) => write!(f, "there is no instruction {to} to go to"),
            Self::FallsOff => f.write_str("the program runs on behind its last instruction"),
            Self::Unreachable => f.write_str("no path leads here"),
            Self::Unset(n) => write!(f, "r{n} is not set, or not to the same kind on every path"),
            Self::NoPointer(n, kind) => write!(f, "r{n} is {kind}, no pointer to memory"),
            Self::StackBounds(at) => write!(f, "bytes from r10{at:+} on are not all on the stack"),
            Self::Context => {
                f.write_str("only whole words of the context can be had, and only read")
            }
            Self::Atomic(n, kind) => write!(f, "r{n} is {kind}; atomics are for the arena"),
            Self::Arithmetic(n, kind) => write!(f, "arithmetic with r{n}, which is {kind}"),
            Self::Leak(n, kind) => write!(f, "r{n}, which is {kind}, must not get out"),
            Self::Call => {
                f.write_str("only functions of the program and kernel functions are called")
            }
            Self::Kfunc(id) => write!(f, "no kernel function has the number {id}"),
            Self::Argument(n, kind) => {
                write!(f, "the kernel function takes no r{n} that is {kind}")
            }
            Self::NoArena => f.write_str("the program has no arena"),
            Self::Depth => write!(f, "functions nest more than {FRAMES} deep"),
            Self::TooComplex => f.write_str("the program has too many paths to look at"),
            Self::NoMemory => f.write_str("no memory to check the program"),
        }
    }
}

/// The first half of a wide instruction, whose second half is the next.
const fn is_wide(insn: Insn) -> bool {
    insn.code == insn::LD_IMM64
}

#[cfg(test)]
mod tests;
