//! The `exists` clause: an outcome that the model allows in all executions, in some or in none.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::test::{Place, Reg, Value};

/// A condition on what is there when all threads have ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// All of these.
    All(Vec<Self>),
    /// One of these at least.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A thread's register has this value.
    Register(usize, Reg, Value),
    /// A word in memory has this value.
    Memory(Place, Value),
    /// A thread's instruction with this index has faulted.
    Fault(usize, usize),
}

/// What is there when all threads have ended.
pub trait Outcome {
    /// A thread's register.
    fn register(&self, thread: usize, register: Reg) -> u64;
    /// A word in memory.
    fn memory(&self, place: Place) -> u64;
    /// Whether a thread's instruction has faulted.
    fn has_faulted(&self, thread: usize, insn: usize) -> bool;
    /// How a value looks on this machine.
    fn bits(&self, value: Value) -> u64;
}

impl Condition {
    /// Whether it holds.
    pub fn holds(&self, outcome: &impl Outcome) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(outcome)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(outcome)),
            Self::Not(part) => !part.holds(outcome),
            Self::Register(thread, register, value) => {
                outcome.register(*thread, *register) == outcome.bits(*value)
            }
            Self::Memory(place, value) => outcome.memory(*place) == outcome.bits(*value),
            Self::Fault(thread, insn) => outcome.has_faulted(*thread, *insn),
        }
    }

    /// Calls `each` with every register that it asks for, in order.
    pub fn registers(&self, each: &mut impl FnMut(usize, Reg)) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.registers(each));
            }
            Self::Not(part) => part.registers(each),
            Self::Register(thread, register, _) => each(*thread, *register),
            Self::Memory(..) | Self::Fault(..) => {}
        }
    }
}
