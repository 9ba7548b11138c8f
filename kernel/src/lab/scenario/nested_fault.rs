//! `nested-fault`: a second violation while the first is handled or reported.
//!
//! Actors: A (CPU 0) and B (CPU 1), kernel functions on behalf of a program, each write to a page of
//! their own; T, a program on `sched_tick`, writes to B's page on whichever CPU the tick comes.
//! Right: the handler has interrupts masked, so a tick that is raised inside it comes behind its
//! return, before the access is tried again; both violations are recovered, each on the stream of
//! its own program.
//! Wrong (`faulty-handler`): the handler itself faults. That is an oops at once, and no recursion.
//!
//! `nested-fault.depth`: programs nested as deep as may be, with a violation at each level on the
//! way down and on the way up. The next level is refused.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::lifecycle::State as Life;
use arena::step::StepPoint;

use super::stage::{Stage, idle, renew, violations};
use super::{new_arena, page};
use crate::arch::percpu::MAX_CPUS;
use crate::lab::engine::{self, Entry};
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::prog::running;
use crate::prog::tracepoint::SCHED_TICK;
use crate::runner::item::variant;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "nested-fault",
    suite: "scenario",
    about: "a second violation comes while the first is handled",
    variants: &[
        variant("faulty-handler", "the handler touches memory that faults", "oops: the abort handler faulted"),
    ],
    min_cpus: 2,
    explored: true,
    run: nested_fault,
}

item! {
    name: "nested-fault.depth",
    suite: "scenario",
    about: "programs nested as deep as may be, a violation at each level",
    run: depth,
}

/// T: writes to its wild address, once in its life.
struct WriteOnTick(AtomicU64);

static TICK: WriteOnTick = WriteOnTick(AtomicU64::new(0));

impl Code for WriteOnTick {
    fn run(&self, _: &Program, _: u64) -> u64 {
        // Ticks of the timer's own come before and behind the exploration.
        if engine::is_acting() {
            race::write(VirtAddr::new(self.0.load(Ordering::Relaxed)), 2);
        }
        0
    }
}

struct Actors {
    stage: Stage,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.stage.clear()?;
        renew(&SCHED_TICK, "write-on-tick", &TICK, &self.stage.arena)
    }

    fn act(&self, cpu: usize) {
        let at = if cpu == 0 { self.stage.target } else { self.stage.second() };
        self.stage.wild(|| race::write(at, cpu as u64));
    }

    fn check(&self) -> Outcome {
        let ticker = SCHED_TICK.detach();
        let ticker = ticker.ok_or_else(|| Failure::new("the program is gone".into()))?;
        let both = [self.stage.target, self.stage.second()];
        claim!(both.iter().all(|at| self.stage.holds_scratch(*at)), "a page has no scratch");
        let seen = self.stage.seen()?;
        let (of_idle, of_ticker) = (violations(&self.stage.program), violations(&ticker));
        let reports = (of_idle.len() + of_ticker.len()) as u64;
        claim!(reports == seen.aborts, "{reports} reports: {seen:?}");
        claim!(of_ticker.len() <= 1, "T is reported {} times", of_ticker.len());
        let own = |program: &Arc<Program>, id| program.id() == id;
        claim!(of_idle.iter().all(|v| own(&self.stage.program, v.program)), "reported of T's");
        claim!(of_ticker.iter().all(|v| own(&ticker, v.program)), "reported of another's");
        let aborted = ticker.life().state() == Life::Aborted;
        claim!(aborted != of_ticker.is_empty(), "T was aborted={aborted}");
        if !of_ticker.is_empty() && ticked_in_handler() {
            self.stage.meet();
        }
        Ok(())
    }

    fn ticks(&self) -> u32 {
        1
    }
}

fn nested_fault(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    TICK.0.store(stage.second().get(), Ordering::Relaxed);
    let ground = stage.ground(2);
    let actors = Actors { stage };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "the tick of a second violation was raised inside the handler")
}

/// Whether the schedule's tick was raised while its CPU was in the abort handler.
fn ticked_in_handler() -> bool {
    engine::between(|core| {
        let mut inside = [false; MAX_CPUS];
        let (entries, _) = core.timeline.entries();
        entries.iter().any(|(_, entry)| match *entry {
            Entry::Step { cpu, point: StepPoint::AbortEntry, .. } => {
                inside[usize::from(cpu)] = true;
                false
            }
            Entry::Step { cpu, point: StepPoint::AbortExit, .. } => {
                inside[usize::from(cpu)] = false;
                false
            }
            Entry::Tick { cpu } => inside[usize::from(cpu)],
            _ => false,
        })
    })
}

fn depth(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let programs = (0..=running::DEPTH).map(|_| idle(&arena)).collect::<Result<Vec<_>, _>>()?;
    let levels = nest(&programs, page(&arena, 0));
    claim!(levels == running::DEPTH, "{levels} levels ran, {} may", running::DEPTH);
    for (level, program) in programs.iter().enumerate() {
        let reports = violations(program);
        let expected = if level < running::DEPTH { 2 } else { 0 };
        claim!(reports.len() == expected, "level {level}: {} reports", reports.len());
        let own = reports.iter().all(|report| report.program == program.id());
        claim!(own, "level {level} has another's report");
        let writes: Vec<_> = reports.iter().map(|report| report.write).collect();
        claim!(expected == 0 || writes == [true, false], "level {level}: {writes:?}");
    }
    ctx.note(format_args!("{levels} levels, a violation at each on the way down and up"));
    Ok(())
}

/// Runs the programs inside each other: each writes to a page, runs the next, and reads another
/// page. Returns how many ran.
fn nest(programs: &[Arc<Program>], wild: VirtAddr) -> usize {
    let Some((first, rest)) = programs.split_first() else { return 0 };
    let ran = race::on_behalf_of(first, || {
        kfunc::write_word(wild, 1);
        let inside = nest(rest, wild.offset(2 * PAGE_SIZE));
        kfunc::read_word(wild.offset(PAGE_SIZE));
        inside + 1
    });
    ran.unwrap_or(0)
}
