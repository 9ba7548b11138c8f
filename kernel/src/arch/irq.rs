//! Interrupt masking that restores exactly what it found.

use core::arch::asm;
use core::marker::PhantomData;

/// PSTATE.I in DAIF.
const DAIF_I: u64 = 1 << 7;

/// Interrupts (IRQ and FIQ) masked on this CPU; dropping it restores DAIF as it was found.
///
/// Nest freely, drop in reverse order. Not `Send`: it speaks for the CPU that made it. It does not
/// stop synchronous exceptions, SError, or other CPUs.
#[must_use = "interrupts are unmasked again when the guard is dropped"]
#[derive(Debug)]
pub struct IrqGuard {
    daif: u64,
    this_cpu_only: PhantomData<*const ()>,
}

impl IrqGuard {
    /// Masks IRQ and FIQ. Two instructions, both compiler barriers.
    // Part of every lock operation, which is budgeted in instructions.
    #[inline(always)]
    pub fn new() -> Self {
        let daif: u64;
        // SAFETY: masking interrupts breaks no memory invariant; nothing is moved across it.
        unsafe {
            asm!("mrs {}, daif", "msr daifset, #3", out(reg) daif, options(nostack, preserves_flags));
        }
        Self { daif, this_cpu_only: PhantomData }
    }
}

impl Drop for IrqGuard {
    // See `new`.
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the value was read from DAIF by `new`.
        unsafe { asm!("msr daif, {}", in(reg) self.daif, options(nostack, preserves_flags)) }
    }
}

/// Unmasks IRQ and FIQ on this CPU. For the end of a CPU's start-up only: elsewhere
/// [`IrqGuard`] restores.
pub fn unmask() {
    // SAFETY: vectors and handlers are in place once `kernel_main` runs.
    unsafe { asm!("msr daifclr, #3", options(nostack, preserves_flags)) }
}

/// Masks D, A, I and F on this CPU for good: it is about to stop.
pub fn mask_all() {
    // SAFETY: as in `IrqGuard::new`.
    unsafe { asm!("msr daifset, #15", options(nostack, preserves_flags)) }
}

/// DAIF, as `mrs` reads it: D is bit 9, A 8, I 7, F 6; a set bit masks.
pub fn daif() -> u64 {
    let daif: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, daif", out(reg) daif, options(nomem, nostack, preserves_flags)) }
    daif
}

/// Whether IRQs are masked on this CPU (PSTATE.I is set).
pub fn is_masked() -> bool {
    daif() & DAIF_I != 0
}
