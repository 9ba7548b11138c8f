//! Making the instruction side see what was stored as data. Arm ARM B2.7.4.

use core::arch::asm;

use arena::addr::VirtAddr;

use super::barrier;

/// The smallest cache line that the architecture allows; more steps than needed do no harm.
const LINE: u64 = 16;

/// Makes `bytes` bytes of code that were stored at `start` fetchable by every CPU, through whatever
/// address. A CPU that runs them owes a context synchronisation first: an ERET is one.
pub fn publish_code(start: VirtAddr, bytes: u64) {
    for line in (start.get() & !(LINE - 1)..start.get() + bytes).step_by(LINE as usize) {
        // SAFETY: cleaning changes no value that a coherent observer sees.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) }
    }
    barrier::dsb_ish();
    // All of it: the code runs through another address than it was written through, and an
    // instruction cache may be indexed by either.
    // SAFETY: instructions are fetched again.
    unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) }
    barrier::dsb_ish();
    barrier::isb();
}
