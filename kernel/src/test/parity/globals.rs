//! Globals in the arena: `verifier_arena_globals1.c`, `verifier_arena_globals2.c`.

use alloc::sync::Arc;

use bpf::asm::{R0, R6, R7, R8};

use super::steps::{PAGE, Steps, passes};
use crate::prog::load;
use crate::prog::program::Program;
use crate::runner::{Ctx, Failure, Outcome, item};

item! {
    name: "globals-at-the-arena-s-start-are-allocated-pages",
    suite: "parity",
    about: "globals1: nobody else gets them, the pages behind them are free, and they can be freed",
    run: at_start,
}

item! {
    name: "globals-at-the-arena-s-end-are-allocated-pages",
    suite: "parity",
    about: "globals2: the rest of the arena is free to the last page in front of them",
    run: at_end,
}

/// Pages of the arena here, and of the globals.
const PAGES: u32 = 16;
const GLOBALS: u32 = 3;

/// Loads a program whose globals begin at the page `at`: the number of the page in its first word.
fn load(steps: &mut Steps, at: u32) -> Result<Arc<Program>, Failure> {
    let mut bytes = [0; (GLOBALS * PAGE) as usize];
    for (page, number) in bytes.chunks_mut(PAGE as usize).zip(1..) {
        page[0] = number;
    }
    steps.asm.mov(R0, 0).exit();
    let mut image = steps.asm.image("globals");
    image.arena(PAGES).globals(u64::from(at * PAGE), &bytes);
    load::load(&image.build()).map_err(Failure::of("load"))
}

/// Checks the globals at the page `at`, and that no page of theirs is given or reserved.
fn check(steps: &mut Steps, at: u32) {
    for page in 0..GLOBALS {
        steps.asm.global(R6, (at + page) * PAGE);
        steps.holds(R6, 0, page as i32 + 1).alloc(R7, Some(at + page), 1).is(R7, 0);
        steps.reserve(at + page, 1, -16);
    }
}

fn pass(mut steps: Steps, at: u32) -> Outcome {
    let program = load(&mut steps, at)?;
    passes(&program)?;
    program.tear_down().map_err(Failure::of_debug("teardown"))
}

fn at_start(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    check(&mut steps, 0);
    // What is left, and not a page more.
    steps.alloc(R7, None, PAGES - GLOBALS + 1).is(R7, 0);
    steps.alloc(R7, None, PAGES - GLOBALS).is_page(R7, GLOBALS).free(R7, PAGES - GLOBALS);
    steps.reserve(GLOBALS, 1, 0).alloc(R8, None, 1).is_page(R8, GLOBALS + 1);
    steps.free_at(1, 1).alloc(R8, None, 1).is_page(R8, 1).holds(R8, 0, 0);
    pass(steps, 0)
}

fn at_end(_: &Ctx) -> Outcome {
    let at = PAGES - GLOBALS;
    let mut steps = Steps::new();
    check(&mut steps, at);
    steps.alloc(R7, Some(at - 1), 2).is(R7, 0).alloc(R7, None, at).is_page(R7, 0);
    steps.alloc(R8, None, 1).is(R8, 0);
    // A store to the last page in front of them leaves them alone.
    steps.asm.mov_reg(R6, R7).add(R6, (at * PAGE) as i32 - 8);
    steps.store(R6, 0, -1).holds(R6, 8, 1);
    pass(steps, at)
}
