//! A deadlock that the kernel sees coming: reported as one, and the end of the run.
//!
//! The CPU cannot go on: the code that would release the lock is below on its own stack. So the
//! running test fails, the log is closed as a complete one, and the guest exits with code 1.

use crate::arch::percpu::CpuId;
use crate::arch::trap::TrapFrame;
use crate::mem::held;

/// This CPU waits for a lock that it holds.
#[cold]
pub fn self_deadlock(lock: &str) -> ! {
    let cpu = CpuId::current();
    crate::runner::diagnose(format_args!(
        "deadlock: lock {lock} held by cpu{cpu}; cpu{cpu} waits for it (A-A)"
    ));
    end()
}

/// An abort handler retries without end because it cannot get what the interrupted code holds.
#[cold]
pub fn stuck_abort(frame: &TrapFrame, retries: u32) -> ! {
    let cpu = CpuId::current();
    let on_top = format_args!(
        "abort on top: esr={:#010x} far={:#018x} elr={:#018x}, retried {retries} times without \
         progress",
        frame.esr, frame.far, frame.elr
    );
    let mut held = held::names(cpu).peekable();
    if held.peek().is_none() {
        crate::runner::diagnose(format_args!("deadlock: no lock held; {on_top}"));
    }
    for lock in held {
        crate::runner::diagnose(format_args!(
            "deadlock: lock {lock} held by cpu{cpu}; {on_top} (A-A)"
        ));
    }
    end()
}

/// The symbol is part of the interface to debuggers: a breakpoint on it stops at every deadlock.
#[unsafe(export_name = "deadlock_found")]
fn end() -> ! {
    crate::lab::explore::tell_end("deadlock", &mut |line| crate::runner::diagnose(line));
    crate::runner::fail_and_end("deadlock")
}
