//! Where the stacks lie, and walking the frame records on them without ever faulting.

use core::arch::asm;
use core::ops::Range;

use super::percpu::{CpuId, MAX_CPUS};

/// Bytes of the hole below a stack.
const STACK_HOLE: u64 = (boot::STACK_SLOT - boot::STACK_SIZE) as u64;

/// Addresses of the stack of `cpu`, without the hole below it.
pub fn bounds(cpu: CpuId) -> Range<u64> {
    let base = (&raw const boot::boot_stacks).addr() + cpu.index() * boot::STACK_SLOT;
    let top = (base + boot::STACK_SLOT) as u64;
    top - boot::STACK_SIZE as u64..top
}

/// Addresses of the emergency stack of `cpu`, without the guard below it.
pub fn emergency_bounds(cpu: CpuId) -> Range<u64> {
    let base = (&raw const boot::boot_emergency_stacks).addr() + cpu.index() * boot::EMERGENCY_SLOT;
    let top = (base + boot::EMERGENCY_SLOT) as u64;
    top - boot::EMERGENCY_STACK_SIZE as u64..top
}

/// Return addresses, innermost first, from a chain of frame records (AAPCS64 6.4.6).
///
/// Reads only inside the stacks of this kernel and only aligned records, and each step must go up
/// within one stack or from an emergency stack to an ordinary one, so it ends and cannot fault
/// whatever the memory holds.
#[derive(Clone, Debug)]
pub struct Backtrace {
    record: u64,
    /// The stack that holds `record`.
    stack: Range<u64>,
}

impl Backtrace {
    /// From the caller of the function that executes this.
    #[inline(always)]
    pub fn here() -> Self {
        let x29: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, x29", out(reg) x29, options(nomem, nostack, preserves_flags)) };
        Self::from_record(x29)
    }

    /// From the frame record at `x29`: any value, also a wrong one.
    pub fn from_record(x29: u64) -> Self {
        Self { record: x29, stack: stack_of(x29).unwrap_or(0..0) }
    }
}

impl Iterator for Backtrace {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let record = self.record;
        let inside = self.stack.contains(&record) && record + 16 <= self.stack.end;
        if !inside || !record.is_multiple_of(8) {
            return None;
        }
        // SAFETY: both words lie on a stack of this kernel, which is always mapped, and are
        // aligned. Another CPU may write there at the same time: the value is only printed
        // and checked again, never trusted.
        let [next, return_address] = unsafe { (record as *const [u64; 2]).read_volatile() };
        self.record = 0;
        if self.stack.contains(&next) {
            self.record = if next > record { next } else { 0 };
        } else if let Some(stack) = stack_of(next).filter(|stack| stack.start < self.stack.start) {
            // From an emergency stack back to the stack that ran over.
            self.record = next;
            self.stack = stack;
        }
        (return_address != 0).then_some(return_address)
    }
}

/// The CPU whose stack or emergency stack has the guard that holds `address`.
pub fn guard_of(address: u64) -> Option<CpuId> {
    CpuId::all().find(|cpu| {
        let [stack, emergency] = [bounds(*cpu).start, emergency_bounds(*cpu).start];
        (stack - STACK_HOLE..stack).contains(&address)
            || (emergency - boot::EMERGENCY_GUARD as u64..emergency).contains(&address)
    })
}

/// The stack that holds `address`. No search: it is part of each report of a violation.
fn stack_of(address: u64) -> Option<Range<u64>> {
    let within = |stacks: u64, slot: usize, size: usize| {
        let cpu = address.checked_sub(stacks)? / slot as u64;
        if cpu >= MAX_CPUS as u64 {
            return None;
        }
        let top = stacks + (cpu + 1) * slot as u64;
        let stack = top - size as u64..top;
        stack.contains(&address).then_some(stack)
    };
    let stacks = (&raw const boot::boot_stacks).addr() as u64;
    let emergency = (&raw const boot::boot_emergency_stacks).addr() as u64;
    within(stacks, boot::STACK_SLOT, boot::STACK_SIZE)
        .or_else(|| within(emergency, boot::EMERGENCY_SLOT, boot::EMERGENCY_STACK_SIZE))
}
