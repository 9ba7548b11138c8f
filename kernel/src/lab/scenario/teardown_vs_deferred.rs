//! `teardown-vs-deferred`: an arena is destroyed with deferred frees pending.
//!
//! Actors: B (CPU 1) is the worker; A (CPU 0) drops the last reference to the arena, of which two pages
//! wait to be freed.
//! Right: the worker is waited for, or finds nothing; every frame goes back once.
//! Wrong (`hasty-teardown`): the arena goes while the worker is inside.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::step::StepPoint;
use spin::Mutex;

use super::stage::Stage;
use super::{new_small_arena, page};
use crate::lab::race::{Ground, Race};
use crate::lab::{engine, explore};
use crate::mem::arena::KernelArena;
use crate::mem::{frame, worker};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "teardown-vs-deferred",
    suite: "scenario",
    about: "an arena is destroyed while a worker frees its pages",
    variants: &[variant("hasty-teardown", "teardown waits for nobody", "fail: torn-down-in-use")],
    min_cpus: 2,
    explored: true,
    run: teardown_vs_deferred,
}

struct Actors<'a> {
    ctx: &'a Ctx,
    arena: Mutex<Option<Arc<KernelArena>>>,
    /// Frames in use before the arena was made.
    frames: AtomicU64,
    /// Work that was left when the worker was through.
    left: AtomicU64,
}

impl Race for Actors<'_> {
    fn reset(&self) -> Outcome {
        worker::work();
        self.frames.store(frame::in_use(), Ordering::Relaxed);
        let arena = engine::with_real_frames(|| {
            let arena = new_small_arena(self.ctx)?;
            arena.alloc(Some(page(&arena, 2)), 3).map_err(Failure::of("alloc"))?;
            for index in [2, 4] {
                arena.free_later(page(&arena, index), 1).map_err(Failure::of("free"))?;
            }
            Ok(arena)
        })?;
        *self.arena.lock() = Some(arena);
        Ok(())
    }

    fn act(&self, cpu: usize) {
        if cpu == 1 {
            worker::work();
            return;
        }
        let arena = self.arena.lock().take();
        engine::step(StepPoint::RefDrop, 1);
        if let Some(arena) = &arena {
            self.left.fetch_add(u64::from(arena.has_deferred()), Ordering::Relaxed);
        }
        drop(arena);
    }

    fn check(&self) -> Outcome {
        let (before, now) = (self.frames.load(Ordering::Relaxed), frame::in_use());
        claim!(before == now, "{before} frames in use before, {now} behind the teardown");
        Ok(())
    }
}

fn teardown_vs_deferred(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = Ground { frames: 0, ..stage.ground(2) };
    let (frames, left) = (AtomicU64::new(0), AtomicU64::new(0));
    let actors = Actors { ctx, arena: Mutex::new(None), frames, left };
    explore::run(ctx, &ground, &actors)?;
    let left = actors.left.load(Ordering::Relaxed);
    ctx.note(format_args!("{left} schedules in which pages were left for the teardown"));
    Ok(())
}
