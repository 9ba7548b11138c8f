//! `window-edges`: a kfunc touches the first and last addresses of every zone of the window.
//!
//! Right: the last byte of the arena and both ends of the upper guard are recovered; one past it
//! and the lower guard are oopses; an access across a page boundary is reported at the first
//! unmapped byte.

use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::window::{FULL_PAGES, GUARD_BYTES};

use super::{drain_violations, load, new_arena, page};
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "window-edges",
    suite: "scenario",
    about: "a kfunc touches the last byte of the arena and both ends of the upper guard",
    run: recovered_edges,
}

item! {
    name: "window-edges.past-guard",
    suite: "scenario",
    about: "one byte past the upper guard is the kernel's bug",
    expect: "oops: data abort, same EL; translation fault, level 3; read at 0xffff800200008000, outside RAM, devices and arenas",
    run: past_guard,
}

item! {
    name: "window-edges.lower-guard",
    suite: "scenario",
    about: "the byte below the arena is the kernel's bug",
    expect: "oops: data abort, same EL; translation fault, level 1; read at 0xffff8000ffffffff, in the lower guard of arena 0",
    run: lower_guard,
}

/// Reads one byte at the address given, or eight bytes across a page boundary.
struct Touch {
    at: AtomicU64,
}

static CODE: Touch = Touch { at: AtomicU64::new(0) };

impl Code for Touch {
    fn run(&self, _: &Program, across: u64) -> u64 {
        let at = VirtAddr::new(self.at.load(Ordering::Relaxed));
        if across != 0 { kfunc::read_pair(at) } else { u64::from(kfunc::read_byte(at)) }
    }
}

fn recovered_edges(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let end = page(&arena, FULL_PAGES);
    for at in [end.offset(u64::MAX), end, end.offset(GUARD_BYTES - 1)] {
        touch(ctx, &arena, at, at, 0)?;
    }
    let mapped = arena.alloc(None, 1).map_err(Failure::of("alloc"))?;
    let boundary = mapped.offset(PAGE_SIZE);
    touch(ctx, &arena, boundary.offset(4u64.wrapping_neg()), boundary, 1)?;
    let stats = arena.stats().map_err(Failure::of_debug("arena lock"))?;
    // The first and last byte of the guard lie on different pages.
    claim!(stats.scratch_installs == 4, "{} installs", stats.scratch_installs);
    Ok(())
}

/// A program of its own for each touch: a violation ends it.
fn touch(
    ctx: &Ctx,
    arena: &alloc::sync::Arc<crate::mem::arena::KernelArena>,
    at: VirtAddr,
    reported: VirtAddr,
    across: u64,
) -> Outcome {
    CODE.at.store(at.get(), Ordering::Relaxed);
    let program = load("touch", &CODE, arena)?;
    let value = program.run(across).map_err(Failure::of_debug("run"))?;
    claim!(value == 0, "{at} read {value:#x}");
    let violations = drain_violations(ctx, &program);
    claim!(violations.len() == 1, "{at}: {} violations", violations.len());
    let user = arena.window().to_user(reported).get();
    claim!(violations[0].address == user, "{at} was reported at {:#x}", violations[0].address);
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn past_guard(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let at = page(&arena, FULL_PAGES).offset(GUARD_BYTES);
    read_and_survive(&arena, at)
}

fn lower_guard(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let at = page(&arena, 0).offset(u64::MAX);
    read_and_survive(&arena, at)
}

fn read_and_survive(
    arena: &alloc::sync::Arc<crate::mem::arena::KernelArena>,
    at: VirtAddr,
) -> Outcome {
    CODE.at.store(at.get(), Ordering::Relaxed);
    let program = load("touch", &CODE, arena)?;
    program.run(0).map_err(Failure::of_debug("run"))?;
    Err(Failure::new(alloc::format!("{at} was read without an oops")))
}
