//! `abba`: two arenas; A holds X and its tracepoint program allocates from Y, B the reverse.
//!
//! Actors: A (CPU 0) allocates from X, B (CPU 1) from Y; P, a program on `mm_page_alloc`, allocates
//! from the other of the two, under the lock that its CPU holds.
//! Right: if both hold one and want the other, one P is refused (`Abba`), and all else goes on.
//! Wrong (`plain-spin`): both spin for ever.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::VirtAddr;
use arena::arena::AllocError;
use arena::hw::LockError;
use spin::Mutex;

use super::stage::{Stage, renew};
use super::{new_arena, page};
use crate::arch::percpu::CpuId;
use crate::lab::explore;
use crate::lab::race::{Ground, Race};
use crate::mem::arena::KernelArena;
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "abba",
    suite: "scenario",
    about: "two CPUs hold an arena each, and their programs allocate from the other's",
    variants: &[variant("plain-spin", "the locks cannot tell and spin", "fail: deadlock")],
    min_cpus: 2,
    explored: true,
    run: abba,
}

/// P. The counts are of one schedule.
struct AllocElsewhere {
    /// What each CPU's P allocates from.
    other: [Mutex<Option<Arc<KernelArena>>>; 2],
    given: AtomicU64,
    abba: AtomicU64,
    otherwise: AtomicU64,
}

static CODE: AllocElsewhere = AllocElsewhere {
    other: [const { Mutex::new(None) }; 2],
    given: AtomicU64::new(0),
    abba: AtomicU64::new(0),
    otherwise: AtomicU64::new(0),
};

impl Code for AllocElsewhere {
    fn run(&self, _: &Program, _: u64) -> u64 {
        let Some(other) = self.other[CpuId::current().index()].lock().clone() else { return 0 };
        let counter = match other.alloc(Some(page(&other, INNER)), 1) {
            Ok(_) => &self.given,
            Err(AllocError::Lock(LockError::Abba)) => &self.abba,
            Err(_) => &self.otherwise,
        };
        counter.fetch_add(1, Ordering::Relaxed)
    }
}

/// The page that actors allocate, and the one that programs do.
const OUTER: u32 = 3;
const INNER: u32 = 4;

struct Actors {
    stage: Stage,
    /// X and Y.
    arenas: [Arc<KernelArena>; 2],
    allocated: AtomicU64,
}

impl Actors {
    fn pages(&self) -> [VirtAddr; 4] {
        let [x, y] = &self.arenas;
        [page(x, OUTER), page(x, INNER), page(y, OUTER), page(y, INNER)]
    }
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        drop(MM_PAGE_ALLOC.detach());
        for arena in &self.arenas {
            arena.free(page(arena, OUTER), 2).map_err(Failure::of("free"))?;
        }
        for counter in [&CODE.given, &CODE.abba, &CODE.otherwise, &self.allocated] {
            counter.store(0, Ordering::Relaxed);
        }
        renew(&MM_PAGE_ALLOC, "alloc-elsewhere", &CODE, &self.stage.arena)
    }

    fn act(&self, cpu: usize) {
        let arena = &self.arenas[cpu];
        let got = arena.alloc(Some(page(arena, OUTER)), 1).is_ok();
        self.allocated.fetch_add(u64::from(got), Ordering::Relaxed);
    }

    fn check(&self) -> Outcome {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (given, abba, otherwise) = (read(&CODE.given), read(&CODE.abba), read(&CODE.otherwise));
        claim!(read(&self.allocated) == 2, "{} of 2 allocations", read(&self.allocated));
        claim!(otherwise == 0, "{otherwise} programs were refused for another reason");
        claim!(abba <= 1 && given + abba == 2, "{given} programs were served, {abba} refused");
        if abba > 0 {
            self.stage.meet();
        }
        Ok(())
    }
}

fn abba(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let (x, y) = (stage.arena.clone(), new_arena(ctx)?);
    *CODE.other[0].lock() = Some(y.clone());
    *CODE.other[1].lock() = Some(x.clone());
    let actors = Actors { stage, arenas: [x.clone(), y.clone()], allocated: AtomicU64::new(0) };
    let ground = Ground { other: Some(y), ..Ground::new(&x, 2, &actors.pages(), 8) };
    let outcome = explore::run(ctx, &ground, &actors);
    drop(MM_PAGE_ALLOC.detach());
    CODE.other.iter().for_each(|other| drop(other.lock().take()));
    outcome?;
    actors.stage.met(ctx, "each held what the other wanted")
}
