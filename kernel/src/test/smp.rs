//! CPUs, interrupts and time.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arena::hw::LockName;

use crate::arch::percpu::{CpuId, PerCpu};
use crate::arch::smp::{self, CpuSet};
use crate::arch::{barrier, irq, stack, timer};
use crate::mem::lock::IrqSpinLock;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "every-cpu-runs-on-its-own-stack-with-its-own-block",
    suite: "smp",
    about: "a job on each CPU sees its number, its stack and unmasked IRQs",
    run: own_stack,
}

item! {
    name: "every-cpu-ticks",
    suite: "smp",
    about: "the virtual timer's interrupt arrives on each CPU, and time goes forward",
    run: ticks,
}

item! {
    name: "an-sgi-reaches-every-other-cpu",
    suite: "smp",
    about: "a job is announced by SGI and counted by the CPU that took it",
    min_cpus: 2,
    run: sgi,
}

item! {
    name: "a-tick-waits-for-the-lock",
    suite: "smp",
    about: "no tick is taken inside a critical section, and the pending one right after it",
    run: tick_waits,
}

fn own_stack(_: &Ctx) -> Outcome {
    let cpus = CpuSet::online();
    let (ran, wrong) = (AtomicU32::new(0), AtomicU32::new(0));
    smp::on_each(cpus, |cpu| {
        let local = 0_u8;
        let here = (&raw const local).addr() as u64;
        let right =
            CpuId::current() == cpu && stack::bounds(cpu).contains(&here) && !irq::is_masked();
        wrong.fetch_add(u32::from(!right), Ordering::Relaxed);
        ran.fetch_add(1 << cpu.index(), Ordering::Relaxed);
    });
    let (ran, wrong) = (ran.into_inner(), wrong.into_inner());
    claim!(ran == (1 << cpus.len()) - 1, "CPUs that ran: {ran:#b}");
    claim!(wrong == 0, "{wrong} CPUs were not where they should be");
    Ok(())
}

fn ticks(_: &Ctx) -> Outcome {
    let backwards = AtomicU32::new(0);
    smp::on_each(CpuSet::online(), |cpu| {
        let before = PerCpu::of(cpu).ticks.load(Ordering::Relaxed);
        let mut last = timer::now_ns();
        // Ends when the event comes; a tick that never does is the harness's to time.
        while PerCpu::of(cpu).ticks.load(Ordering::Relaxed) < before + 2 {
            barrier::wfi();
            let now = timer::now_ns();
            backwards.fetch_add(u32::from(now < last), Ordering::Relaxed);
            last = now;
        }
    });
    let backwards = backwards.into_inner();
    claim!(backwards == 0, "time went back {backwards} times");
    Ok(())
}

fn sgi(_: &Ctx) -> Outcome {
    let others = CpuSet::online().without(CpuId::current());
    let took = |cpu| PerCpu::of(cpu).sgis.load(Ordering::Relaxed);
    let before: u64 = others.iter().map(took).sum();
    let ran = AtomicU64::new(0);
    smp::on_each(others, |_| {
        ran.fetch_add(1, Ordering::Relaxed);
    });
    let ran = ran.into_inner();
    claim!(ran == others.len() as u64, "{ran} of {} CPUs ran the job", others.len());
    let taken = others.iter().map(took).sum::<u64>() - before;
    claim!(taken >= ran, "{taken} SGIs for {ran} jobs");
    Ok(())
}

fn tick_waits(_: &Ctx) -> Outcome {
    static NAME: LockName = LockName("tick test");
    let lock = IrqSpinLock::named(&NAME, ());
    let ticks = || PerCpu::this().ticks.load(Ordering::Relaxed);
    let guard = lock.acquire();
    let before = ticks();
    while !timer::is_pending() {
        core::hint::spin_loop();
    }
    let inside = ticks() - before;
    drop(guard);
    // The pending interrupt is taken as soon as it is unmasked.
    barrier::isb();
    let after = ticks() - before;
    claim!(inside == 0, "{inside} ticks inside the critical section");
    claim!(after >= 1, "the pending tick did not come");
    Ok(())
}
