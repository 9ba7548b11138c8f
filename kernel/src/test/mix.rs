//! Random operations on real arenas, four CPUs at once: crate `mix` says which, and the host, where
//! `cargo xtask test harness/mix` runs this, whether the answers are right. By itself the item claims
//! what needs no model: that the books, the tables and the frames agree in the end.
//!
//! What the host reads are the lines that begin with `mix: `; `count=`, `seed=` and `mix=` on the
//! command line say how many operations, which, and which batch is wanted in full.

mod anywhere;
mod foreseen;

use alloc::sync::Arc;
use alloc::vec::Vec;

use arena::addr::VirtAddr;
use arena::pte::State;
use arena::stream::Record;
use mix::ground::{WORD, start_of};
use mix::reply::{Slot, WRONG_REPORT};
use mix::{Batch, CPUS, FEW, Phase};

use crate::arch::percpu::CpuId;
use crate::arch::smp::{self, CpuSet};
use crate::mem::arena::KernelArena;
use crate::mem::resilient;
use crate::prog::program::{Code, Program};
use crate::prog::{kfunc, running};
use crate::runner::{self, Ctx, Failure, Outcome, claim, item};

item! {
    name: "mix",
    suite: "arena",
    about: "random alloc, free, reserve and wild accesses on four CPUs leave books, tables and frames that agree",
    min_cpus: CPUS as u64,
    run: run,
}

/// Bytes of each of a program's streams: a few violations, which are read one by one.
const STREAM_BYTES: usize = 4096;

/// Nanoseconds after which a CPU gives up its wait for a lock: longer than any host stands still.
const PATIENCE_NS: u64 = 30_000_000_000;

/// What the command line asks for.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    count: u64,
    full: Option<Batch>,
}

/// One CPU's arena, and the program on whose behalf it goes wild there.
struct Place {
    arena: Arc<KernelArena>,
    program: Arc<Program>,
}

/// Does nothing of its own: kernel functions are called on its behalf.
struct Idle;

static IDLE: Idle = Idle;

impl Code for Idle {
    fn run(&self, _: &Program, _: u64) -> u64 {
        0
    }
}

fn run(ctx: &Ctx) -> Outcome {
    let lab = ctx.lab();
    let count = if lab.count == 0 { FEW } else { lab.count };
    let plan = Plan { seed: lab.seed, count, full: lab.mix };
    // A host that stops a CPU which holds the lock is no fault of the arena's.
    let timeout = resilient::set_timeout_ns(PATIENCE_NS);
    let wanted = |phase: &Phase| plan.full.is_none_or(|full| full.phase == *phase);
    let outcome = Phase::ALL.into_iter().filter(wanted).try_for_each(|phase| match phase {
        Phase::Shared | Phase::Own => foreseen::run(ctx, phase, plan),
        Phase::Anywhere => anywhere::run(ctx, plan),
    });
    resilient::set_timeout_ns(timeout);
    outcome
}

impl Place {
    fn new(arena: &Arc<KernelArena>) -> Result<Self, Failure> {
        let arena = arena.clone();
        let program = Program::load_with_streams("mix", &IDLE, Some(arena.clone()), STREAM_BYTES)
            .map_err(Failure::of_debug("program"))?;
        Ok(Self { arena, program })
    }

    /// A place for each CPU, all in one arena.
    fn all_in(arena: &Arc<KernelArena>) -> Result<Vec<Self>, Failure> {
        (0..CPUS).map(|_| Self::new(arena)).collect()
    }

    /// The address of the byte `at` of the arena.
    fn address(&self, at: u64) -> VirtAddr {
        self.arena.window().base().offset(at)
    }

    /// What the slot of an address holds.
    fn slot(&self, at: VirtAddr) -> Slot {
        let Some(entry) = self.arena.entry(at) else { return Slot::Other };
        match (entry.state(), entry.frame()) {
            (State::Empty, _) => Slot::Empty,
            (_, Some(frame)) if frame == self.arena.scratch() => Slot::Scratch,
            (State::Valid, Some(_)) => Slot::Page,
            _ => Slot::Other,
        }
    }

    /// A kernel function's read, which is recovered wherever it goes.
    fn read(&self, at: VirtAddr) -> u64 {
        self.on_behalf(|| kfunc::read_word(at))
    }

    /// A kernel function's write, likewise.
    fn write(&self, at: VirtAddr, word: u64) {
        self.on_behalf(|| kfunc::write_word(at, word));
    }

    fn on_behalf<R>(&self, access: impl FnOnce() -> R) -> R {
        // Refused only if it ran on this CPU already, and it is this CPU's own. Without it an access
        // that has to be recovered is an oops, which is noticed as well.
        let entered = running::enter(&self.program);
        let value = access();
        drop(entered);
        value
    }

    /// Violations reported since the last look, which must all be of this access.
    fn reports(&self, at: VirtAddr, write: bool) -> u32 {
        let user = self.arena.window().to_user(at).get();
        let mut seen = 0;
        for record in self.program.stderr.reader().into_iter().flatten() {
            match record {
                Record::Violation(told) if (told.address, told.write) == (user, write) => seen += 1,
                _ => return WRONG_REPORT,
            }
        }
        seen
    }

    /// Forgets the reports, where nobody can say which there must be.
    fn forget_reports(&self) {
        self.program.stderr.reader().into_iter().flatten().for_each(drop);
    }
}

/// Calls `with` on the first four CPUs at once, with the number of each.
fn on_each(with: impl Fn(usize) + Sync) {
    let cpus = CpuSet::online().iter().take(CPUS).fold(CpuSet::NONE, CpuSet::with);
    smp::on_each(cpus, |cpu: CpuId| with(cpu.index()));
}

/// Sees that no frame is mapped twice, that the arena counts the pages that its tables map, and that
/// all of them can be freed and taken again in one piece.
fn close(place: &Place, pages: u32) -> Outcome {
    let Place { arena, .. } = place;
    let page = |index: u32| place.address(start_of(index));
    let mapped: Vec<_> = (0..pages).filter(|&n| place.slot(page(n)) == Slot::Page).collect();
    let frame = |index: &u32| Some(arena.entry(page(*index))?.frame()?.number());
    let mut frames: Vec<_> = mapped.iter().filter_map(frame).collect();
    frames.sort_unstable();
    frames.dedup();
    claim!(frames.len() == mapped.len(), "{} pages on {} frames", mapped.len(), frames.len());
    let stats = arena.stats().map_err(Failure::of_debug("stats"))?;
    let counted = stats.mapped_pages as usize;
    claim!(counted == mapped.len(), "{counted} pages counted, {} mapped", mapped.len());
    arena.free(page(0), pages).map_err(Failure::of("free of all"))?;
    let all = arena.alloc(None, pages);
    claim!(all == Ok(page(0)), "the allocation of all that was freed: {all:?}");
    let dirty = (0..pages).filter(|&n| place.read(page(n).offset(WORD)) != 0).count();
    claim!(dirty == 0, "{dirty} new pages are not zero");
    Ok(())
}

/// Tears the programs down.
fn tear_down(places: Vec<Place>) -> Outcome {
    places
        .into_iter()
        .try_for_each(|place| place.program.tear_down().map_err(Failure::of_debug("teardown")))
}

/// An arena under the protocol of the variant that runs.
#[cfg(feature = "lab")]
pub fn arena(ctx: &Ctx, pages: u32) -> Result<Arc<KernelArena>, Failure> {
    let variant = crate::lab::variant::find(ctx.variant());
    let variant = variant.ok_or_else(|| Failure::new("no such variant".into()))?;
    (variant.create)(pages).map_err(Failure::of("arena"))
}

/// An arena; without the lab there is one protocol.
#[cfg(not(feature = "lab"))]
pub fn arena(_: &Ctx, pages: u32) -> Result<Arc<KernelArena>, Failure> {
    KernelArena::create(pages).map_err(Failure::of("arena"))
}

/// A line for the host.
fn tell(line: core::fmt::Arguments<'_>) {
    runner::diagnose(format_args!("mix: {line}"));
}
