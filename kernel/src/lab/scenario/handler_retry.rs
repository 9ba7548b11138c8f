//! `handler-retry`: the abort handler installs scratch and returns; the access is made again.
//!
//! Actors: two kernel functions, each on a CPU and on a page of its own. Stores take effect late
//! (`weak`).
//! Right: the handler's DSB completes the install before it returns: one abort, one report an access.
//! Wrong (`no-dsb`): the access may abort again, and one violation is reported twice.

use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{load, new_arena, page};
use crate::fault;
use crate::lab::explore;
use crate::lab::race::{self, Ground, IDLE, Race};
use crate::mem::arena::KernelArena;
use crate::prog::program::Program;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "handler-retry",
    suite: "scenario",
    about: "an access whose abort was answered does not abort again",
    variants: &[
        variant("no-dsb", "the handler returns before its install is complete", "fail: aborts for 2"),
    ],
    min_cpus: 2,
    explored: true,
    run: handler_retry,
}

struct Actors {
    arena: Arc<KernelArena>,
    program: Arc<Program>,
    /// Aborts answered before the schedule.
    before: AtomicU64,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.arena.free(page(&self.arena, 0), 2).map_err(Failure::of("free"))?;
        race::drain(&self.program);
        self.before.store(answered(), Ordering::Relaxed);
        Ok(())
    }

    fn act(&self, cpu: usize) {
        race::on_behalf_of(&self.program, || race::read(page(&self.arena, cpu as u32)));
    }

    fn check(&self) -> Outcome {
        let aborts = answered() - self.before.load(Ordering::Relaxed);
        claim!(aborts == 2, "{aborts} aborts for 2 accesses");
        Ok(())
    }
}

fn answered() -> u64 {
    fault::COUNTS.recovered.load(Ordering::Relaxed)
}

fn handler_retry(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let program = load("idle", &IDLE, &arena)?;
    let pages = vec![page(&arena, 0), page(&arena, 1)];
    let ground = Ground::new(&arena, 2, &pages, 2);
    let actors = Actors { arena, program, before: AtomicU64::new(0) };
    explore::run_as(ctx, &ctx.lab().weakened(), &ground, &actors)
}
