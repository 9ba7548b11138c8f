//! `user-zap`: a page is mapped in a task's EL0 window when it is freed.
//!
//! Actors: A (CPU 0) frees the page, allocates another, which gets the same frame, and writes to it;
//! T (CPU 1), with a task's address space and EL0's rights, writes to the page, and touches it anew
//! where it faults.
//! Right: both windows are unmapped and flushed before the frame is anybody else's.
//! Wrong (`kernel-only-unmap`): the task keeps access to a frame that is reused.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::VirtAddr;

use super::page;
use super::stage::Stage;
use crate::lab::explore;
use crate::lab::race::{self, Ground, Race};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};
use crate::task::space::Space;
use crate::task::user;

item! {
    name: "user-zap",
    suite: "scenario",
    about: "a page that a task has mapped is freed, and its frame reused",
    variants: &[
        variant("kernel-only-unmap", "only the kernel's entry is cleared", "fail: freed-while-mapped"),
        variant("no-tlbi-free", "neither window is flushed", "fail: freed-while-mapped"),
    ],
    min_cpus: 2,
    explored: true,
    run: user_zap,
}

/// What A and T write.
const OF_A: u64 = 0xaaaa;
const OF_T: u64 = 0x7777;

struct Actors {
    stage: Stage,
    space: Space,
    /// T's writes that were made.
    written: AtomicU64,
}

impl Actors {
    fn user(&self) -> VirtAddr {
        self.stage.arena.window().to_user(self.stage.target)
    }
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.stage.clear_to_page()?;
        self.written.store(0, Ordering::Relaxed);
        self.stage.arena.user_fault(self.user()).map_err(Failure::of_debug("touch"))
    }

    fn act(&self, cpu: usize) {
        let Stage { arena, target, .. } = &self.stage;
        if cpu == 0 {
            let freed = arena.free(*target, 1).is_ok();
            if freed && arena.alloc(Some(self.stage.second()), 1).is_ok() {
                self.stage.wild(|| race::write(self.stage.second(), OF_A));
            }
            return;
        }
        let half = self.space.enter();
        for _ in 0..2 {
            let done = race::user_write(self.user(), OF_T);
            self.written.fetch_add(u64::from(done), Ordering::Relaxed);
            if !done && arena.user_fault(self.user()).is_err() {
                break;
            }
        }
        drop(half);
    }

    fn check(&self) -> Outcome {
        let stored = race::stored(&self.stage.arena, self.stage.second());
        claim!(stored == Some(OF_A), "A's page holds {stored:x?}");
        if self.written.load(Ordering::Relaxed) == 1 {
            self.stage.meet();
        }
        Ok(())
    }
}

/// A page that is no race's own, in the same table as those that are.
const ELSEWHERE: u32 = 40;

/// A task's address space that shows the arena, with the tables that its pages need.
pub fn space(stage: &Stage) -> Result<Space, Failure> {
    let code = user::HELLO.code();
    let space = Space::create(code, Some(&stage.arena)).map_err(Failure::of_debug("space"))?;
    let elsewhere = page(&stage.arena, ELSEWHERE);
    let user = stage.arena.window().to_user(elsewhere);
    stage.arena.user_fault(user).map_err(Failure::of_debug("touch"))?;
    stage.arena.free(elsewhere, 1).map_err(Failure::of("free"))?;
    Ok(space)
}

fn user_zap(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let space = space(&stage)?;
    let ground = Ground { shown: [stage.target].into(), ..stage.ground(2) };
    let actors = Actors { stage, space, written: AtomicU64::new(0) };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "the free came between two accesses of the task")
}
