//! The IRQ-disabled spinlock: DAIF is read from the hardware, never from the lock's own idea of it.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use arena::hw::{Irqs, Lock, LockError, LockName};

use crate::arch::irq::{self, IrqGuard};
use crate::arch::percpu::CpuId;
use crate::arch::smp::{self, CpuSet};
use crate::mem::held;
use crate::mem::lock::IrqSpinLock;
use crate::runner::{Ctx, Outcome, claim, item};

static FIRST_NAME: LockName = LockName("first");
static SECOND_NAME: LockName = LockName("second");

item! {
    name: "lock-masks-irqs-and-restores-daif-exactly",
    suite: "lock",
    about: "DAIF before, inside and after a critical section, from unmasked and from masked",
    run: masks_and_restores,
}

item! {
    name: "nested-locks-restore-daif-and-the-record",
    suite: "lock",
    about: "two nested locks leave DAIF as it was and no held record",
    run: nests,
}

item! {
    name: "a-released-lock-leaves-the-record-in-any-order",
    suite: "lock",
    about: "of two locks held, the one that goes first leaves the other on record",
    run: leaves_record,
}

item! {
    name: "lock-refuses-its-own-holder",
    suite: "lock",
    about: "a second lock by the same CPU is A-A, and a try_lock is refused",
    run: refuses_own_holder,
}

item! {
    name: "lock-excludes-other-cpus",
    suite: "lock",
    about: "every CPU increments a plain counter under the lock and none is lost",
    min_cpus: 2,
    run: excludes,
}

fn masks_and_restores(_: &Ctx) -> Outcome {
    let lock = IrqSpinLock::named(&FIRST_NAME, ());
    let before = irq::daif();
    claim!(!irq::is_masked(), "IRQs are masked before: DAIF {before:#x}");
    let guard = lock.acquire();
    const IRQ_AND_FIQ: u64 = 0b11 << 6;
    let inside = irq::daif();
    claim!(inside == before | IRQ_AND_FIQ, "DAIF was {before:#x} and is {inside:#x} inside");
    drop(guard);
    claim!(irq::daif() == before, "DAIF was {before:#x} and is {:#x}", irq::daif());

    let outer = IrqGuard::new();
    let masked = irq::daif();
    drop(lock.acquire());
    claim!(irq::daif() == masked, "a lock taken with IRQs masked unmasked them");
    drop(outer);
    let unchanged = lock.lock(Irqs::Unchanged);
    claim!(unchanged.is_ok() && irq::daif() == before, "Irqs::Unchanged changed DAIF");
    Ok(())
}

fn nests(_: &Ctx) -> Outcome {
    let first = IrqSpinLock::named(&FIRST_NAME, ());
    let second = IrqSpinLock::named(&SECOND_NAME, ());
    let before = irq::daif();
    let (outer, inner) = (first.acquire(), second.acquire());
    let names: Vec<_> = held::names(CpuId::current()).collect();
    claim!(names == ["first", "second"], "held: {names:?}");
    drop(inner);
    claim!(irq::is_masked(), "the inner release unmasked IRQs");
    drop(outer);
    claim!(irq::daif() == before, "DAIF was {before:#x} and is {:#x}", irq::daif());
    claim!(held::names(CpuId::current()).next().is_none(), "a lock is still on record");
    Ok(())
}

fn leaves_record(_: &Ctx) -> Outcome {
    let first = IrqSpinLock::named(&FIRST_NAME, ());
    let second = IrqSpinLock::named(&SECOND_NAME, ());
    // Masked throughout, so that the order of release does not decide about IRQs.
    let _masked = IrqGuard::new();
    for first_goes in [true, false] {
        let mut outer = first.lock(Irqs::Unchanged).ok();
        let mut inner = second.lock(Irqs::Unchanged).ok();
        let (goes, stays) = if first_goes { (&mut outer, "second") } else { (&mut inner, "first") };
        *goes = None;
        let left = held::names(CpuId::current()).next();
        let count = held::names(CpuId::current()).count();
        claim!((left, count) == (Some(stays), 1), "{count} on record, the first is {left:?}");
    }
    Ok(())
}

fn refuses_own_holder(_: &Ctx) -> Outcome {
    let lock = IrqSpinLock::named(&FIRST_NAME, ());
    let guard = lock.acquire();
    claim!(lock.lock(Irqs::Masked).err() == Some(LockError::Aa), "the second lock was given");
    claim!(lock.try_lock(Irqs::Masked).is_none(), "try_lock was given");
    claim!(lock.is_held_here(), "the holder is not on record");
    drop(guard);
    claim!(!lock.is_held_here(), "the holder stayed on record");
    claim!(lock.try_lock(Irqs::Masked).is_some(), "the lock was not released");
    Ok(())
}

/// Increments by each CPU.
const ROUNDS: u32 = 2000;

fn excludes(_: &Ctx) -> Outcome {
    // An atomic only so that it can be shared; load and store are separate on purpose.
    let lock = IrqSpinLock::named(&FIRST_NAME, AtomicU32::new(0));
    let cpus = CpuSet::online();
    smp::on_each(cpus, |_| {
        for _ in 0..ROUNDS {
            let counter = lock.acquire();
            let seen = counter.load(Ordering::Relaxed);
            core::hint::spin_loop();
            counter.store(seen + 1, Ordering::Relaxed);
        }
    });
    let (sum, expected) = (lock.acquire().load(Ordering::Relaxed), cpus.len() as u32 * ROUNDS);
    claim!(sum == expected, "{sum} increments of {expected}");
    Ok(())
}
