//! `two-faulters.explored`: two CPUs fault on one empty slot; every interleaving of the two handlers.
//!
//! Actors: A (CPU 0) and B (CPU 1), in `two-faulters.four` C and D as well, kernel functions on behalf
//! of a program, read the page.
//! Right: one install, all reads see scratch, and each fault is reported.
//! Wrong (`blind-scratch`): two installs. (`loss-is-error`): the second fault is reported to nobody.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "two-faulters.explored",
    suite: "scenario",
    about: "two CPUs fault on one empty slot at once",
    variants: &[
        variant("blind-scratch", "the handler stores scratch unseen", "fail: 2 installs"),
        variant("loss-is-error", "the handler gives a lost install up", "fail: 1 reports of 2"),
    ],
    min_cpus: 2,
    explored: true,
    run: |ctx| two_faulters(ctx, 2),
}

item! {
    name: "two-faulters.four",
    suite: "scenario",
    about: "four CPUs fault on one empty slot at once",
    min_cpus: 4,
    explored: true,
    run: |ctx| two_faulters(ctx, 4),
}

/// What neither reads.
const UNREAD: u64 = u64::MAX;

struct Actors {
    stage: Stage,
    read: Vec<AtomicU64>,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.read.iter().for_each(|read| read.store(UNREAD, Ordering::Relaxed));
        self.stage.clear()
    }

    fn act(&self, cpu: usize) {
        let read = self.stage.wild(|| race::read(self.stage.target));
        self.read[cpu].store(read.unwrap_or(UNREAD), Ordering::Relaxed);
    }

    fn check(&self) -> Outcome {
        for (cpu, read) in self.read.iter().enumerate() {
            let read = read.load(Ordering::Relaxed);
            claim!(read == 0, "CPU {cpu} read {read:#x} and not scratch");
        }
        let seen = self.stage.each_reported(None)?;
        claim!(seen.installed == 1, "{} installs", seen.installed);
        if seen.lost > 0 {
            self.stage.meet();
        }
        Ok(())
    }
}

fn two_faulters(ctx: &Ctx, actors: usize) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = stage.ground(actors);
    let read = (0..actors).map(|_| AtomicU64::new(UNREAD)).collect();
    let actors = Actors { stage, read };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "several faulted and all but one lost")
}
