//! `abort-in-lock`: a program is aborted by another CPU while its kernel function runs under the
//! arena's lock.
//!
//! Actors: L (CPU 0) allocates with P attached to `mm_page_alloc`, whose kernel function writes to a
//! wild address; B (CPU 1) aborts P, waits until it can be torn down, detaches it, and allocates.
//! Right: the teardown waits until P is out; nothing of P is used behind it, and the lock is free.
//! Wrong: the lock is left held, or the program goes while it runs.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arena::addr::VirtAddr;
use arena::step::StepPoint;
use spin::Mutex;

use super::stage::Stage;
use crate::lab::race::{self, Race};
use crate::lab::{engine, explore};
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "abort-in-lock",
    suite: "scenario",
    about: "a program is aborted while its kernel function runs under the lock",
    variants: &[variant("hasty-teardown", "teardown waits for nobody", "fail: torn-down-in-use")],
    min_cpus: 2,
    explored: true,
    run: abort_in_lock,
}

/// Bytes of each stream of P, which lives for one schedule.
const STREAM: usize = 4096;

/// P: writes to its wild address.
struct WriteWild {
    wild: AtomicU64,
    /// P is inside.
    inside: AtomicBool,
}

static CODE: WriteWild = WriteWild { wild: AtomicU64::new(0), inside: AtomicBool::new(false) };

impl Code for WriteWild {
    fn run(&self, _: &Program, _: u64) -> u64 {
        self.inside.store(true, Ordering::Relaxed);
        race::write(VirtAddr::new(self.wild.load(Ordering::Relaxed)), 7);
        self.inside.store(false, Ordering::Relaxed);
        0
    }
}

struct Actors {
    stage: Stage,
    program: Mutex<Option<Arc<Program>>>,
    /// What B found: P inside when it aborted it, and behind the teardown.
    aborted_inside: AtomicBool,
    torn_down_inside: AtomicBool,
    allocated: AtomicU64,
}

impl Actors {
    fn allocate(&self, at: VirtAddr) {
        let got = self.stage.arena.alloc(Some(at), 1).is_ok();
        self.allocated.fetch_add(u64::from(got), Ordering::Relaxed);
    }

    fn end_program(&self) {
        let Some(program) = self.program.lock().take() else { return };
        engine::step(StepPoint::Flag, program.id());
        self.aborted_inside.store(CODE.inside.load(Ordering::Relaxed), Ordering::Relaxed);
        program.life().abort();
        // Before the detach, which waits for P by itself: what is tried is the teardown's own wait.
        while program.tear_down().is_err() {
            engine::pause();
        }
        self.torn_down_inside.store(CODE.inside.load(Ordering::Relaxed), Ordering::Relaxed);
        drop(MM_PAGE_ALLOC.detach());
    }
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        drop(MM_PAGE_ALLOC.detach());
        self.stage.clear()?;
        self.allocated.store(0, Ordering::Relaxed);
        let arena = Some(self.stage.arena.clone());
        let program = Program::load_with_streams("write-wild", &CODE, arena, STREAM)
            .map_err(Failure::of_debug("program"))?;
        *self.program.lock() = Some(program.clone());
        MM_PAGE_ALLOC.attach(program).map_err(Failure::of_debug("attach"))
    }

    fn act(&self, cpu: usize) {
        if cpu == 0 {
            self.allocate(self.stage.target);
        } else {
            self.end_program();
            self.allocate(self.stage.second());
        }
    }

    fn check(&self) -> Outcome {
        let torn_down_inside = self.torn_down_inside.load(Ordering::Relaxed);
        claim!(!torn_down_inside, "the program was torn down while it ran");
        let allocated = self.allocated.load(Ordering::Relaxed);
        claim!(allocated == 2, "{allocated} of 2 allocations");
        if self.aborted_inside.load(Ordering::Relaxed) {
            self.stage.meet();
        }
        Ok(())
    }
}

fn abort_in_lock(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    CODE.wild.store(stage.second().get(), Ordering::Relaxed);
    let actors = Actors {
        stage,
        program: Mutex::new(None),
        aborted_inside: AtomicBool::new(false),
        torn_down_inside: AtomicBool::new(false),
        allocated: AtomicU64::new(0),
    };
    let outcome = explore::run(ctx, &actors.stage.ground(2), &actors);
    drop(MM_PAGE_ALLOC.detach());
    outcome?;
    actors.stage.met(ctx, "the program was aborted while it ran under the lock")
}
