//! Locks, frames, descriptors.

use core::hint::black_box;

use arena::addr::{Frame, VirtAddr};
use arena::hw::{Frames, Irqs, Lock, LockName};
use arena::pte::{Attributes, Pte, Stamp};
use arena::slot::PteSlot;
use arena::walk::leaf_slot;

use super::{figure, plain, quietly};
use crate::arch::timer;
use crate::mem::lock::IrqSpinLock;
use crate::mem::machine::Machine;
use crate::mem::resilient::ResilientLock;
use crate::mem::{frame, kmap};
use crate::runner::{Ctx, Failure, Outcome, item};

item! {
    name: "bench-locks",
    suite: "bench",
    about: "lock and unlock, uncontended",
    run: locks,
}

item! {
    name: "bench-memory",
    suite: "bench",
    about: "frames, zeroing, one descriptor",
    run: memory,
}

static NAME: LockName = LockName("bench");
static SPIN: IrqSpinLock<u64> = IrqSpinLock::named(&NAME, 0);

fn locks(_: &Ctx) -> Outcome {
    let resilient: ResilientLock<u64> =
        Lock::new(&NAME, 0).ok_or_else(|| Failure::new("no lock is left".into()))?;
    quietly(|| {
        plain("nops-100", timer::hundred_nops)?;
        plain("irq-spinlock", || *SPIN.acquire() += 1)?;
        plain("resilient-lock", || resilient.lock(Irqs::Masked).map(|mut value| *value += 1))
    })
}

/// `ptep_try_set` as the kernel has it, through a call.
#[inline(never)]
fn try_set(slot: &PteSlot, page: VirtAddr, new: Pte) -> Result<(), Pte> {
    slot.try_set(&Machine, page, new)
}

fn stamp(number: u64) -> Result<Stamp, Failure> {
    Stamp::new(number).ok_or_else(|| Failure::new("no stamp".into()))
}

fn memory(_: &Ctx) -> Outcome {
    let frames = [frame::alloc(), frame::alloc()];
    let [Some(first), Some(second)] = frames else {
        return Err(Failure::new("no frames".into()));
    };
    let outcome = quietly(|| {
        plain("frame-alloc-free", || frame::alloc().map(frame::free))?;
        for count in [8, 64] {
            let many = || Ok([None; 64]);
            figure("frames-alloc-free", count, many, |frames: &mut [Option<Frame>; 64]| {
                let all = &mut frames[..count as usize];
                all.iter_mut().for_each(|place| *place = frame::alloc());
                all.iter_mut().for_each(|place| place.take().map_or((), frame::free));
            })?;
        }
        for order in [3, 9] {
            figure(
                "frame-run-alloc-free",
                1 << order,
                || Ok(()),
                |()| {
                    let run = frame::alloc_run(order);
                    run.map(|first| frame::free_run(first, order)).is_some()
                },
            )?;
        }
        plain("zero-page", || Machine.zero(first))?;
        descriptor(first, second)
    });
    [first, second].into_iter().for_each(frame::free);
    outcome
}

fn descriptor(first: Frame, second: Frame) -> Outcome {
    let va = kmap::TEST_PAGE;
    let slot = kmap::walk_to(va).slot;
    let [one, other] = [first, second].map(|frame| Pte::page(frame, Attributes::KERNEL_DATA));
    let (clear_stamp, spare) = (stamp(1)?, stamp(2)?);
    // With its arguments at hand: what is measured is the call.
    let cleared = || {
        slot.clear(&Machine, va, clear_stamp);
        Ok((slot, va, one))
    };
    figure("try-set", 1, cleared, |(slot, va, one)| try_set(slot, *va, *one))?;
    plain("walk-to-slot", || leaf_slot(&Machine, kmap::root(), black_box(va)).is_some())?;
    let filled = || {
        slot.clear(&Machine, va, clear_stamp);
        let set = slot.try_set(&Machine, va, one);
        set.map_err(|found| Failure::new(alloc::format!("the slot holds {found}")))
    };
    figure("bbm-replace", 1, filled, |()| slot.replace(&Machine, va, other, || spare))?;
    figure("clear-flush", 1, filled, |()| slot.clear(&Machine, va, spare))?;
    slot.clear(&Machine, va, clear_stamp);
    Ok(())
}
