//! `no-bbm-replace`: an allocation replaces the scratch that an old violation left, while another
//! CPU uses the page.
//!
//! Actors: L (CPU 0) allocates the page over scratch; B (CPU 1), a kernel function on behalf of a
//! program, writes there, looks whether L is through, and writes again.
//! Right: L breaks, flushes, makes. Behind L's return B's write is in the new page.
//! Wrong (`no-tlbi`): the new entry is made while a TLB may hold scratch's. What comes of it is in
//! `no-bbm-replace.effect`: B's reads reach scratch behind L's return.

use core::sync::atomic::{AtomicBool, Ordering};

use arena::step::StepPoint;

use super::stage::Stage;
use super::tear_down;
use crate::arch::barrier;
use crate::arch::percpu::CpuId;
use crate::arch::smp::{self, CpuSet};
use crate::lab::engine;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::prog::kfunc;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "no-bbm-replace",
    suite: "scenario",
    about: "an allocation replaces scratch while another CPU writes there",
    variants: &[
        variant("no-tlbi", "scratch is replaced without TLB maintenance", "fail: make-before-tlbi"),
    ],
    min_cpus: 2,
    explored: true,
    run: no_bbm_replace,
}

item! {
    name: "no-bbm-replace.effect",
    suite: "scenario",
    about: "a CPU that used scratch reads the page that replaced it",
    variants: &[
        variant("no-tlbi", "scratch is replaced without TLB maintenance", "fail: B reads scratch"),
    ],
    min_cpus: 2,
    run: effect,
}

/// What B writes before it looks, and behind.
const BEFORE: u64 = 0xb0b0;
const BEHIND: u64 = 0xb1b1;

struct Actors {
    stage: Stage,
    /// L is through, with its page.
    returned: AtomicBool,
    /// B saw that, and wrote after it.
    saw: AtomicBool,
}

impl Actors {
    /// The step before a look at `returned` or a store to it.
    fn step_of_flag(&self) {
        engine::step(StepPoint::Flag, core::ptr::from_ref(&self.returned).addr() as u64);
    }
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.returned.store(false, Ordering::Relaxed);
        self.saw.store(false, Ordering::Relaxed);
        self.stage.clear_to_scratch()
    }

    fn act(&self, cpu: usize) {
        let target = self.stage.target;
        if cpu == 0 {
            let outcome = self.stage.arena.alloc(Some(target), 1);
            self.step_of_flag();
            self.returned.store(outcome.is_ok(), Ordering::Relaxed);
            return;
        }
        self.stage.wild(|| {
            race::write(target, BEFORE);
            self.step_of_flag();
            let saw = self.returned.load(Ordering::Relaxed);
            race::write(target, BEHIND);
            self.saw.store(saw, Ordering::Relaxed);
        });
    }

    fn check(&self) -> Outcome {
        claim!(self.returned.load(Ordering::Relaxed), "the allocation failed");
        claim!(!self.stage.holds_scratch(self.stage.target), "scratch is still mapped");
        if self.saw.load(Ordering::Relaxed) {
            self.stage.meet();
            let stored = race::stored(&self.stage.arena, self.stage.target);
            claim!(stored == Some(BEHIND), "B's write behind L's return is lost: {stored:x?}");
        }
        self.stage.each_reported(None).map(drop)
    }
}

fn no_bbm_replace(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = stage.ground(2);
    let actors = Actors { stage, returned: AtomicBool::new(false), saw: AtomicBool::new(false) };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "B wrote behind L's return")
}

/// Without the oracles, which end a schedule at its first wrong step: what the step leads to.
///
/// Between its write and its read B does nothing but wait: whatever else it executed or touched could take
/// the place of scratch's translation in its TLB.
fn effect(ctx: &Ctx) -> Outcome {
    let Stage { arena, program, target, .. } = Stage::new(ctx)?;
    let l = CpuId::current();
    let other = CpuSet::online().without(l).iter().next();
    let b = other.ok_or(Failure::Skip("needs more CPUs"))?;
    let [wrote, returned] = [const { AtomicBool::new(false) }; 2];
    let [allocated, wrong] = [const { AtomicBool::new(false) }; 2];
    smp::on_each(CpuSet::NONE.with(l).with(b), |cpu| {
        if cpu == l {
            wait_for(&wrote);
            allocated.store(arena.alloc(Some(target), 1).is_ok(), Ordering::Relaxed);
            tell(&returned);
            return;
        }
        let read = race::on_behalf_of(&program, || {
            kfunc::write_word(target, BEFORE);
            tell(&wrote);
            wait_for(&returned);
            kfunc::read_word(target)
        });
        wrong.store(read != Some(0), Ordering::Relaxed);
    });
    race::drain(&program);
    claim!(allocated.into_inner(), "the allocation failed");
    claim!(!wrong.into_inner(), "B reads scratch behind L's return");
    arena.free(target, 1).map_err(Failure::of("free"))?;
    tear_down(ctx, program, arena)
}

fn tell(flag: &AtomicBool) {
    // Release: what came before is seen by whoever sees the flag.
    flag.store(true, Ordering::Release);
    barrier::publish_event();
}

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        barrier::wfe();
    }
}
