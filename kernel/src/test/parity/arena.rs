//! Allocation, access and free by programs: `verifier_arena.c`.

use arena::arena::AllocError;
use bpf::asm::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};
use bpf::insn::Width;
use bpf::kfunc::Kfunc;

use super::steps::Steps;
use crate::arch::timer::Deadline;
use crate::arch::{access, barrier};
use crate::mem::worker;
use crate::prog::tracepoint::MM_PAGE_ALLOC;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "pages-are-given-until-the-arena-is-full-and-again-after-a-free",
    suite: "parity",
    about: "basic_alloc1: two pages of two, no third; a freed one reads zero and is given again, empty",
    run: one_by_one,
}

item! {
    name: "pages-beside-an-allocation-read-zero-and-take-no-store",
    suite: "parity",
    about: "basic_alloc2: two pages at once, and those above and below them",
    run: neighbours,
}

item! {
    name: "all-pages-come-in-one-piece-or-not-at-all",
    suite: "parity",
    about: "basic_alloc3: the whole arena by one call, one page more by none",
    run: whole,
}

item! {
    name: "kernel-functions-under-the-arena-s-lock-fail-or-wait",
    suite: "parity",
    about: "alloc gives null, reserve is busy, a free is done later: nothing hangs",
    run: under_lock,
}

item! {
    name: "an-allocation-s-arguments-are-looked-at",
    suite: "parity",
    about: "no pages, too many, an address between two pages, flags, a NUMA node that there is not",
    run: arguments,
}

/// How long a worker is waited for, on however loaded a host.
const WAIT_NS: u64 = 20_000_000_000;

fn one_by_one(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.alloc(R6, None, 1).is_page(R6, 0).alloc(R7, None, 1).is_page(R7, 1);
    steps.store(R6, 0, 1).store(R7, 8, 2).alloc(R8, None, 1).is(R8, 0);
    steps.holds(R6, 0, 1).holds(R7, 8, 2).free(R7, 1);
    // The first report: the page is gone; the store behind it is the second.
    steps.holds(R7, 8, 0).store(R7, 8, 5).holds(R6, 0, 1);
    steps.alloc(R8, None, 1).is_page(R8, 1).holds(R8, 8, 0).store(R8, 8, 3).holds(R7, 8, 3);
    steps.pass(2, 2)
}

fn neighbours(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.alloc(R6, None, 2).is_page(R6, 0).store(R6, 0, 1).holds(R6, 0, 1);
    steps.asm.mov_reg(R7, R6).add(R7, 4096).mov_reg(R8, R6).add(R8, 8192);
    steps.asm.mov_reg(R9, R6).add(R9, -4096);
    steps.store(R7, 0, 2).store(R8, 0, 3).store(R9, 0, 4);
    // The kernel's arena has guards below and above; a program may point there and finds nothing.
    steps.holds(R6, 0, 1).holds(R7, 0, 2).holds(R8, 0, 0).holds(R9, 0, 0);
    steps.free(R6, 2).holds(R6, 0, 0).holds(R7, 0, 0);
    steps.pass(4, 6)
}

fn whole(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.alloc(R6, None, 65).is(R6, 0).alloc(R6, None, 64).is_page(R6, 0);
    steps.store(R6, 0, 7).alloc(R7, None, 1).is(R7, 0).alloc(R7, Some(3), 1).is(R7, 0);
    steps.holds(R6, 0, 7).free(R6, 64).alloc(R7, Some(63), 1).is_page(R7, 63);
    steps.alloc(R8, None, 64).is(R8, 0).alloc(R8, None, 63).is_page(R8, 0).holds(R8, 0, 0);
    steps.pass(64, 0)
}

fn under_lock(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.alloc(R6, None, 1).is(R6, 0).reserve(9, 1, -16).free_at(5, 1);
    // A program sees no difference between a free that was made and one that will be.
    steps.is(R0, 0);
    steps.asm.global(R1, 0x6000).load(Width::Double, R2, R1, 0).add(R2, 1);
    steps.asm.store(Width::Double, R1, 0, R2);
    let program = steps.load(16)?;
    let arena = program.arena().ok_or_else(|| Failure::new("no arena".into()))?.clone();
    // Page 5 is to be freed, page 6 counts the runs.
    let page = |n| arena.window().page(n);
    arena.alloc(Some(page(5)), 2).map_err(Failure::of("alloc"))?;
    MM_PAGE_ALLOC.attach(program.clone()).map_err(Failure::of_debug("attach"))?;
    let outcome = arena.alloc(Some(page(0)), 2);
    drop(MM_PAGE_ALLOC.detach());
    claim!(outcome == Ok(page(0)), "the allocation that the program ran under: {outcome:?}");
    worker::work();
    // Another CPU's tick may have taken the work.
    let deadline = Deadline::after_ns(WAIT_NS);
    while arena.entry(page(5)).is_some_and(|entry| entry.is_valid()) {
        claim!(!deadline.has_passed(), "the page that the program freed is still mapped");
        barrier::wfi();
    }
    let runs = access::probe_read_u64(page(6));
    claim!(runs == Ok(2), "two frames were allocated, and the checks held {runs:?} times");
    let reserved = arena.alloc(Some(page(9)), 1);
    claim!(reserved == Ok(page(9)), "what was busy was reserved all the same: {reserved:?}");
    let stats = arena.stats().map_err(Failure::of_debug("stats"))?;
    claim!(stats.lock_failures >= 4, "{stats}");
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn arguments(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    let base = super::steps::BASE;
    steps.alloc(R6, None, 0).is(R6, 0).alloc(R6, None, u32::MAX).is(R6, 0);
    steps.alloc_at(R6, base + 8, 1).is(R6, 0).alloc(R6, Some(15), 2).is(R6, 0);
    steps.alloc(R6, Some(16), 1).is(R6, 0);
    for (node, flags) in [(1, 0), (-2, 0), (-1, 1)] {
        steps.asm.arena(R1).mov(R2, 0).mov(R3, 1).mov(R4, node).mov(R5, flags);
        steps.asm.call(Kfunc::ArenaAllocPages);
        steps.is(R0, 0);
    }
    // Either form of a pointer is one.
    steps.alloc_at(R6, 0x3000, 1).is_page(R6, 3).alloc_at(R7, base + 0x4000, 1).is_page(R7, 4);
    // Nothing is freed for no pages, nor by a null pointer, nor behind the end.
    steps.store(R6, 0, 6).free(R6, 0).holds(R6, 0, 6);
    steps.asm.arena(R1).mov(R2, 0).mov(R3, 16).call(Kfunc::ArenaFreePages);
    steps.holds(R6, 0, 6).free_at(20, 4).holds(R6, 0, 6);
    // The range is cut at the end; what lies in it goes.
    steps.free_at(3, u32::MAX).holds(R6, 0, 0).holds(R7, 0, 0);
    let program = steps.load(16)?;
    super::steps::passes(&program)?;
    let arena = program.arena().ok_or_else(|| Failure::new("no arena".into()))?;
    let outcome = arena.alloc(None, 17);
    claim!(outcome == Err(AllocError::PageCount(17)), "one page more than there are: {outcome:?}");
    program.tear_down().map_err(Failure::of_debug("teardown"))
}
