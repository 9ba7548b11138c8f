//! What most races stand on: an arena of the run's variant, one page of it that everybody is after,
//! and a program for whose sake kernel functions touch that page.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::arena::Stats;
use arena::pte::State;
use arena::stream::{Record, Violation};

use explore::dfs::Shard;

use super::{load, new_arena, page};
use crate::fault;
use crate::lab::engine::{self, Entry};
use crate::lab::options::{Mode, Options};
use crate::lab::race::{self, Ground, IDLE};
use crate::mem::arena::KernelArena;
use crate::prog::program::{Code, Program};
use crate::prog::tracepoint::Tracepoint;
use crate::runner::{Ctx, Failure, Outcome, claim};

/// Index of the page that everybody is after; the next one is the second page.
const TARGET: u32 = 3;
/// Frames that allocations of one schedule can take.
const FRAMES: usize = 4;
/// Bytes of each stream of a program that lives for one schedule.
const SMALL_STREAM: usize = 4096;

/// See the module.
pub struct Stage {
    /// The arena.
    pub arena: Arc<KernelArena>,
    /// The program of which nothing runs: kernel functions are called for it.
    pub program: Arc<Program>,
    /// The page that everybody is after.
    pub target: VirtAddr,
    /// The figures when the schedule began.
    began: Began,
    met: AtomicU64,
}

/// How often things had happened when a schedule began.
#[derive(Default)]
struct Began {
    scratch_installs: AtomicU64,
    lost_installs: AtomicU64,
    spurious_faults: AtomicU64,
    aborts: AtomicU64,
}

/// What happened in a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Aborts on arena addresses, however they were settled.
    pub aborts: u64,
    /// Those that installed scratch.
    pub installed: u64,
    /// Those that lost to another installer.
    pub lost: u64,
    /// Those that found the page mapped.
    pub spurious: u64,
}

impl Stage {
    /// An empty arena and an idle program.
    ///
    /// # Errors
    /// What could not be made.
    pub fn new(ctx: &Ctx) -> Result<Self, Failure> {
        let arena = new_arena(ctx)?;
        let program = idle(&arena)?;
        let target = page(&arena, TARGET);
        Ok(Self { arena, program, target, began: Began::default(), met: AtomicU64::new(0) })
    }

    /// The page behind the target.
    pub fn second(&self) -> VirtAddr {
        self.target.offset(PAGE_SIZE)
    }

    /// The ground of a race of `actors` about both pages.
    pub fn ground(&self, actors: usize) -> Ground {
        Ground::new(&self.arena, actors, &[self.target, self.second()], FRAMES)
    }

    /// Empties both pages and the program's stream, and takes the figures.
    ///
    /// # Errors
    /// The arena's.
    pub fn clear(&self) -> Outcome {
        self.arena.free(self.target, 2).map_err(Failure::of("free"))?;
        race::drain(&self.program);
        self.begin()
    }

    /// As [`clear`](Self::clear), with a page of its own at the target.
    ///
    /// # Errors
    /// The arena's.
    pub fn clear_to_page(&self) -> Outcome {
        self.clear()?;
        self.arena.alloc(Some(self.target), 1).map_err(Failure::of("alloc"))?;
        Ok(())
    }

    /// As [`clear`](Self::clear), with scratch in the target that an old violation left.
    ///
    /// # Errors
    /// The arena's.
    pub fn clear_to_scratch(&self) -> Outcome {
        self.clear()?;
        self.wild(|| race::read(self.target));
        race::drain(&self.program);
        claim!(self.holds_scratch(self.target), "no scratch was left");
        self.begin()
    }

    /// Makes an access of a kernel function that the idle program called.
    pub fn wild<R>(&self, access: impl FnOnce() -> R) -> Option<R> {
        race::on_behalf_of(&self.program, access)
    }

    /// Whether the entry of `at` maps scratch.
    pub fn holds_scratch(&self, at: VirtAddr) -> bool {
        self.arena.entry(at).and_then(|entry| entry.frame()) == Some(self.arena.scratch())
    }

    /// What happened since [`clear`](Self::clear).
    ///
    /// # Errors
    /// The arena's lock is held.
    pub fn seen(&self) -> Result<Seen, Failure> {
        let stats = self.stats()?;
        let since = |began: &AtomicU64, now: u64| now - began.load(Ordering::Relaxed);
        Ok(Seen {
            aborts: since(&self.began.aborts, aborts()),
            installed: since(&self.began.scratch_installs, stats.scratch_installs),
            lost: since(&self.began.lost_installs, stats.lost_installs),
            spurious: since(&self.began.spurious_faults, stats.spurious_faults),
        })
    }

    /// Claims that each abort which found no page is on the stream of the idle program or of
    /// `other` once, and returns what happened. Empties the streams.
    ///
    /// # Errors
    /// The claim.
    pub fn each_reported(&self, other: Option<&Program>) -> Result<Seen, Failure> {
        let seen = self.seen()?;
        let of_other = other.map_or(0, |other| violations(other).len());
        let reports = (violations(&self.program).len() + of_other) as u64;
        let wild = seen.aborts - seen.spurious;
        claim!(reports == wild, "{reports} reports of {wild} wild accesses ({seen:?})");
        Ok(seen)
    }

    /// Notes that this schedule met the window that the race is about.
    pub fn meet(&self) {
        self.met.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells how many schedules met the window; an exploration of all must have, if the bound
    /// leaves it the two preemptions that any window needs.
    ///
    /// # Errors
    /// None did.
    pub fn met(&self, ctx: &Ctx, what: &str) -> Outcome {
        let met = self.met.load(Ordering::Relaxed);
        ctx.note(format_args!("{met} schedules in which {what}"));
        let Options { mode, bound, shard, milliseconds, .. } = *ctx.lab();
        let all = mode == Mode::Dfs && bound >= 2 && shard == Shard::WHOLE && milliseconds == 0;
        claim!(met > 0 || !all, "no schedule in which {what}");
        Ok(())
    }

    fn begin(&self) -> Outcome {
        let stats = self.stats()?;
        let now = |began: &AtomicU64, now: u64| began.store(now, Ordering::Relaxed);
        now(&self.began.scratch_installs, stats.scratch_installs);
        now(&self.began.lost_installs, stats.lost_installs);
        now(&self.began.spurious_faults, stats.spurious_faults);
        now(&self.began.aborts, aborts());
        Ok(())
    }

    fn stats(&self) -> Result<Stats, Failure> {
        self.arena.stats().map_err(Failure::of_debug("arena lock"))
    }
}

/// A program of which nothing runs.
///
/// # Errors
/// No memory for it.
pub fn idle(arena: &Arc<KernelArena>) -> Result<Arc<Program>, Failure> {
    load("idle", &IDLE, arena)
}

/// Attaches a program to `point` for one schedule: one that faults is aborted, and does not run in
/// the next.
///
/// # Errors
/// No memory for it.
pub fn renew(
    point: &'static Tracepoint,
    name: &'static str,
    code: &'static dyn Code,
    arena: &Arc<KernelArena>,
) -> Outcome {
    drop(point.detach());
    let program = Program::load_with_streams(name, code, Some(arena.clone()), SMALL_STREAM)
        .map_err(Failure::of_debug("program"))?;
    point.attach(program).map_err(Failure::of_debug("attach"))
}

/// Takes every violation off the program's stderr.
pub fn violations(program: &Program) -> Vec<Violation> {
    let Some(reader) = program.stderr.reader() else { return Vec::new() };
    let of_violation = |record| match record {
        Record::Violation(violation) => Some(violation),
        Record::Text(_) => None,
    };
    reader.filter_map(of_violation).collect()
}

/// Changes of watched descriptors in the schedule whose states before and behind `are` such.
pub fn descriptor_writes(are: impl Fn(State, State) -> bool) -> usize {
    engine::between(|core| {
        let (entries, _) = core.timeline.entries();
        let counts = |(_, entry): &&(u64, Entry)| match *entry {
            Entry::Pte { old, new, done: true, .. } => are(old.state(), new.state()),
            _ => false,
        };
        entries.iter().filter(counts).count()
    })
}

/// Aborts that were recovered or found spurious, since the machine began.
fn aborts() -> u64 {
    let fault::Counts { recovered, spurious, .. } = &fault::COUNTS;
    recovered.load(Ordering::Relaxed) + spurious.load(Ordering::Relaxed)
}
