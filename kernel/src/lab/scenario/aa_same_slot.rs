//! `aa-same-slot`: as `aa-fault`, and the wild pointer names the very slot that L is about to fill.
//!
//! Right: the fault puts scratch there; L breaks it, flushes, and maps its page.
//! Wrong: L's install fails, or overwrites a valid entry.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::VirtAddr;
use arena::lifecycle::State as Life;

use super::{drain_violations, load, new_arena, page, tear_down};
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "aa-same-slot",
    suite: "scenario",
    about: "the wild pointer names the slot that the lock holder is about to fill",
    variants: &[
        variant("busy", "the install takes scratch for an error", "fail: alloc"),
    ],
    run: aa_same_slot,
}

struct WriteAt(AtomicU64);

static CODE: WriteAt = WriteAt(AtomicU64::new(0));

impl Code for WriteAt {
    fn run(&self, _: &Program, _: u64) -> u64 {
        let wild = VirtAddr::new(self.0.load(Ordering::Relaxed));
        kfunc::write_word(wild, u64::MAX);
        // The translation to scratch is in this CPU's TLB when L replaces the entry.
        kfunc::read_word(wild)
    }
}

fn aa_same_slot(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let target = page(&arena, 3);
    CODE.0.store(target.get(), Ordering::Relaxed);
    let program = load("same-slot", &CODE, &arena)?;
    MM_PAGE_ALLOC.attach(program.clone()).map_err(Failure::of_debug("attach"))?;
    let outcome = arena.alloc(Some(target), 1);
    drop(MM_PAGE_ALLOC.detach());
    let got = outcome.map_err(Failure::of("alloc"))?;

    claim!(got == target, "the page is at {got}");
    let entry = arena.entry(target).ok_or_else(|| Failure::new("no slot".into()))?;
    claim!(entry.frame() != Some(arena.scratch()), "scratch is still mapped");
    let value = kfunc::read_word(target);
    claim!(value == 0, "the new page reads {value:#x}: scratch through a stale translation");
    let violations = drain_violations(ctx, &program);
    claim!(violations.len() == 1, "{} violations on the stream", violations.len());
    claim!(violations[0].write, "the wild access was a write");
    claim!(program.life().state() == Life::Aborted, "the program was not aborted");
    arena.free(target, 1).map_err(Failure::of("free"))?;
    tear_down(ctx, program, arena)
}
