//! Runs the items that the command line names, and reports each in KTAP.

mod command_line;
pub mod inject;
pub mod item;
mod report;

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::arch::exit::{self, Code};
use crate::arch::smp::CpuSet;
use crate::bench;
use crate::lab::accounting::Snapshot;
use crate::lab::variant;

pub use command_line::CommandLine;
pub use item::{Ctx, Failure, Outcome};
pub(crate) use item::{claim, item, skip};

use item::Item;
use report::Verdict;

/// Where the run stands: written by the boot CPU before an item begins, read by [`fail_and_end`]
/// on whichever CPU ends the run. Relaxed: the item itself orders the two.
struct Progress {
    /// Number of the suite, from 1.
    suite: AtomicUsize,
    /// Number of the item in its suite, from 1.
    number: AtomicUsize,
    /// Index of the item among [`Item::all`].
    item: AtomicUsize,
}

static PROGRESS: Progress = Progress {
    suite: AtomicUsize::new(0),
    number: AtomicUsize::new(0),
    item: AtomicUsize::new(usize::MAX),
};

/// Prints the header and the plan: the first lines of any log.
pub fn open(line: &CommandLine) {
    report::open(suites(line).count());
    bench::note_first_line();
}

/// Runs everything the command line names, on the boot CPU, and ends the machine.
pub fn run(line: &CommandLine) -> ! {
    variant::select(line.variant);
    bench::note_first_item();
    let ctx = Ctx { variant: line.variant, story: line.story, lab: line.lab };
    let mut all_passed = true;
    let mut started = 0;
    for (index, suite) in suites(line).enumerate() {
        PROGRESS.suite.store(index + 1, Ordering::Relaxed);
        let items: Vec<_> = line.items().flatten().filter(|item| item.suite() == suite).collect();
        report::begin_suite(suite, items.len());
        let mut passed = true;
        for (number, item) in items.iter().enumerate() {
            inject::between_items(line.inject, started, item);
            started += 1;
            passed &= run_one(item, number + 1, &ctx);
        }
        report::suite_result(index + 1, suite, passed);
        all_passed &= passed;
    }
    inject::after_the_end(line.inject);
    exit::exit(if all_passed { Code::Passed } else { Code::Failed })
}

/// The name of the item that runs now. Any context.
pub fn running() -> Option<&'static str> {
    let index = PROGRESS.item.load(Ordering::Relaxed);
    Item::all().get(index).map(Item::name)
}

/// Whether the item that runs now says that it is explored. Any context.
pub fn is_explored() -> bool {
    let index = PROGRESS.item.load(Ordering::Relaxed);
    Item::all().get(index).is_some_and(Item::is_explored)
}

/// Prints a diagnostic of the running item.
pub fn diagnose(line: fmt::Arguments<'_>) {
    report::diagnostic(line);
}

/// Fails the running item for good: closes the log and ends the machine with code 1. Any context;
/// the rest of the plan is left without a result, and the host names what did not run.
pub fn fail_and_end(why: &'static str) -> ! {
    let index = PROGRESS.item.load(Ordering::Relaxed);
    let Some(item) = Item::all().get(index) else {
        exit::bail_out(format_args!("{why} before the first test"));
    };
    report::failure(why);
    report::result(PROGRESS.number.load(Ordering::Relaxed), item.name(), Verdict::NotOk);
    report::suite_result(PROGRESS.suite.load(Ordering::Relaxed), item.suite(), false);
    exit::exit(Code::Failed)
}

fn run_one(item: &'static Item, number: usize, ctx: &Ctx) -> bool {
    let all = Item::all().as_ptr_range();
    let index = (core::ptr::from_ref(item).addr() - all.start.addr()) / size_of::<Item>();
    PROGRESS.number.store(number, Ordering::Relaxed);
    PROGRESS.item.store(index, Ordering::Relaxed);
    let verdict = match play(item, ctx) {
        Ok(()) => Verdict::Ok,
        Err(Failure::Skip(why)) => Verdict::Skip(why),
        Err(Failure::Claim(text)) => {
            report::failure(&text);
            Verdict::NotOk
        }
    };
    report::result(number, item.name(), verdict);
    !matches!(verdict, Verdict::NotOk)
}

/// Runs an item and sees that it gave back every frame it took.
fn play(item: &'static Item, ctx: &Ctx) -> Outcome {
    if item.min_cpus() > CpuSet::online().len() as u64 {
        return Err(Failure::Skip("needs more CPUs"));
    }
    let before = Snapshot::take();
    item.run(ctx)?;
    before.check()?;
    ctx.story(format_args!("page accounting: {} frames in use before and after", before.frames()));
    Ok(())
}

/// The suites of a run, in the order in which they are first named.
fn suites(line: &CommandLine) -> impl Iterator<Item = &'static str> + use<> {
    let items = line.items();
    line.items().flatten().enumerate().filter_map(move |(index, item)| {
        let named_before =
            items.clone().flatten().take(index).any(|other| other.suite() == item.suite());
        (!named_before).then(|| item.suite())
    })
}
