//! Reserved ranges: `verifier_arena.c` (`basic_reserve1`, `basic_reserve2`, `reserve_twice`,
//! `reserve_invalid_region`) and what `verifier_arena_large.c` does to them.

use bpf::asm::{R6, R7, R8};

use super::steps::Steps;
use crate::runner::{Ctx, Outcome, item};

item! {
    name: "a-reserved-page-is-given-to-nobody",
    suite: "parity",
    about: "basic_reserve1 and 2: neither by its address nor as the next free one",
    run: not_given,
}

item! {
    name: "what-is-reserved-or-mapped-cannot-be-reserved",
    suite: "parity",
    about: "reserve_twice: EBUSY, for a part as for the whole, and the rest is not touched",
    run: twice,
}

item! {
    name: "a-range-that-is-not-the-arena-s-cannot-be-reserved",
    suite: "parity",
    about: "reserve_invalid_region: EINVAL; no pages are no error",
    run: invalid,
}

item! {
    name: "a-reserved-page-is-not-mapped",
    suite: "parity",
    about: "access_reserved: it reads zero, takes no store, and each access is reported",
    run: access,
}

item! {
    name: "a-request-that-is-reserved-in-part-fails-as-a-whole",
    suite: "parity",
    about: "request_partially_reserved: nothing of it is mapped afterwards",
    run: partly,
}

item! {
    name: "reserved-and-mapped-pages-are-freed-alike",
    suite: "parity",
    about: "free_reserved: one free over both, and all of it can be allocated",
    run: freed,
}

const EBUSY: i32 = -16;
const EINVAL: i32 = -22;

fn not_given(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.alloc(R6, None, 1).is_page(R6, 0).reserve(1, 1, 0);
    steps.alloc(R7, Some(1), 1).is(R7, 0).alloc(R7, None, 1).is_page(R7, 2);
    steps.alloc(R8, None, 1).is_page(R8, 3).alloc(R8, None, 1).is(R8, 0);
    steps.pass(4, 0)?;
    let mut steps = Steps::new();
    steps.reserve(0, 1, 0).alloc(R6, Some(0), 1).is(R6, 0).alloc(R6, None, 1).is_page(R6, 1);
    steps.alloc(R7, None, 1).is(R7, 0);
    steps.pass(2, 0)
}

fn twice(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.reserve(2, 3, 0).reserve(2, 3, EBUSY).reserve(3, 1, EBUSY).reserve(4, 4, EBUSY);
    steps.alloc(R6, Some(6), 1).is_page(R6, 6).reserve(6, 1, EBUSY).reserve(5, 2, EBUSY);
    // A refused one has taken nothing.
    steps.alloc(R7, Some(5), 1).is_page(R7, 5).reserve(0, 2, 0);
    steps.alloc(R8, None, 1).is_page(R8, 7);
    steps.pass(8, 0)
}

fn invalid(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.reserve(0, 3, EINVAL).reserve(1, 2, EINVAL).reserve(2, 1, EINVAL);
    steps.reserve(0, u32::MAX, EINVAL).reserve(0x7_ffff, 1, EINVAL).reserve(0, 0, 0);
    steps.alloc(R6, None, 2).is_page(R6, 0);
    steps.pass(2, 0)
}

fn access(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.reserve(0, 4, 0);
    for page in 0..4 {
        steps.asm.global(R6, page * 4096);
        steps.store(R6, 8, 0x5a).holds(R6, 8, 0);
    }
    steps.pass(4, 8)
}

fn partly(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.reserve(4, 4, 0).alloc(R6, Some(2), 5).is(R6, 0).alloc(R6, Some(0), 16).is(R6, 0);
    // Not even those in front of the reserved ones.
    steps.asm.global(R6, 2 * 4096);
    steps.holds(R6, 0, 0).alloc(R7, Some(2), 2).is_page(R7, 2).holds(R7, 0, 0);
    steps.pass(16, 1)
}

fn freed(_: &Ctx) -> Outcome {
    let mut steps = Steps::new();
    steps.reserve(0, 2, 0).alloc(R6, Some(2), 2).is_page(R6, 2).store(R6, 0, 1);
    steps.alloc(R7, None, 1).is(R7, 0).free_at(0, 4).alloc(R7, None, 4).is_page(R7, 0);
    steps.holds(R6, 0, 0).holds(R7, 0, 0);
    steps.pass(4, 0)
}
