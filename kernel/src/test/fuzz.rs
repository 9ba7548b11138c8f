//! Random program images, most of them let in and most of those up to no good: whatever they do, the
//! kernel goes on, every report can be read, and in the end nothing is missing.
//!
//! `count=` and `seed=` on the command line say how many images, and which. Image number `n` of a seed
//! is always the same; `first=` skips the images before it, for the search after one that did harm.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use arena::addr::VirtAddr;
use arena::stream::{Record, Stream};
use bpf::random::{self, Rng};

use crate::arch::percpu::CpuId;
use crate::arch::smp::{self, CpuSet};
use crate::lab::accounting::Snapshot;
use crate::mem::arena::KernelArena;
use crate::mem::{heap, resilient, worker};
use crate::prog::load::{self, LoadError, Terms};
use crate::prog::program::Program;
use crate::prog::tracepoint::{MM_PAGE_ALLOC, MM_PAGE_FREE, Tracepoint};
use crate::runner::{self, Ctx, Failure, Outcome, claim, item};
use crate::test::mix;

item! {
    name: "fuzz",
    suite: "program",
    about: "random images, run by themselves, under the arena's lock, and on all CPUs at once, harm nobody",
    run: run,
}

/// Images of an ordinary run.
const FEW: u64 = if cfg!(debug_assertions) { 12 } else { 300 };
/// Images between two looks whether all that was taken came back.
const ROUND: u64 = 64;
/// Images between two lines of the log.
const MILESTONE: u64 = 32 * ROUND;
/// Pages of the arena that the programs of a round share.
const PAGES: u32 = 64;
/// Few enough that a stream overflows now and then.
const STREAM_BYTES: usize = 2048;
/// Instructions of a run.
const BUDGET: u64 = 3000;
/// Most CPUs that run one program at once.
const CPUS: usize = 4;
/// Bytes that the heap may have fewer at the end: a table of the frame allocator's that has grown.
const HEAP_SLACK: usize = 64 << 10;
/// Nanoseconds after which a CPU gives up its wait for a lock: longer than any host stands still.
const PATIENCE_NS: u64 = 30_000_000_000;

/// What came of the images.
#[derive(Default)]
struct Tally {
    images: u64,
    /// Refused as images, as programs, or without memory or place.
    bad: u64,
    rejected: u64,
    refused: u64,
    /// Ended by the kernel.
    aborted: u64,
    violations: u64,
    texts: u64,
    dropped: u64,
}

fn run(ctx: &Ctx) -> Outcome {
    let lab = ctx.lab();
    let count = if lab.count == 0 { FEW } else { lab.count };
    let mut tally = Tally::default();
    let timeout = resilient::set_timeout_ns(PATIENCE_NS);
    // What is made once and kept is made now.
    let outcome = round(ctx, lab.seed, 0..ROUND.min(count), &mut Tally::default()).and_then(|()| {
        let (frames, bytes) = (Snapshot::take(), heap::free_bytes());
        let (mut at, end) = (lab.first, lab.first + count);
        while at < end {
            if at.is_multiple_of(MILESTONE) {
                // Where to begin the search if the next ones end the kernel.
                ctx.note(format_args!("fuzz: seed={} first={at}", lab.seed));
            }
            round(ctx, lab.seed, at..end.min(at + ROUND), &mut tally)?;
            frames.check()?;
            at += ROUND;
        }
        let lost = bytes.saturating_sub(heap::free_bytes());
        claim!(lost < HEAP_SLACK, "{lost} bytes of the heap leaked");
        Ok(())
    });
    resilient::set_timeout_ns(timeout);
    outcome?;
    ctx.note(format_args!("fuzz: {}", tally.line()));
    let let_in = tally.images - tally.bad - tally.rejected - tally.refused;
    claim!(2 * let_in > tally.images, "only {let_in} of {} were let in", tally.images);
    claim!(tally.aborted > 0 && tally.violations > 0, "nobody did any harm");
    Ok(())
}

/// Runs some images on one arena, and sees that all its pages can be had again.
fn round(ctx: &Ctx, seed: u64, numbers: core::ops::Range<u64>, tally: &mut Tally) -> Outcome {
    let arena = mix::arena(ctx, PAGES)?;
    for number in numbers {
        one(&arena, seed, number, tally)
            .inspect_err(|_| runner::diagnose(format_args!("fuzz: image {number}, seed {seed}")))?;
    }
    worker::work();
    let first = arena.window().page(0);
    arena.free(first, PAGES).map_err(Failure::of("free of all"))?;
    let stats = arena.stats().map_err(Failure::of_debug("stats"))?;
    claim!(stats.mapped_pages == 0, "{} pages are left", stats.mapped_pages);
    let all = arena.alloc(None, PAGES);
    claim!(all == Ok(first), "the allocation of all that was freed: {all:?}");
    claim!(Arc::strong_count(&arena) == 1, "somebody still has the arena");
    Ok(())
}

/// Loads one image, runs it in one of the ways, and tears it down.
fn one(arena: &Arc<KernelArena>, seed: u64, number: u64, tally: &mut Tally) -> Outcome {
    let mut rng = Rng::new(seed.rotate_left(32) ^ number);
    let shared = rng.below(8) != 0;
    let bytes = random::image(&mut rng, PAGES, !shared);
    let terms =
        Terms { arena: shared.then(|| arena.clone()), stream_bytes: STREAM_BYTES, budget: BUDGET };
    tally.images += 1;
    let program = match load::load_on(terms, &bytes) {
        Ok(program) => program,
        Err(error) => {
            *match error {
                LoadError::Image(_) => &mut tally.bad,
                LoadError::Rejected(_) => &mut tally.rejected,
                LoadError::Arena(_) | LoadError::Globals(_) | LoadError::NoMemory => {
                    &mut tally.refused
                }
            } += 1;
            return Ok(());
        }
    };
    let argument = rng.draw();
    match rng.below(8) {
        // Refused only if it was aborted before, which nobody does.
        0 | 1 => _ = program.run(argument),
        2..5 => attached(&program, &MM_PAGE_ALLOC, || use_pages(arena, 1 + argument as u32 % 3))?,
        5 => attached(&program, &MM_PAGE_FREE, || use_pages(arena, 2))?,
        6 => at_once(|_| {
            let _ = program.run(argument);
        }),
        _ => attached(&program, &MM_PAGE_ALLOC, || {
            at_once(|cpu| {
                use_pages(arena, 1);
                // In the middle of what the others do.
                if cpu.index() == 0 {
                    program.life().abort();
                }
                use_pages(arena, 1);
            });
        })?,
    }
    tally.look(&program)?;
    program.tear_down().map_err(Failure::of_debug("teardown"))?;
    claim!(Arc::strong_count(&program) == 1, "somebody still has the program");
    Ok(())
}

/// Calls `with` while `program` is attached to `point`.
fn attached(program: &Arc<Program>, point: &Tracepoint, with: impl FnOnce()) -> Outcome {
    point.attach(program.clone()).map_err(Failure::of_debug("attach"))?;
    with();
    let detached = point.detach();
    claim!(detached.is_some(), "it was not attached any more");
    Ok(())
}

/// Allocates pages and frees them, so that both tracepoints fire under the lock. Neither may succeed:
/// the programs use the same arena.
fn use_pages(arena: &KernelArena, pages: u32) {
    if let Ok(at) = arena.alloc(None, pages) {
        let _ = arena.free_for_program(at, pages);
    }
}

/// Calls `with` on up to [`CPUS`] CPUs.
fn at_once(with: impl Fn(CpuId) + Sync) {
    let cpus = CpuSet::online().iter().take(CPUS).fold(CpuSet::NONE, CpuSet::with);
    smp::on_each(cpus, with);
}

impl Tally {
    /// Reads everything that a program left.
    fn look(&mut self, program: &Program) -> Outcome {
        self.aborted += u64::from(program.life().is_aborted());
        let window = program.arena().map(|arena| arena.window());
        for stream in [&program.stdout, &program.stderr] {
            self.dropped += stream.dropped().records;
            self.read(stream, |address| {
                // The guards are as wide as an offset and a mask can reach.
                let at = VirtAddr::new(address);
                window.is_some_and(|window| {
                    let from = at.get().wrapping_sub(window.user_base().get());
                    from.wrapping_add(1 << 16) <= window.bytes() + (2 << 16)
                })
            })?;
        }
        Ok(())
    }

    fn read(&mut self, stream: &Stream, is_near: impl Fn(u64) -> bool) -> Outcome {
        let reader = stream.reader();
        claim!(reader.is_some(), "somebody reads its stream");
        for record in reader.into_iter().flatten() {
            match record {
                Record::Text(_) => self.texts += 1,
                Record::Violation(told) => {
                    claim!(is_near(told.address), "a violation at {:#x}", told.address);
                    self.violations += 1;
                }
            }
        }
        Ok(())
    }

    fn line(&self) -> String {
        let Self { images, bad, rejected, refused, aborted, violations, texts, dropped } = self;
        format!(
            "{images} images, {bad} no images, {rejected} rejected, {refused} without a place; \
             {aborted} aborted, {violations} violations, {texts} texts, {dropped} records dropped"
        )
    }
}
