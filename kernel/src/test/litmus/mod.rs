//! The litmus tests of `kernel/litmus` on the machine: the same texts that herd7 judges by Arm's model,
//! run on CPUs of their own, thousands of times, with every outcome counted. What the model forbids must
//! not be seen; what it allows may be.
//!
//! A sample begins from the test's own state, with no translation of its page in any TLB; three times of
//! four each CPU then reads the page where it is mapped, so that it has one. `count=`, `seed=` and
//! `first=` on the command line say how many samples of each test, and which; `story=1` tells every outcome.
//!
//! QEMU walks its tables when an access needs them and at no other time, and its barriers are the host's:
//! a forgotten TLBI shows here, a forgotten barrier mostly does not, and a spurious fault never.

mod place;
mod session;
mod tally;
mod thread;

use alloc::string::String;
use core::sync::atomic::Ordering;

use litmus::expect;
use litmus::test::{Insn, Needs, Test};
use litmus::{parse, texts};

use crate::arch::features;
use crate::arch::smp::CpuSet;
use crate::fault::COUNTS;
use crate::runner::{Ctx, Failure, Outcome, claim, item};
use place::Place;
use session::Plan;

/// An item for each family of tests, by the letter that their names begin with.
macro_rules! families {
    ($($letter:literal, $name:literal, $about:literal;)*) => {
        /// The letters of all families.
        const FAMILIES: &[char] = &[$($letter),*];
        $(item! {
            name: $name,
            suite: "litmus",
            about: $about,
            run: |ctx| family(ctx, $letter),
        })*
    };
}

families! {
    'I', "installing-shows-nothing-forbidden", "litmus tests of installs, replacements and races for a slot";
    'R', "freeing-shows-nothing-forbidden", "litmus tests of a page that is freed and used again";
    'Z', "zeroing-shows-nothing-forbidden", "litmus tests of a page that is zeroed and then mapped";
    'P', "publishing-shows-nothing-forbidden", "litmus tests of a mapping that another CPU is told of";
    'L', "one-cpu-alone-shows-nothing-forbidden", "litmus tests of a CPU's accesses to what it maps itself";
    'H', "the-abort-handler-shows-nothing-forbidden", "litmus tests of a fault and what its handler does";
    'C', "clearing-twice-shows-nothing-forbidden", "litmus tests of two CPUs that clear one slot";
    'T', "tombstones-show-nothing-forbidden", "litmus tests of the windows that tombstones close";
    'D', "dirty-state-shows-nothing-forbidden", "litmus tests of the dirty state that hardware writes";
}

item! {
    name: "every-litmus-test-is-run-or-has-its-reason",
    suite: "litmus",
    about: "each line of EXPECT is a test that can be read, of a family that is run, or one that this CPU cannot run",
    run: all_are_run,
}

item! {
    name: "a-warm-tlb-shows-what-a-missing-tlbi-does",
    suite: "litmus",
    about: "outcomes that need a stale translation, and are allowed, are seen",
    min_cpus: 2,
    run: stale_is_seen,
}

item! {
    name: "a-missing-tlbi-is-reported-where-it-is-forbidden",
    suite: "litmus",
    about: "the negative control: a test whose TLBI is taken out shows what its verdict forbids, and fails",
    min_cpus: 2,
    run: forbidden_is_reported,
}

/// Samples of a test in an ordinary run, if they take no longer than [`PATIENCE_NS`].
const FEW: u64 = 400;
/// Nanoseconds for each test in an ordinary run.
const PATIENCE_NS: u64 = 20_000_000;
/// Samples in which an outcome that is sought must come.
const MANY: u64 = 50_000;

/// Tests that show a stale translation: of one CPU, of another that reads, of another that writes.
const STALE: [&str; 3] = ["L5-local-unmap-access", "R2-free-notlbi-read", "I6-bbm-no-tlbi"];
/// A test that forbids one.
const FREED: &str = "R1-free-reuse-read";

fn family(ctx: &Ctx, letter: char) -> Outcome {
    let lab = ctx.lab();
    let (count, patience_ns) =
        if lab.count == 0 { (FEW, PATIENCE_NS) } else { (lab.count, u64::MAX) };
    let plan = Plan { seed: lab.seed, first: lab.first, count, patience_ns, until_seen: false };
    let place = Place::new()?;
    let retried = || COUNTS.spurious.load(Ordering::Relaxed);
    let before = retried();
    let (mut wrong, mut ran, mut missing) = (String::new(), 0, None);
    for test in tests() {
        let test = test?;
        let name = test.expected.name;
        if !name.starts_with(letter) {
            continue;
        }
        if let Some(why) = what_is_missing(&test) {
            ctx.note(format_args!("litmus: {name}: not run: {why}"));
            missing.get_or_insert(why);
            continue;
        }
        let tally = session::run(&test, &place, plan);
        ctx.note(format_args!("litmus: {}", tally.line()));
        tally.histogram().for_each(|line| ctx.story(format_args!("{line}")));
        if let Err(why) = tally.judge(plan.seed) {
            wrong = wrong + &why + "\n";
        }
        ran += 1;
    }
    claim!(wrong.is_empty(), "{wrong}");
    let unseen = retried() - before;
    claim!(unseen == 0, "{unseen} faults were retried before the tests saw them");
    claim!(ran > 0 || missing.is_some(), "no test's name begins with {letter}");
    missing.filter(|_| ran == 0).map_or(Ok(()), |why| Err(Failure::Skip(why)))
}

/// Every test of EXPECT.
fn tests() -> impl Iterator<Item = Result<Test<'static>, Failure>> {
    let lines = expect::parse(litmus::EXPECT).zip(texts());
    lines.map(|(expected, (_, text))| {
        let expected = expected.map_err(Failure::of("EXPECT"))?;
        parse::parse(expected, text).map_err(Failure::new)
    })
}

fn named(name: &str) -> Result<Test<'static>, Failure> {
    let is_it = |test: &Result<Test<'_>, _>| test.as_ref().is_ok_and(|t| t.expected.name == name);
    tests().find(is_it).unwrap_or_else(|| Err(Failure::new(alloc::format!("no test {name}"))))
}

/// Why this machine cannot run a test.
fn what_is_missing(test: &Test<'_>) -> Option<&'static str> {
    let cpu = features::system();
    match test.needs {
        Needs::Ets2 if !cpu.ets2 => return Some("its verdict is of CPUs with FEAT_ETS2"),
        Needs::DirtyState if cpu.hafdbs < features::DIRTY_STATE => {
            return Some("its verdict is of CPUs whose hardware keeps dirty state");
        }
        _ => {}
    }
    (test.threads.len() > CpuSet::online().len()).then_some("needs more CPUs")
}

fn all_are_run(ctx: &Ctx) -> Outcome {
    let (mut run, mut missing) = (0, 0);
    for test in tests() {
        let test = test?;
        let name = test.expected.name;
        claim!(name.starts_with(FAMILIES), "{name} is of no family that is run");
        claim!(test.threads.len() <= tally::THREADS, "{name} has too many threads");
        match what_is_missing(&test) {
            None => run += 1,
            Some(_) => missing += 1,
        }
    }
    let all = litmus::EXPECT.lines().count();
    claim!(run + missing == all, "{run} tests are run, {missing} cannot be, of {all}");
    ctx.note(format_args!("litmus: {run} tests are run here, {missing} cannot be"));
    Ok(())
}

/// A plan that ends with the outcome in question.
fn seek(ctx: &Ctx) -> Plan {
    let (seed, first) = (ctx.lab().seed, ctx.lab().first);
    Plan { seed, first, count: MANY, patience_ns: u64::MAX, until_seen: true }
}

fn stale_is_seen(ctx: &Ctx) -> Outcome {
    let place = Place::new()?;
    for name in STALE {
        let test = named(name)?;
        let tally = session::run(&test, &place, seek(ctx));
        ctx.note(format_args!("litmus: {}", tally.line()));
        claim!(tally.seen > 0, "{name}: not seen in {} samples", tally.samples);
    }
    Ok(())
}

fn forbidden_is_reported(ctx: &Ctx) -> Outcome {
    let place = Place::new()?;
    let mut test = named(FREED)?;
    for insn in test.threads.iter_mut().flat_map(|thread| &mut thread.insns) {
        if let Insn::Tlbi(_) = insn {
            *insn = Insn::Nothing;
        }
    }
    let plan = seek(ctx);
    let tally = session::run(&test, &place, plan);
    let verdict = tally.judge(plan.seed);
    let told = verdict.as_ref().err().map_or("nothing", String::as_str);
    ctx.note(format_args!("litmus: without its TLBI, {told}"));
    claim!(told.contains("forbidden and seen"), "in {} samples: {told}", tally.samples);
    claim!(told.contains("1:X1=42"), "the outcome is not told: {told}");
    Ok(())
}
