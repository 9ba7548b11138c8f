//! `stuck-holder`: a CPU that holds the arena's lock does not come back.
//!
//! Actors: A (CPU 0) allocates, and P, a program on `mm_page_alloc`, waits under the lock until B has
//! an answer; B (CPU 1) allocates as well.
//! Right: where B waits, it is told that its time is up and who holds the lock; it goes on, and so
//! does A.
//! Wrong (`plain-spin`): B waits for ever.

use core::sync::atomic::{AtomicBool, Ordering};

use arena::arena::AllocError;
use arena::hw::LockError;
use arena::step::StepPoint;
use spin::Mutex;

use super::stage::{Stage, renew};
use crate::arch::percpu::CpuId;
use crate::lab::race::Race;
use crate::lab::{engine, explore};
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "stuck-holder",
    suite: "scenario",
    about: "the holder of the lock waits for one that waits for the lock",
    variants: &[variant("plain-spin", "the lock cannot tell and spins", "fail: deadlock")],
    min_cpus: 2,
    explored: true,
    run: stuck_holder,
}

/// P: on CPU 0 it waits, under the lock, for CPU 1's answer.
struct Stuck {
    answered: AtomicBool,
}

static CODE: Stuck = Stuck { answered: AtomicBool::new(false) };

impl Code for Stuck {
    fn run(&self, _: &Program, _: u64) -> u64 {
        if CpuId::current() == CpuId::BOOT {
            engine::step(StepPoint::Flag, 1);
            while !self.answered.load(Ordering::Relaxed) {
                engine::pause();
            }
        }
        0
    }
}

struct Actors {
    stage: Stage,
    answers: [Mutex<Option<Result<(), AllocError>>>; 2],
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        drop(MM_PAGE_ALLOC.detach());
        self.stage.clear()?;
        CODE.answered.store(false, Ordering::Relaxed);
        renew(&MM_PAGE_ALLOC, "stuck", &CODE, &self.stage.arena)
    }

    fn act(&self, cpu: usize) {
        let at = if cpu == 0 { self.stage.target } else { self.stage.second() };
        *self.answers[cpu].lock() = Some(self.stage.arena.alloc(Some(at), 1).map(drop));
        if cpu == 1 {
            engine::step(StepPoint::Flag, 1);
            CODE.answered.store(true, Ordering::Relaxed);
        }
    }

    fn check(&self) -> Outcome {
        let [a, b] = self.answers.each_ref().map(|answer| answer.lock().take());
        claim!(a == Some(Ok(())), "the holder's own allocation: {a:?}");
        match b {
            Some(Ok(())) => {}
            Some(Err(AllocError::Lock(LockError::Timeout { holder: 0 }))) => self.stage.meet(),
            other => claim!(false, "the waiter's allocation: {other:?}"),
        }
        Ok(())
    }
}

fn stuck_holder(ctx: &Ctx) -> Outcome {
    let actors = Actors { stage: Stage::new(ctx)?, answers: [const { Mutex::new(None) }; 2] };
    let outcome = explore::run(ctx, &actors.stage.ground(2), &actors);
    drop(MM_PAGE_ALLOC.detach());
    outcome?;
    actors.stage.met(ctx, "the waiter's time was up")
}
