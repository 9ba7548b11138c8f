//! `free-scratch`: a range is freed in which one slot holds scratch.
//!
//! Right: scratch is skipped and keeps serving, the slot is empty, the range is free.
//! Wrong (`frees-scratch`): the scratch frame goes to the allocator while it is still mapped.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::pte::State;

use super::{drain_violations, load, new_arena, page, tear_down};
use crate::mem::frame;
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "free-scratch",
    suite: "scenario",
    about: "a range is freed in which one slot holds scratch",
    variants: &[
        variant("frees-scratch", "scratch goes to the allocator", "fail: frames given back"),
    ],
    run: free_scratch,
}

/// Touches two wild pages: one in the range that is freed, one outside.
struct TouchTwo(AtomicU64);

static CODE: TouchTwo = TouchTwo(AtomicU64::new(0));

impl Code for TouchTwo {
    fn run(&self, _: &Program, _: u64) -> u64 {
        let first = VirtAddr::new(self.0.load(Ordering::Relaxed));
        kfunc::read_word(first) + kfunc::read_word(first.offset(8 * PAGE_SIZE))
    }
}

fn free_scratch(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let first = arena.alloc(None, 3).map_err(Failure::of("alloc"))?;
    let middle = first.offset(PAGE_SIZE);
    arena.free(middle, 1).map_err(Failure::of("free of the middle"))?;
    CODE.0.store(middle.get(), Ordering::Relaxed);
    let program = load("touch-two", &CODE, &arena)?;
    program.run(0).map_err(Failure::of_debug("run"))?;
    claim!(drain_violations(ctx, &program).len() == 2, "two pages were touched");
    let outside = middle.offset(8 * PAGE_SIZE);
    for wild in [middle, outside] {
        let frame = arena.entry(wild).and_then(|entry| entry.frame());
        claim!(frame == Some(arena.scratch()), "{wild} does not map scratch");
    }

    let before = frame::in_use();
    arena.free(first, 3).map_err(Failure::of("free"))?;
    let given_back = before.wrapping_sub(frame::in_use());
    claim!(given_back == 2, "frames given back: {given_back}, of which two were pages");
    let entry = arena.entry(middle).ok_or_else(|| Failure::new("no slot".into()))?;
    claim!(entry.state() == State::Empty, "the slot holds {entry}");
    claim!(kfunc::read_word(outside) == 0, "scratch no longer serves the other slot");
    let again = arena.alloc(Some(first), 3).map_err(Failure::of("the range is free"))?;
    claim!(again == page(&arena, 0), "the range moved");
    tear_down(ctx, program, arena)
}
