//! `sticky-busy`: scratch was left by an old violation; a later allocation picks that page.
//!
//! Right: the allocation succeeds over scratch, and its page is not scratch.
//! Wrong (`busy`): it fails now and for ever.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::VirtAddr;

use super::{PAGES, drain_violations, load, new_arena, page, tear_down};
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "sticky-busy",
    suite: "scenario",
    about: "an allocation picks a page where an old violation left scratch",
    variants: &[
        variant("busy", "the install takes scratch for an error", "fail: alloc over scratch"),
    ],
    run: sticky_busy,
}

struct WriteAt(AtomicU64);

static CODE: WriteAt = WriteAt(AtomicU64::new(0));

impl Code for WriteAt {
    fn run(&self, _: &Program, _: u64) -> u64 {
        kfunc::write_word(VirtAddr::new(self.0.load(Ordering::Relaxed)), u64::MAX);
        0
    }
}

fn sticky_busy(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let wild = page(&arena, 5);
    CODE.0.store(wild.get(), Ordering::Relaxed);
    let program = load("old-violation", &CODE, &arena)?;
    program.run(0).map_err(Failure::of_debug("run"))?;
    let violations = drain_violations(ctx, &program);
    claim!(violations.len() == 1, "{} violations on the stream", violations.len());
    let left = arena.entry(wild).and_then(|entry| entry.frame());
    claim!(left == Some(arena.scratch()), "no scratch was left");

    let all = arena.alloc(None, PAGES).map_err(Failure::of("alloc over scratch"))?;
    claim!(all == page(&arena, 0), "the arena was not empty");
    for index in 0..PAGES {
        let value = kfunc::read_word(page(&arena, index));
        claim!(value == 0, "page {index} reads {value:#x}");
    }
    kfunc::write_word(wild, 1);
    let in_scratch = kfunc::read_word(crate::mem::kmap::to_virt(arena.scratch().start()));
    claim!(in_scratch == u64::MAX, "a write to the page reached scratch");
    arena.free(all, PAGES).map_err(Failure::of("free"))?;
    tear_down(ctx, program, arena)
}
