//! Where exceptions reach Rust.
//!
//! `boot/src/vectors.S` saves everything in a [`TrapFrame`], calls one of the functions below with
//! interrupts masked, and returns from the exception with whatever the frame then holds.

use core::arch::asm;
use core::sync::atomic::Ordering;

use super::exit;
use super::percpu::PerCpu;
use crate::{fault, interrupt, log};

/// The interrupted state, on the stack of the CPU that took the exception. Written back on return,
/// except `sp` (for EL1) and the syndrome registers.
#[repr(C)]
#[derive(Debug)]
pub struct TrapFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer: SP_EL0 if EL0 was interrupted.
    pub sp: u64,
    /// ELR_EL1: where to return, or the instruction that faulted.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1; means something only if `esr` says so.
    pub far: u64,
    /// The frame record of the exception: (x29, elr).
    record: [u64; 2],
}

const _: () = {
    assert!(size_of::<TrapFrame>() == boot::TRAP_FRAME_SIZE);
    assert!(core::mem::offset_of!(TrapFrame, sp) == 248);
    assert!(core::mem::offset_of!(TrapFrame, elr) == 256);
    assert!(core::mem::offset_of!(TrapFrame, esr) == 272);
    assert!(core::mem::offset_of!(TrapFrame, record) == 288);
};

impl TrapFrame {
    /// The state of a task that has not run: all registers 0 but these, nothing masked at EL0.
    pub const fn at_el0(pc: u64, sp: u64) -> Self {
        Self { x: [0; 31], sp, elr: pc, spsr: 0, esr: 0, far: 0, record: [0; 2] }
    }
}

/// Unmasks SError on this CPU: an asynchronous abort is to be reported where it happens.
pub fn unmask_serror() {
    // SAFETY: vectors are in place from before Rust.
    unsafe { asm!("msr daifclr, #4", options(nostack, preserves_flags)) }
}

#[unsafe(no_mangle)]
extern "C" fn trap_sync(frame: &mut TrapFrame) {
    fault::sync(frame);
}

#[unsafe(no_mangle)]
extern "C" fn trap_irq(frame: &mut TrapFrame) {
    interrupt::irq(frame);
}

#[unsafe(no_mangle)]
extern "C" fn trap_fiq(frame: &mut TrapFrame) {
    fault::unexpected(frame, "FIQ");
}

#[unsafe(no_mangle)]
extern "C" fn trap_serror(frame: &mut TrapFrame) {
    fault::unexpected(frame, "SError");
}

/// `slot` is the number of the vector, 0 to 15.
#[unsafe(no_mangle)]
extern "C" fn trap_unexpected(frame: &mut TrapFrame, slot: u64) -> ! {
    fault::unexpected(frame, if slot < 4 { "exception on SP_EL0" } else { "AArch32 exception" })
}

#[unsafe(no_mangle)]
extern "C" fn trap_stack_overflow(frame: &mut TrapFrame) -> ! {
    // Relaxed: this CPU's own count. The report overflowed the emergency stack: say only that.
    if PerCpu::this().overflows.fetch_add(1, Ordering::Relaxed) > 0 {
        log::emergency().line(format_args!("Bail out! oops: emergency stack overflow"));
        exit::exit(exit::Code::Crashed);
    }
    fault::stack_overflow(frame)
}
