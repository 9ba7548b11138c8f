//! The guest half: which boots a machine needs, and records out of their outcomes.

use std::time::Duration;

use anyhow::Result;
use ktap::item::{Expect, Item};
use ktap::parse;

use super::select::{Selection, labels};
use super::work::{Job, Sink};
use crate::calibrate;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::image::Build;
use crate::judge::judge;
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::run::{Boot, Booted, Kernel, Times};
use crate::session::{Outcome, TestResult};

/// Suite and name of the record of what is wrong with a boot as a whole.
const WHOLE: (&str, &str) = ("log", "whole");

/// What all boots of one machine share.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The QEMU.
    pub qemu: &'a Qemu,
    /// The machine.
    pub machine: &'a Machine,
    /// The kernel, built for it.
    pub kernel: &'a Kernel,
    /// All that the kernel can run.
    pub items: &'a [Item],
    /// Silence after which a test is hung; `None`: measured when it matters.
    pub timeout: Option<Duration>,
    /// Shuffles the tests of a shared boot.
    pub seed: Option<u64>,
    /// Further words for the kernel's command line.
    pub words: &'a [String],
}

/// The jobs of one machine: one boot for everything that ends well, one for each item and variant
/// that must end otherwise.
pub fn jobs<'a>(bench: Bench<'a>, selection: &Selection) -> Vec<Job<'a>> {
    let wanted = |item: &Item, variant: Option<&str>, expect: &Expect| {
        let labels = labels(item, variant.is_some(), expect);
        selection.wants(&path(bench.machine, item, variant), &labels)
    };
    let mut jobs = Vec::new();
    // Races are explored in a boot of their own kind: see `boot`.
    for explored in [false, true] {
        let mut shared: Vec<_> = bench
            .items
            .iter()
            .filter(|item| item.explored == explored && item.expect == Expect::Pass)
            // Without a program it has nothing to run; see `prog`.
            .filter(|item| item.name != super::prog::ITEM)
            // Figures mean something under -icount only; see `bench`.
            .filter(|item| item.suite != crate::command::bench::SUITE)
            .filter(|item| wanted(item, None, &item.expect))
            .collect();
        if let Some(seed) = bench.seed {
            fastrand::Rng::with_seed(seed).shuffle(&mut shared);
        }
        if !shared.is_empty() {
            let what = if explored { "races" } else { "tests" };
            jobs.push(Job {
                name: format!("{}: {} {what}", bench.machine, shared.len()),
                tests: shared.iter().map(|item| path(bench.machine, item, None)).collect(),
                work: Box::new(move |sink| together(bench, &shared, sink)),
            });
        }
    }
    for item in bench.items {
        if item.expect != Expect::Pass && wanted(item, None, &item.expect) {
            jobs.push(job_alone(bench, item, None, &item.expect));
        }
        // That races catch their variants is seen in optimised images; whether a stale translation is
        // still there when it is looked for depends on what else the code touched.
        if item.explored && bench.machine.build == Build::Debug {
            continue;
        }
        for variant in &item.variants {
            if wanted(item, Some(&variant.name), &variant.expect) {
                jobs.push(job_alone(bench, item, Some(&variant.name), &variant.expect));
            }
        }
    }
    jobs
}

fn job_alone<'a>(
    bench: Bench<'a>,
    item: &'a Item,
    variant: Option<&'a str>,
    expect: &'a Expect,
) -> Job<'a> {
    let work = move || Ok(hinted(bench, alone(bench, item, variant, expect)?));
    Job::single(path(bench.machine, item, variant), work)
}

/// Runs items in as few boots as may be: after a crash, a hang or a deadlock the rest
/// goes on in a fresh one. Each boot's records are handed on when it ends.
///
/// # Errors
/// A boot that could not be made.
pub fn together(bench: Bench<'_>, items: &[&Item], sink: Sink<'_>) -> Result<()> {
    let mut left: Vec<&Item> = items.to_vec();
    // A single test has a log of its own: others of its machine may run in other processes.
    let log = match items {
        [item] => path(bench.machine, item, None),
        // Not a machine's own log, which the outside judges read.
        _ if !bench.words.is_empty() => format!("harness-{}", bench.machine),
        [first, ..] if first.explored => format!("{}-races", bench.machine),
        _ => bench.machine.to_string(),
    };
    for number in 1.. {
        let booted = boot(bench, left.clone(), None, &format!("{log}.{number}"))?;
        of_boot(bench.machine, &booted).into_iter().for_each(|record| sink(hinted(bench, record)));
        let outcome = &booted.outcome;
        if outcome.cut_short.is_none() && is_last(outcome) {
            return Ok(());
        }
        let rest = &outcome.not_started;
        // A boot that ends before any test will end so again.
        if outcome.results.is_empty() && number > 1 || rest.is_empty() {
            let why = format!("two boots in a row ended before it: {}", outcome.why);
            let not_run = Status::NotRun(why);
            rest.iter()
                .map(|(suite, name)| record(bench.machine, suite, name, &not_run, &booted))
                .for_each(sink);
            return Ok(());
        }
        left.retain(|item| rest.iter().any(|(_, name)| *name == item.name));
    }
    Ok(())
}

/// The records of one boot: its results, and what is to be said of its end.
fn of_boot(machine: &Machine, booted: &Booted) -> Vec<Record> {
    let outcome = &booted.outcome;
    let share = booted.finished.wall / (outcome.results.len().max(1) as u32);
    let result = |result| from_result(machine, result, booted);
    let mut records: Vec<_> = outcome.results.iter().map(result).collect();
    match &outcome.cut_short {
        None if is_last(outcome) => records.extend(whole(machine, booted)),
        // A deadlock ended the boot with a result of its own; what is left goes on in another.
        None => {}
        Some((suite, name)) => records.push(Record {
            output: outcome.tail.clone(),
            times: booted.times,
            ..record(machine, suite, name, &cut_short(outcome), booted)
        }),
    }
    for record in &mut records {
        record.green = outcome.green();
        record.wall = share;
    }
    records
}

/// Whether nothing is left to run, or nothing of the log can be believed.
fn is_last(outcome: &Outcome) -> bool {
    outcome.not_started.is_empty() || outcome.exit > Exit::Failed
}

/// Runs an item in a boot of its own and judges it by what it must come to.
fn alone(bench: Bench<'_>, item: &Item, variant: Option<&str>, expect: &Expect) -> Result<Record> {
    let name = path(bench.machine, item, variant);
    let booted = boot(bench, vec![item], variant, &name)?;
    let outcome = &booted.outcome;
    let status = alone_came_to(expect, outcome);
    let mut record = record(bench.machine, &item.suite, &label(item, variant), &status, &booted);
    record.green = outcome.green();
    record.wall = booted.finished.wall;
    record.times = booted.times;
    record.output = outcome.results.iter().flat_map(|result| result.output.clone()).collect();
    record.output.extend(outcome.tail.iter().cloned());
    Ok(record)
}

fn boot(bench: Bench<'_>, items: Vec<&Item>, variant: Option<&str>, log: &str) -> Result<Booted> {
    let asked = items.iter().map(|item| Duration::from_millis(item.timeout_ms)).max();
    let least = asked.unwrap_or_default().max(calibrate::UNMEASURED);
    let measured =
        || calibrate::limit(bench.qemu, bench.machine, bench.kernel, bench.items).max(least);
    let deadline = match bench.timeout {
        Some(silence) => Deadline::fixed(silence),
        None => Deadline { again: Some(&measured), ..Deadline::fixed(least) },
    };
    // Where one CPU runs at a time, CPUs that wait in threads of their own only hold it up.
    let single = items.iter().all(|item| item.explored);
    let machine = Machine { single, ..bench.machine.clone() };
    let mut words = bench.words.to_vec();
    // Unoptimised code takes ten times as long a schedule, and the optimised one has seen them all.
    if single && variant.is_none() && machine.build == Build::Debug {
        words.push("bound=1".into());
    }
    Boot {
        qemu: bench.qemu,
        machine: &machine,
        kernel: bench.kernel,
        items,
        variant: variant.unwrap_or("default"),
        words,
        qemu_args: Vec::new(),
        deadline,
        log: log.into(),
    }
    .run(|_, _| Next::More)
}

/// What an item in a boot of its own came to.
fn alone_came_to(expect: &Expect, outcome: &Outcome) -> Status {
    let skip = outcome.results.iter().find_map(|result| match &result.status {
        parse::Status::Skip(why) => Some(why.clone()),
        _ => None,
    });
    match (skip, judge(expect, outcome)) {
        (Some(why), _) if outcome.only_skips => Status::Skipped(why),
        (_, Ok(())) => Status::Passed,
        (_, Err(why)) => match outcome.exit {
            Exit::Crashed => Status::Crashed(why),
            Exit::Hung => Status::Hung(why),
            Exit::NoVerdict => Status::NoVerdict(why),
            _ => Status::Failed(why),
        },
    }
}

/// What the end of a boot says beyond its results: nothing if the log is sound. Tests that the
/// guest left out are named; a boot that ended otherwise than its results is a failure of its own.
fn whole(machine: &Machine, booted: &Booted) -> Vec<Record> {
    let outcome = &booted.outcome;
    if outcome.exit <= Exit::Failed || outcome.only_skips {
        return Vec::new();
    }
    let not_run = Status::NotRun(outcome.why.clone());
    let left_out =
        |(suite, name): &(String, String)| record(machine, suite, name, &not_run, booted);
    let mut records: Vec<_> = outcome.not_started.iter().map(left_out).collect();
    let mut whole = record(machine, WHOLE.0, WHOLE.1, &cut_short(outcome), booted);
    whole.output.clone_from(&outcome.tail);
    whole.times = booted.times;
    records.push(whole);
    records
}

fn cut_short(outcome: &Outcome) -> Status {
    let why = outcome.why.clone();
    match outcome.exit {
        Exit::Crashed => Status::Crashed(why),
        Exit::Hung => Status::Hung(why),
        Exit::Failed => Status::Failed(why),
        _ => Status::NoVerdict(why),
    }
}

fn from_result(machine: &Machine, result: &TestResult, booted: &Booted) -> Record {
    let status = match &result.status {
        parse::Status::Ok => Status::Passed,
        parse::Status::Skip(why) => Status::Skipped(why.clone()),
        parse::Status::NotOk => {
            let claim = result.output.iter().find_map(|line| line.strip_prefix("FAIL: "));
            Status::Failed(claim.unwrap_or("the guest says so").into())
        }
    };
    let mut record = record(machine, &result.suite, &result.name, &status, booted);
    record.output.clone_from(&result.output);
    record.times = Times { banner: None, ..booted.times };
    record
}

fn record(machine: &Machine, suite: &str, name: &str, status: &Status, booted: &Booted) -> Record {
    let log = Some(booted.log.display().to_string());
    Record { log, ..Record::new(&machine.to_string(), suite, name, status.clone()) }
}

/// A failing record with the command that gets a debugger to where it failed.
fn hinted(bench: Bench<'_>, mut record: Record) -> Record {
    if record.status.is_failure() && (record.suite.as_str(), record.name.as_str()) != WHOLE {
        let (name, flags) = (&record.name, bench.machine.flags());
        record.output.push(format!("debug: cargo xtask gdb --test {name}{flags}"));
        record.output.extend(bench.seed.map(|seed| format!("order: --seed {seed}")));
    }
    record
}

/// `machine/suite/item@variant`
fn path(machine: &Machine, item: &Item, variant: Option<&str>) -> String {
    format!("{machine}/{}/{}", item.suite, label(item, variant))
}

fn label(item: &Item, variant: Option<&str>) -> String {
    match variant {
        Some(variant) => format!("{}@{variant}", item.name),
        None => item.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Matrix;
    use crate::guest::{End, Finished};
    use crate::record::exit_of;
    use crate::session::Session;

    /// A boot of `a` and `b` of one suite.
    fn boot_of(results: &str, end: &End) -> Outcome {
        let asked = ["a", "b"].map(|name| ("s".to_string(), name.to_string()));
        let mut session = Session::new(&asked);
        let head = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n";
        for line in head.lines().chain(results.lines()) {
            session.line(line.as_bytes());
        }
        session.finish(end, "")
    }

    const GOOD: &str = "    1..2\n    ok 1 a\n    ok 2 b\nok 1 s\n";
    const SKIPPED: &str = "    1..2\n    ok 1 a # SKIP no\n    ok 2 b # SKIP no\nok 1 s\n";
    const CRASH: &str = "# oops: cpu=0 reason=x\nBail out! oops: x\n";

    /// Every record of a shared boot that was not cut short.
    fn records(outcome: &Outcome) -> Vec<Record> {
        let machine = Machine::matrix(Matrix::Quick).remove(0);
        let finished = Finished { end: End::Flood, wall: Duration::ZERO, complaints: "".into() };
        let (outcome, times) = (outcome.clone(), Times::default());
        of_boot(&machine, &Booted { outcome, finished, times, log: "log".into() })
    }

    #[test]
    fn a_sound_boot_has_a_record_for_each_test_and_no_more() {
        let good = records(&boot_of(GOOD, &End::Exited(0)));
        let paths: Vec<_> = good.iter().map(|record| record.path()).collect();
        assert_eq!(paths, ["cortex-a72-gic2-smp2/s/a", "cortex-a72-gic2-smp2/s/b"]);
        assert_eq!(exit_of(&good), Exit::Passed);
        let log = "    1..2\n    ok 1 a\n    # FAIL: 1 of 2\n    not ok 2 b\nnot ok 1 s\n";
        let failed = records(&boot_of(log, &End::Exited(1)));
        assert_eq!(failed[1].status, Status::Failed("1 of 2".into()));
        assert_eq!((failed.len(), exit_of(&failed)), (2, Exit::Failed));
    }

    /// Was no verdict: the boot of a machine that must skip all that a filter selects.
    #[test]
    fn a_machine_that_skips_everything_does_not_fail_the_others() {
        let skips = records(&boot_of(SKIPPED, &End::Exited(0)));
        assert!(skips.iter().all(|record| matches!(record.status, Status::Skipped(_))));
        assert_eq!(skips.len(), 2);
    }

    /// Was no verdict, whatever had happened.
    #[test]
    fn what_went_wrong_behind_the_last_result_keeps_its_code() {
        let crashed = GOOD.to_string() + CRASH;
        for (log, end, exit) in [
            (crashed.as_str(), End::Exited(3), Exit::Crashed),
            (GOOD, End::Lingered, Exit::Hung),
            (GOOD, End::Exited(1), Exit::NoVerdict),
        ] {
            let records = records(&boot_of(log, &end));
            assert_eq!(exit_of(&records), exit);
            assert_eq!(records.last().unwrap().path(), "cortex-a72-gic2-smp2/log/whole");
        }
    }

    #[test]
    fn a_test_that_the_guest_left_out_has_a_record() {
        let all = records(&boot_of("    1..1\n    ok 1 a\nok 1 s\n", &End::Exited(0)));
        assert_eq!(all[1].path(), "cortex-a72-gic2-smp2/s/b");
        assert_eq!(all[1].status, Status::NotRun("1 of 2 tests never ran: b".into()));
        assert_eq!(exit_of(&all), Exit::NoVerdict);
    }

    /// Was a skip, and so nothing: the guest reported one and then crashed or hung.
    #[test]
    fn a_skip_in_a_boot_that_went_wrong_is_no_skip() {
        let skip =
            |end, more| alone_came_to(&Expect::Pass, &boot_of(&format!("{SKIPPED}{more}"), &end));
        assert_eq!(skip(End::Exited(0), ""), Status::Skipped("no".into()));
        assert!(matches!(skip(End::Exited(3), CRASH), Status::Crashed(_)));
        assert!(matches!(skip(End::Lingered, ""), Status::Hung(_)));
        assert!(matches!(skip(End::Exited(1), ""), Status::NoVerdict(_)));
    }

    #[test]
    fn an_item_alone_is_judged_by_what_it_must_come_to() {
        let oops = Expect::Oops("oops: x".into());
        let crash = boot_of(&format!("    1..2\n{CRASH}"), &End::Exited(3));
        assert_eq!(alone_came_to(&oops, &crash), Status::Passed);
        assert!(matches!(alone_came_to(&Expect::Pass, &crash), Status::Crashed(_)));
        let good = boot_of(GOOD, &End::Exited(0));
        assert_eq!(alone_came_to(&Expect::Pass, &good), Status::Passed);
        assert!(matches!(alone_came_to(&oops, &good), Status::Failed(_)));
        let hung = boot_of("    1..2\n", &End::Silent(Duration::from_secs(1)));
        assert!(matches!(alone_came_to(&oops, &hung), Status::Hung(_)));
    }

    fn item(name: &str, expect: Expect, variants: &[&str]) -> Item {
        let variant = |name: &&str| ktap::item::Variant {
            name: name.to_string(),
            about: String::new(),
            expect: Expect::Fail("claim".into()),
        };
        Item {
            name: name.into(),
            suite: "s".into(),
            about: String::new(),
            expect,
            variants: variants.iter().map(variant).collect(),
            min_cpus: 1,
            timeout_ms: 0,
            explored: false,
        }
    }

    #[test]
    fn what_must_end_otherwise_has_a_boot_of_its_own_and_so_has_each_variant() {
        let items = [
            item("a", Expect::Pass, &["v", "w"]),
            item("b", Expect::Oops("x".into()), &[]),
            item("c", Expect::Pass, &[]),
        ];
        let qemu = Qemu { path: "/nowhere".into(), version: (7, 2), name: String::new() };
        let machine = Machine::matrix(Matrix::Quick).remove(0);
        let kernel = Kernel::nowhere();
        let bench = Bench {
            qemu: &qemu,
            machine: &machine,
            kernel: &kernel,
            items: &items,
            timeout: None,
            seed: None,
            words: &[],
        };
        let tests = |filter: Option<&str>| -> Vec<String> {
            let selection = Selection { filter: filter.map(String::from), ..Selection::default() };
            jobs(bench, &selection)
                .iter()
                .map(|job| job.tests.join(" ").replace("cortex-a72-gic2-smp2/s/", ""))
                .collect()
        };
        assert_eq!(tests(None), ["a c", "a@v", "a@w", "b"]);
        assert_eq!(tests(Some("/s/a@w")), ["a@w"]);
        assert_eq!(tests(Some("/s/c")), ["c"]);
        assert_eq!(tests(Some("nothing")), [""; 0]);
        let order = |seed| -> Vec<String> {
            let bench = Bench { seed: Some(seed), ..bench };
            jobs(bench, &Selection::default())[0].tests.clone()
        };
        assert_eq!(order(1), order(1));
        assert!((0..20).any(|seed| order(seed) != order(1)), "no seed changes the order");
    }
}
