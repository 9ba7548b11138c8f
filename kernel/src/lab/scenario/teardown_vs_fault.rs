//! `teardown-vs-fault`: an arena is destroyed while a program faults in it.
//!
//! Actors: B (CPU 1) runs a program whose kernel function writes to a wild address of its arena; A
//! (CPU 0) tears the program down as soon as it may and drops the arena.
//! Right: the destruction waits for the program; frames, tables and scratch are freed once.
//! Wrong: scratch goes into freed tables, or is freed while it is mapped.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arena::addr::VirtAddr;
use arena::step::StepPoint;
use spin::Mutex;

use super::stage::Stage;
use super::{new_small_arena, page};
use crate::lab::race::{self, Ground, Race};
use crate::lab::{engine, explore};
use crate::mem::arena::KernelArena;
use crate::mem::frame;
use crate::prog::program::{Code, Program};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "teardown-vs-fault",
    suite: "scenario",
    about: "an arena is destroyed while a program faults in it",
    variants: &[variant("hasty-teardown", "teardown waits for nobody", "fail: torn-down-in-use")],
    min_cpus: 2,
    explored: true,
    run: teardown_vs_fault,
}

/// Bytes of each stream of the program, which lives for one schedule.
const STREAM: usize = 4096;

/// The program: writes to its wild address twice.
struct WriteWild {
    wild: AtomicU64,
    /// It is inside.
    inside: AtomicBool,
}

static CODE: WriteWild = WriteWild { wild: AtomicU64::new(0), inside: AtomicBool::new(false) };

impl Code for WriteWild {
    fn run(&self, _: &Program, _: u64) -> u64 {
        let wild = VirtAddr::new(self.wild.load(Ordering::Relaxed));
        self.inside.store(true, Ordering::Relaxed);
        race::write(wild, 7);
        race::write(wild.offset(arena::addr::PAGE_SIZE), 8);
        self.inside.store(false, Ordering::Relaxed);
        0
    }
}

/// What A destroys and B uses.
struct Scene {
    program: Arc<Program>,
    arena: Arc<KernelArena>,
}

struct Actors<'a> {
    ctx: &'a Ctx,
    stage: Stage,
    scene: Mutex<Option<Scene>>,
    /// B's own reference, as an attach point has one.
    attached: Mutex<Option<Arc<Program>>>,
    /// Frames in use before the scene was made.
    frames: AtomicU64,
    /// The teardown came through while the program was inside.
    torn_down_inside: AtomicBool,
    /// Runs that were refused because the teardown came first.
    refused: AtomicU64,
}

impl Race for Actors<'_> {
    fn reset(&self) -> Outcome {
        self.frames.store(frame::in_use(), Ordering::Relaxed);
        let scene = engine::with_real_frames(|| {
            let arena = new_small_arena(self.ctx)?;
            let program =
                Program::load_with_streams("write-wild", &CODE, Some(arena.clone()), STREAM)
                    .map_err(Failure::of_debug("program"))?;
            Ok(Scene { program, arena })
        })?;
        CODE.wild.store(page(&scene.arena, 5).get(), Ordering::Relaxed);
        *self.attached.lock() = Some(scene.program.clone());
        *self.scene.lock() = Some(scene);
        Ok(())
    }

    fn act(&self, cpu: usize) {
        if cpu == 1 {
            let attached = self.attached.lock().take();
            engine::step(StepPoint::Flag, 1);
            let refused = attached.is_some_and(|program| program.run(0).is_err());
            self.refused.fetch_add(u64::from(refused), Ordering::Relaxed);
            return;
        }
        let Some(Scene { program, arena }) = self.scene.lock().take() else { return };
        engine::step(StepPoint::Flag, 1);
        while program.tear_down().is_err() {
            engine::pause();
        }
        self.torn_down_inside.store(CODE.inside.load(Ordering::Relaxed), Ordering::Relaxed);
        engine::step(StepPoint::RefDrop, 1);
        drop(program);
        drop(arena);
    }

    fn check(&self) -> Outcome {
        let torn_down_inside = self.torn_down_inside.load(Ordering::Relaxed);
        claim!(!torn_down_inside, "the program was torn down while it ran");
        let (before, now) = (self.frames.load(Ordering::Relaxed), frame::in_use());
        claim!(before == now, "{before} frames in use before, {now} behind the teardown");
        Ok(())
    }
}

fn teardown_vs_fault(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = Ground { frames: 0, ..stage.ground(2) };
    let actors = Actors {
        ctx,
        stage,
        scene: Mutex::new(None),
        attached: Mutex::new(None),
        frames: AtomicU64::new(0),
        torn_down_inside: AtomicBool::new(false),
        refused: AtomicU64::new(0),
    };
    explore::run(ctx, &ground, &actors)?;
    let refused = actors.refused.load(Ordering::Relaxed);
    ctx.note(format_args!("{refused} schedules in which the teardown came first"));
    drop(actors.stage);
    Ok(())
}
