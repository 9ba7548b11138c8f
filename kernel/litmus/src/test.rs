//! A litmus test as a value.
//!
//! All tests are about one virtual page *a*, its descriptor, three pages that can be behind it, and one
//! word that CPUs tell each other something by. A register that begins with an address keeps it, so an
//! instruction says what it reaches, not by which register.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::condition::Condition;
use crate::expect::Expected;

/// Registers of a thread.
pub const REGISTERS: usize = 31;

/// Number of a general-purpose register.
pub type Reg = u8;

/// A test.
#[derive(Clone, Debug)]
pub struct Test<'a> {
    /// Name and verdict.
    pub expected: Expected<'a>,
    /// Without which its verdict does not hold.
    pub needs: Needs,
    /// What the descriptor of *a* is in the beginning.
    pub slot: Entry,
    /// What its threads do.
    pub threads: Vec<Thread>,
    /// The outcome in question.
    pub exists: Condition,
}

/// What a CPU must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Armv8.0.
    Nothing,
    /// FEAT_ETS2.
    Ets2,
    /// FEAT_HAFDBS with dirty state, in use.
    DirtyState,
}

/// One CPU's part.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Thread {
    /// Registers that do not begin as 0 and hold no address.
    pub registers: Vec<(Reg, Value)>,
    /// Its instructions: first those of the program, then those of its abort handler.
    pub insns: Vec<Insn>,
    /// Where the handler begins; the program ends when it comes there.
    pub handler: usize,
}

/// A value of a register or of a word in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// Data.
    Word(u64),
    /// A descriptor.
    Entry(Entry),
}

/// A descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Invalid, as in a page that was never mapped: `(oa:PA(a),valid:0)`.
    Empty,
    /// Invalid, and told from the other: `(oa:PA(s),valid:0)`.
    Tombstone,
    /// Valid.
    To(Page),
    /// Valid, writable, and not marked dirty: `db:0,dbm:1`.
    Clean(Page),
}

/// A page of memory, by the first letter of what it is in most tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// The scratch page.
    S,
    /// A page.
    P,
    /// The page of the next owner.
    Q,
}

/// A word that instructions reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The first word of *a*, through whatever translation there is.
    A,
    /// The descriptor of *a*.
    Slot,
    /// The first word of a page, by an address that is always mapped.
    Page(Page),
    /// A word of data for all.
    Flag,
}

/// An instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Insn {
    /// LDR or LDAR.
    Load(Reg, Place, Ordering),
    /// LDR of *a*, with a register as an offset.
    LoadIndexed(Reg, Reg),
    /// STR or STLR.
    Store(Reg, Place, Ordering),
    /// LDXR of the descriptor.
    LoadExclusive(Reg),
    /// STLXR of the descriptor: status, value.
    StoreExclusive(Reg, Reg),
    /// CAS of the descriptor: the first register is compared and gets what was there.
    CompareAndSwap(Reg, Reg, Ordering),
    /// SWP of the descriptor: new, old.
    Swap(Reg, Reg, Ordering),
    /// MOV of a constant.
    Move(Reg, u64),
    /// ADD of a constant.
    Add(Reg, Reg, u64),
    /// EOR.
    Xor(Reg, Reg, Reg),
    /// CMP with a register.
    Compare(Reg, Reg),
    /// CMP with a constant.
    CompareWith(Reg, u64),
    /// CBZ.
    BranchIfZero(Reg, usize),
    /// B.NE.
    BranchIfNotEqual(usize),
    /// B.
    Branch(usize),
    /// DMB, DSB or ISB.
    Barrier(Barrier),
    /// TLBI of *a*.
    Tlbi(Tlbi),
    /// What only prepares an operand that is known here: LSR of an address.
    Nothing,
    /// ADR of an instruction.
    AddressOf(Reg, usize),
    /// MSR ELR_EL1.
    SetReturn(Reg),
    /// ERET.
    ExceptionReturn,
}

/// Barriers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "their names are the instructions")]
pub enum Barrier {
    DmbIsh,
    DmbIshst,
    DsbIsh,
    DsbIshst,
    DsbIshld,
    DsbNsh,
    Isb,
}

/// TLB maintenance by address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "their names are the instructions")]
pub enum Tlbi {
    Vaae1,
    Vaae1is,
    Vaale1is,
}
