//! `zero-then-publish`: L fills a frame with zeroes and installs it; B reads through the new mapping.
//!
//! Actors: L (CPU 0) allocates a page; B (CPU 1) reads it as soon as it is mapped. Stores take effect
//! late (`weak`): an emulator on a strong host never shows this by itself.
//! Right: the install is a release: B reads zeroes or finds nothing.
//! Wrong (`relaxed-install`): B reads what the frame held before.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::VirtAddr;

use super::{new_arena, page};
use crate::lab::explore;
use crate::lab::race::{self, Ground, Race};
use crate::mem::arena::KernelArena;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "zero-then-publish",
    suite: "scenario",
    about: "a page is read the moment it is mapped: are its zeroes there?",
    variants: &[
        variant("relaxed-install", "the page is published without release", "fail: stale bytes"),
    ],
    min_cpus: 2,
    explored: true,
    run: zero_then_publish,
}

/// What frames hold before they are zeroed.
const SOIL: u64 = 0x5011_5011_5011_5011;

/// So many that the spurious faults of all of them, which once were counted as one that does not end,
/// would reach the limit of retries.
const SCHEDULES: u64 = 15_000;

struct Actors {
    arena: Arc<KernelArena>,
    target: VirtAddr,
    /// The bits of everything that B read.
    read: AtomicU64,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.arena.free(self.target, 1).map_err(Failure::of("free"))?;
        race::soil_frames(SOIL);
        self.read.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn act(&self, cpu: usize) {
        if cpu == 0 {
            // Cannot fail but for lack of frames, and then B reads nothing.
            let _ = self.arena.alloc(Some(self.target), 1);
            return;
        }
        for _ in 0..3 {
            let seen = race::try_read(self.target).unwrap_or(0);
            self.read.fetch_or(seen, Ordering::Relaxed);
        }
    }

    fn check(&self) -> Outcome {
        let read = self.read.load(Ordering::Relaxed);
        claim!(read == 0, "stale bytes: {read:#x} read from a page that must be zero");
        claim!(
            race::stored(&self.arena, self.target) == Some(0),
            "the page is not zero at the end"
        );
        Ok(())
    }
}

fn zero_then_publish(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let target = page(&arena, 3);
    let ground = Ground::new(&arena, 2, &[target], 4);
    let actors = Actors { arena, target, read: AtomicU64::new(0) };
    explore::run_as(ctx, &ctx.lab().weakened().often(SCHEDULES), &ground, &actors)
}
