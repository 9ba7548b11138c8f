//! One file a race of the catalogue. Each reads as the mail does: actors, steps, expectation.

mod aa_fault;
mod aa_fault_explored;
mod aa_lock;
mod aa_same_slot;
mod aa_same_slot_explored;
mod abba;
mod abort_in_lock;
mod check_then_store;
mod clear_refault;
mod clear_vs_install;
mod deferred_free;
mod dirty_lost;
mod double_free;
mod fault_storm;
mod fault_vs_alloc;
mod free_scratch;
mod free_scratch_explored;
mod handler_retry;
mod irq_enabled_lock;
mod irq_enabled_lock_explored;
mod leaf_kfunc;
mod masked_repeat;
mod nested_fault;
mod no_bbm_replace;
mod not_ours;
mod partial_oom;
mod program_access;
mod range_before_flush;
mod report_flood;
mod reuse_before_flush;
mod spurious;
mod stage;
mod sticky_busy;
mod sticky_busy_explored;
mod stuck_holder;
mod teardown_vs_deferred;
mod teardown_vs_fault;
mod two_faulters;
mod two_faulters_explored;
mod under_lock;
mod user_on_scratch;
mod user_zap;
mod window_edges;
mod zero_then_publish;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::stream::{Code as Place, Record, Violation};

use crate::lab::variant::VariantEntry;
use crate::mem::arena::KernelArena;
use crate::prog::program::{Code, Program};
use crate::runner::{Ctx, Failure, Outcome, claim};

/// Pages that a scenario's arena may give out.
const PAGES: u32 = 64;

/// An arena of the run's variant.
fn new_arena(ctx: &Ctx) -> Result<Arc<KernelArena>, Failure> {
    (variant_of(ctx)?.create)(PAGES).map_err(Failure::of("arena"))
}

/// The same with a small window, for races that make and unmake one in every schedule.
fn new_small_arena(ctx: &Ctx) -> Result<Arc<KernelArena>, Failure> {
    (variant_of(ctx)?.create_small)(PAGES).map_err(Failure::of("arena"))
}

fn variant_of(ctx: &Ctx) -> Result<&'static VariantEntry, Failure> {
    super::variant::find(ctx.variant())
        .ok_or_else(|| Failure::new(alloc::format!("no variant {}", ctx.variant())))
}

/// A program of a scenario, loaded with `arena`.
fn load(
    name: &'static str,
    code: &'static dyn Code,
    arena: &Arc<KernelArena>,
) -> Result<Arc<Program>, Failure> {
    Program::load(name, code, Some(arena.clone())).map_err(Failure::of_debug("program"))
}

/// Kernel address of page `index` of `arena`.
fn page(arena: &KernelArena, index: u32) -> VirtAddr {
    arena.window().page(index)
}

/// Takes every violation off the program's stderr, and tells its text if the scenario has a story.
fn drain_violations(ctx: &Ctx, program: &Program) -> Vec<Violation> {
    let mut all = Vec::new();
    let Some(reader) = program.stderr.reader() else { return all };
    for record in reader {
        let Record::Violation(violation) = record else { continue };
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = violation.render(&mut text, &mut print_code);
        for line in text.lines().filter(|line| !line.is_empty()) {
            ctx.story(format_args!("stderr of {}: {line}", program.name()));
        }
        all.push(violation);
    }
    all
}

/// One line of a violation's call trace. The host finds the symbols of `bt` addresses.
pub fn print_code(out: &mut dyn fmt::Write, code: Place) -> fmt::Result {
    match code {
        Place::Program(insn) => write!(out, "  insn {insn}"),
        Place::Kernel(pc) => write!(out, "  bt {pc:#018x}"),
    }
}

/// Tells what the program printed, if the scenario has a story; returns the number of records.
fn drain_stdout(ctx: &Ctx, program: &Program) -> usize {
    let Some(reader) = program.stdout.reader() else { return 0 };
    let mut count = 0;
    for record in reader {
        if let Record::Text(text) = record {
            count += 1;
            let text = String::from_utf8_lossy(text.as_bytes());
            ctx.story(format_args!("stdout of {}: {text}", program.name()));
        }
    }
    count
}

/// The end of every scenario with one program and one arena: tear the program down, drop the
/// arena, and see that nothing else held them.
fn tear_down(ctx: &Ctx, program: Arc<Program>, arena: Arc<KernelArena>) -> Outcome {
    program.tear_down().map_err(Failure::of_debug("teardown"))?;
    ctx.story(format_args!(
        "{} torn down: {:?}, {} nested runs skipped",
        program.name(),
        program.life().state(),
        program.missed()
    ));
    claim!(Arc::strong_count(&program) == 1, "somebody still holds the program");
    drop(program);
    claim!(Arc::strong_count(&arena) == 1, "somebody still holds the arena");
    let stats = arena.stats().map_err(Failure::of_debug("arena lock"))?;
    ctx.story(format_args!(
        "arena {} destroyed: {} pages mapped, peak {}, {} scratch installs",
        arena.room(),
        stats.mapped_pages,
        stats.peak_pages,
        stats.scratch_installs
    ));
    drop(arena);
    Ok(())
}

/// The offset of the `index`th byte of page `page` from the arena's base, as the program sees it.
fn user_address(arena: &KernelArena, index: u32, byte: u64) -> u64 {
    arena.window().to_user(page(arena, index)).get() + byte % PAGE_SIZE
}
