//! `leaf-kfunc`: a kfunc that pushed no frame record touches unmapped arena memory, called by the
//! program directly and from a subprogram.
//!
//! Right: recovered in both, attributed to the program.
//! Wrong (`find-by-unwind`): the handler that looks for the program in the frame records misses it
//! in the first, and oopses, as Linux 7.2.13 does.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{drain_violations, load, new_arena, page};
use crate::prog::kfunc::leaf_read_word;
use crate::prog::program::{Code, Program};
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "leaf-kfunc",
    suite: "scenario",
    about: "a kfunc without a frame record faults, called directly and from a subprogram",
    variants: &[
        variant("find-by-unwind", "the handler finds the program by its frame records", "oops: data abort, same EL; translation fault, level 3; read"),
    ],
    run: leaf_kfunc,
}

/// Runs [`main_program`], which lies in the section that counts as program text.
struct Leaf(AtomicU64);

static CODE: Leaf = Leaf(AtomicU64::new(0));

impl Code for Leaf {
    fn run(&self, _: &Program, direct: u64) -> u64 {
        main_program(self.0.load(Ordering::Relaxed), direct)
    }
}

/// The program: calls the kfunc itself, or through its subprogram. The value is used after the
/// call, so that neither call is a tail call.
#[unsafe(link_section = ".text.prog")]
#[inline(never)]
fn main_program(at: u64, direct: u64) -> u64 {
    let value = if direct != 0 { leaf_read_word(at) } else { subprogram(at) };
    black_box(value) + 1
}

#[unsafe(link_section = ".text.prog")]
#[inline(never)]
fn subprogram(at: u64) -> u64 {
    black_box(leaf_read_word(at)) + 1
}

fn leaf_kfunc(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    for (direct, index, expected) in [(0, 3, 2), (1, 4, 1)] {
        let wild = page(&arena, index);
        CODE.0.store(wild.get(), Ordering::Relaxed);
        let program = load("leaf", &CODE, &arena)?;
        let value = program.run(direct).map_err(Failure::of_debug("run"))?;
        claim!(value == expected, "the program returned {value}");
        let violations = drain_violations(ctx, &program);
        claim!(violations.len() == 1, "{} violations on the stream", violations.len());
        claim!(violations[0].program == program.id(), "attributed to another program");
        let user = arena.window().to_user(wild).get();
        claim!(violations[0].address == user, "reported at {:#x}", violations[0].address);
        program.tear_down().map_err(Failure::of_debug("teardown"))?;
    }
    Ok(())
}
