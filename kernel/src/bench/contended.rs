//! Locks that several CPUs want at once: what one passage costs, over all of them.
//!
//! The figure is all instructions of all CPUs divided by the passages through the lock; what a waiter
//! executes while it waits counts as well. Under one emulator thread the CPUs take turns, so the holder
//! gives its turn away before it releases the lock, and all others ask for it meanwhile; it gives another
//! away behind that, so that an unfair lock changes hands as well.

use arena::hw::{Irqs, Lock, LockName};

use super::{Measured, quietly};
use crate::arch::barrier;
use crate::arch::smp::{self, CpuSet};
use crate::arch::timer;
use crate::mem::lock::IrqSpinLock;
use crate::mem::resilient::ResilientLock;
use crate::runner::{Ctx, Failure, Outcome, item};

item! {
    name: "bench-contended",
    suite: "bench",
    about: "a passage through a lock that all CPUs want at once",
    min_cpus: 2,
    run: contended,
}

static NAME: LockName = LockName("contended");
static SPIN: IrqSpinLock<u64> = IrqSpinLock::named(&NAME, 0);

/// Passages of each CPU.
const PASSAGES: u64 = 2000;

fn contended(_: &Ctx) -> Outcome {
    let queued: ResilientLock<u64> =
        Lock::new(&NAME, 0).ok_or_else(|| Failure::new("no lock is left".into()))?;
    *SPIN.acquire() = 0;
    let cpus = CpuSet::online().len() as u64;
    quietly(|| {
        let spin = passages(|| {
            let mut value = SPIN.acquire();
            *value += 1;
            barrier::wait_hint();
        });
        let queue = passages(|| {
            // A wait that times out or is refused is a passage that is missing below.
            if let Ok(mut value) = queued.lock(Irqs::Masked) {
                *value += 1;
                barrier::wait_hint();
            }
        });
        let passed = [*SPIN.acquire(), queued.lock(Irqs::Masked).map_or(0, |value| *value)];
        crate::runner::claim!(passed == [cpus * PASSAGES; 2], "{passed:?} passages");
        spin.print("irq-spinlock-contended", cpus);
        queue.print("resilient-lock-contended", cpus);
        Ok(())
    })
}

fn passages(pass: impl Fn() + Sync) -> Measured {
    let cpus = CpuSet::online();
    let before = timer::counter();
    smp::on_each(cpus, |_| {
        timer::stop_tick();
        (0..PASSAGES).for_each(|_| {
            pass();
            barrier::wait_hint();
        });
        timer::start_tick();
    });
    let count = (timer::counter() - before) / (PASSAGES * cpus.len() as u64);
    timer::stop_tick();
    Measured { count, spread: 0 }
}
