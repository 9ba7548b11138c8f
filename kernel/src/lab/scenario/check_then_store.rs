//! `check-then-store`: L finds the slot empty, F on another CPU installs scratch there, L stores its
//! page.
//!
//! Actors: L (CPU 0) allocates a page at an address; F (CPU 1), a kernel function on behalf of a
//! program, writes to that address.
//! Right: the install is a compare-and-swap that fails; L breaks scratch, flushes, maps its page.
//! Wrong (`plain-store`): a valid entry is overwritten by another.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use arena::addr::VirtAddr;

use super::{load, new_arena, page};
use crate::lab::explore;
use crate::lab::race::{self, Ground, IDLE, Race};
use crate::mem::arena::KernelArena;
use crate::prog::program::Program;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "check-then-store",
    suite: "scenario",
    about: "a fault installs scratch between the allocator's look and its store",
    variants: &[
        variant("plain-store", "the page is installed by a plain store", "fail: valid-to-valid"),
    ],
    min_cpus: 2,
    explored: true,
    run: check_then_store,
}

struct Actors {
    arena: Arc<KernelArena>,
    program: Arc<Program>,
    target: VirtAddr,
    allocated: AtomicBool,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.arena.free(self.target, 1).map_err(Failure::of("free"))?;
        race::drain(&self.program);
        self.allocated.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn act(&self, cpu: usize) {
        match cpu {
            0 => {
                let outcome = self.arena.alloc(Some(self.target), 1);
                self.allocated.store(outcome.is_ok(), Ordering::Relaxed);
            }
            _ => {
                race::on_behalf_of(&self.program, || race::write(self.target, 7));
            }
        }
    }

    fn check(&self) -> Outcome {
        claim!(self.allocated.load(Ordering::Relaxed), "the allocation failed");
        let frame = self.arena.entry(self.target).and_then(|entry| entry.frame());
        claim!(frame != Some(self.arena.scratch()), "scratch is still mapped");
        Ok(())
    }
}

fn check_then_store(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let program = load("idle", &IDLE, &arena)?;
    let target = page(&arena, 3);
    let ground = Ground::new(&arena, 2, &[target], 4);
    let actors = Actors { arena, program, target, allocated: AtomicBool::new(false) };
    explore::run(ctx, &ground, &actors)
}
