//! `fault-storm`: wild accesses come again and again while L replaces scratch.
//!
//! Actors: L (CPU 0) allocates the page over scratch; B and, in `fault-storm.three` and
//! `fault-storm.four`, C and D, kernel functions on behalf of a program, write there several times.
//! Right: each time that L must break anew is paid for by a fault that installed scratch, so L is
//! through when the faults are; every wild access is reported.
//! Wrong: L never finishes, or gives up (`busy`).

use core::sync::atomic::{AtomicBool, Ordering};

use arena::pte::State;

use super::stage::{Stage, descriptor_writes};
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "fault-storm",
    suite: "scenario",
    about: "faults refill the slot again and again while an allocation replaces scratch",
    variants: &[
        variant("busy", "the install takes scratch for an error", "fail: the allocation failed"),
        variant("no-tlbi", "scratch is replaced without TLB maintenance", "fail: make-before-tlbi"),
    ],
    min_cpus: 2,
    explored: true,
    run: |ctx| fault_storm(ctx, 2),
}

item! {
    name: "fault-storm.three",
    suite: "scenario",
    about: "two CPUs refill the slot while a third replaces scratch",
    variants: &[
        variant("no-tlbi", "scratch is replaced without TLB maintenance", "fail: make-before-tlbi"),
    ],
    min_cpus: 3,
    explored: true,
    run: |ctx| fault_storm(ctx, 3),
}

item! {
    name: "fault-storm.four",
    suite: "scenario",
    about: "three CPUs refill the slot while a fourth replaces scratch",
    variants: &[
        variant("no-tlbi", "scratch is replaced without TLB maintenance", "fail: make-before-tlbi"),
    ],
    min_cpus: 4,
    explored: true,
    run: |ctx| fault_storm(ctx, 4),
}

/// Wild accesses of each of the storm's CPUs.
const ACCESSES: u64 = 3;

struct Actors {
    stage: Stage,
    allocated: AtomicBool,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.allocated.store(false, Ordering::Relaxed);
        self.stage.clear_to_scratch()
    }

    fn act(&self, cpu: usize) {
        let target = self.stage.target;
        if cpu == 0 {
            let outcome = self.stage.arena.alloc(Some(target), 1);
            self.allocated.store(outcome.is_ok(), Ordering::Relaxed);
        } else {
            self.stage.wild(|| (0..ACCESSES).for_each(|n| race::write(target, n)));
        }
    }

    fn check(&self) -> Outcome {
        claim!(self.allocated.load(Ordering::Relaxed), "the allocation failed");
        claim!(!self.stage.holds_scratch(self.stage.target), "scratch is still mapped");
        let seen = self.stage.each_reported(None)?;
        let breaks = descriptor_writes(|old, new| old == State::Valid && new != State::Valid);
        claim!(
            breaks as u64 <= 1 + seen.installed,
            "L broke {breaks} entries where faults installed {}",
            seen.installed
        );
        if breaks > 1 {
            self.stage.meet();
        }
        Ok(())
    }
}

fn fault_storm(ctx: &Ctx, actors: usize) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = stage.ground(actors);
    let actors = Actors { stage, allocated: AtomicBool::new(false) };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "L had to break scratch more than once")
}
