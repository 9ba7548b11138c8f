//! `user-on-scratch`: an EL0 task touches an address whose kernel slot holds scratch.
//!
//! Actors: F (CPU 0), a kernel function on behalf of a program, writes to a page that nobody allocated;
//! T (CPU 1), with a task's address space and EL0's rights, touches the same page.
//! Right: if scratch came first the task gets its fault and nothing is mapped; if the task came first
//! both have the page.
//! Wrong (`scratch-for-users`): scratch is mapped for the task.

use core::sync::atomic::{AtomicBool, Ordering};

use arena::arena::UserFault;
use arena::pte::Pte;

use super::stage::Stage;
use super::user_zap::space;
use crate::lab::explore;
use crate::lab::race::{self, Ground, Race};
use crate::mem::machine::Machine;
use crate::runner::item::variant;
use crate::runner::{Ctx, Outcome, claim, item};
use crate::task::space::Space;

item! {
    name: "user-on-scratch",
    suite: "scenario",
    about: "a task touches a page where a wild access of the kernel left scratch",
    variants: &[
        variant("scratch-for-users", "tasks are given scratch as well", "fail: scratch-for-user"),
    ],
    min_cpus: 2,
    explored: true,
    run: user_on_scratch,
}

struct Actors {
    stage: Stage,
    space: Space,
    /// The task's touch was answered, and refused because of scratch.
    served: AtomicBool,
    refused: AtomicBool,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.served.store(false, Ordering::Relaxed);
        self.refused.store(false, Ordering::Relaxed);
        self.stage.clear()
    }

    fn act(&self, cpu: usize) {
        let Stage { arena, target, .. } = &self.stage;
        if cpu == 0 {
            self.stage.wild(|| race::write(*target, 7));
            return;
        }
        let user = arena.window().to_user(*target);
        let half = self.space.enter();
        if !race::user_write(user, 8) {
            let outcome = arena.user_fault(user);
            self.refused.store(outcome == Err(UserFault::Scratch), Ordering::Relaxed);
            self.served.store(outcome.is_ok() && race::user_write(user, 8), Ordering::Relaxed);
        }
        drop(half);
    }

    fn check(&self) -> Outcome {
        let Stage { arena, target, .. } = &self.stage;
        let served = self.served.load(Ordering::Relaxed);
        let refused = self.refused.load(Ordering::Relaxed);
        claim!(served != refused, "the touch was served={served} and refused={refused}");
        let scratch = self.stage.holds_scratch(*target);
        claim!(scratch == refused, "scratch={scratch}, and the touch was refused={refused}");
        let slot = arena.user_slot(arena.window().to_user(*target));
        let entry = slot.map_or(Pte::EMPTY, |slot| slot.load(&Machine));
        claim!(entry.is_valid() == served, "the task's entry is {entry}");
        let seen = self.stage.each_reported(None)?;
        claim!(seen.installed == u64::from(scratch), "{seen:?}");
        if refused {
            self.stage.meet();
        }
        Ok(())
    }
}

fn user_on_scratch(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let space = space(&stage)?;
    let ground = Ground { shown: [stage.target].into(), ..stage.ground(2) };
    let (served, refused) = (AtomicBool::new(false), AtomicBool::new(false));
    let actors = Actors { stage, space, served, refused };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "scratch came before the task's touch")
}
