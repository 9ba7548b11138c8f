//! One thread of a litmus test, run by the CPU that calls: each instruction is the machine's own, with
//! an interpreter between them.
//!
//! The interpreter orders nothing: it touches registers and code of its own, branches where the test
//! branches and on whether an access faulted, and values go from load to store and from load to address
//! through its registers, so dependencies are kept. It leaves room for other CPUs, by YIELD and turns of
//! an empty loop, none of which means anything to the architecture.
//!
//! On a CPU without FEAT_LSE, CAS and SWP are an exclusive pair. A handler runs behind the fixup of the
//! access: the exception, and the return from it, are as real as the fault, but the return comes before
//! the handler's instructions instead of behind them, which is why ERET is an ISB here.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use bpf::random::Rng;
use litmus::test::{Barrier, Insn, Place as Target, REGISTERS, Thread, Tlbi};

use super::place::{A, Place};
use crate::arch::access::{Faulted, trial_read_u64, trial_write_u64};
use crate::arch::{atomic, barrier, tlb};

/// What a thread leaves.
#[derive(Clone, Copy)]
pub struct End {
    /// Its registers.
    pub registers: [u64; REGISTERS],
    /// A bit for each instruction that has faulted.
    pub faults: u32,
}

/// Turns of the empty loop that another CPU may come in by.
const TURNS: [u32; 4] = [0, 16, 64, 256];

/// A thread that runs.
struct Cpu<'a> {
    place: &'a Place,
    registers: [u64; REGISTERS],
    /// CMP found a difference.
    differs: bool,
    /// ELR_EL1, as the index of an instruction.
    elr: usize,
}

impl End {
    /// Of a thread that has not run.
    pub const NOTHING: Self = Self { registers: [0; REGISTERS], faults: 0 };
}

/// Waits for a while that chance decides, or not at all.
pub fn linger(rng: &mut Rng) {
    barrier::wait_hint();
    for turn in 0..TURNS[rng.below(TURNS.len() as u64) as usize] {
        black_box(turn);
    }
}

/// Runs `thread` to its end; chance decides where it lingers.
pub fn run(thread: &Thread, place: &Place, rng: &mut Rng) -> End {
    let mut cpu = Cpu { place, registers: [0; REGISTERS], differs: false, elr: 0 };
    for (register, value) in &thread.registers {
        cpu.registers[usize::from(*register)] = place.bits(*value);
    }
    let lingers = rng.below(2) == 0;
    let (mut at, mut handling, mut faults) = (0, false, 0);
    while let Some(insn) = thread.insns.get(at) {
        if at == thread.handler && !handling {
            break;
        }
        if lingers && rng.below(3) == 0 {
            linger(rng);
        }
        match cpu.execute(*insn, at) {
            Ok(next) => at = next,
            Err(Faulted) => {
                faults |= 1 << at;
                (at, handling) = (thread.handler, true);
            }
        }
        handling &= *insn != Insn::ExceptionReturn;
    }
    End { registers: cpu.registers, faults }
}

impl Cpu<'_> {
    /// Executes the instruction at `at`; the index of the next one.
    fn execute(&mut self, insn: Insn, at: usize) -> Result<usize, Faulted> {
        match insn {
            Insn::Load(to, from, order) => self.set(to, self.load(from, order)?),
            Insn::LoadIndexed(to, offset) => {
                self.set(to, trial_read_u64(A.offset(self.get(offset)))?);
            }
            Insn::Store(from, to, order) => self.store(to, self.get(from), order)?,
            Insn::LoadExclusive(to) => self.set(to, atomic::load_exclusive(self.place.slot())),
            Insn::StoreExclusive(status, from) => {
                let stored = atomic::store_exclusive_release(self.place.slot(), self.get(from));
                self.set(status, u64::from(!stored));
            }
            Insn::CompareAndSwap(expected, new, order) => {
                let (slot, old, new) = (self.place.slot(), self.get(expected), self.get(new));
                let found = atomic::compare_exchange(slot, old, new, order);
                self.set(expected, found.unwrap_or_else(|found| found));
            }
            Insn::Swap(new, old, order) => {
                let found = atomic::swap(self.place.slot(), self.get(new), order);
                self.set(old, found);
            }
            Insn::Move(to, constant) => self.set(to, constant),
            Insn::Add(to, from, constant) => self.set(to, self.get(from).wrapping_add(constant)),
            Insn::Xor(to, one, two) => self.set(to, self.get(one) ^ self.get(two)),
            Insn::Compare(one, two) => self.differs = self.get(one) != self.get(two),
            Insn::CompareWith(one, constant) => self.differs = self.get(one) != constant,
            Insn::BranchIfZero(value, to) if self.get(value) == 0 => return Ok(to),
            Insn::BranchIfNotEqual(to) if self.differs => return Ok(to),
            Insn::Branch(to) => return Ok(to),
            Insn::Barrier(barrier) => execute_barrier(barrier),
            Insn::Tlbi(tlbi) => execute_tlbi(tlbi),
            Insn::AddressOf(to, insn) => self.set(to, insn as u64),
            Insn::SetReturn(from) => self.elr = self.get(from) as usize,
            Insn::ExceptionReturn => {
                barrier::isb();
                return Ok(self.elr);
            }
            Insn::Nothing | Insn::BranchIfZero(..) | Insn::BranchIfNotEqual(_) => {}
        }
        Ok(at + 1)
    }

    fn load(&self, from: Target, order: Ordering) -> Result<u64, Faulted> {
        match self.word(from) {
            None => trial_read_u64(A),
            Some(word) => Ok(word.load(order)),
        }
    }

    fn store(&self, to: Target, value: u64, order: Ordering) -> Result<(), Faulted> {
        match self.word(to) {
            // SAFETY: only frames of the place are ever mapped there, and no Rust value lives in them.
            None => unsafe { trial_write_u64(A, value) },
            Some(word) => {
                word.store(value, order);
                Ok(())
            }
        }
    }

    /// A word that is always there; `None` for *a*.
    fn word(&self, at: Target) -> Option<&AtomicU64> {
        match at {
            Target::A => None,
            Target::Slot => Some(self.place.slot()),
            Target::Page(page) => Some(self.place.word(page)),
            Target::Flag => Some(&self.place.flag),
        }
    }

    fn get(&self, register: u8) -> u64 {
        self.registers[usize::from(register)]
    }

    fn set(&mut self, register: u8, value: u64) {
        self.registers[usize::from(register)] = value;
    }
}

fn execute_barrier(barrier: Barrier) {
    match barrier {
        Barrier::DmbIsh => barrier::dmb_ish(),
        Barrier::DmbIshst => barrier::dmb_ishst(),
        Barrier::DsbIsh => barrier::dsb_ish(),
        Barrier::DsbIshst => barrier::dsb_ishst(),
        Barrier::DsbIshld => barrier::dsb_ishld(),
        Barrier::DsbNsh => barrier::dsb_nsh(),
        Barrier::Isb => barrier::isb(),
    }
}

fn execute_tlbi(tlbi: Tlbi) {
    match tlbi {
        Tlbi::Vaae1 => tlb::vaae1(A),
        Tlbi::Vaae1is => tlb::vaae1is(A),
        Tlbi::Vaale1is => tlb::vaale1is(A),
    }
}
