//! The guest half: which boots a machine needs, and records out of their outcomes.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use ktap::item::{Expect, Item};
use ktap::parse;

use super::Job;
use crate::exit::Exit;
use crate::guest::Next;
use crate::judge::judge;
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::run::{Boot, Booted, Kernel};
use crate::session::{Outcome, TestResult};

/// What all boots of one machine share.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The QEMU.
    pub qemu: &'a Qemu,
    /// The machine.
    pub machine: &'a Machine,
    /// The kernel, built for it.
    pub kernel: &'a Kernel,
    /// Silence after which a test is hung.
    pub silence: Duration,
}

/// The jobs of one machine: one boot for everything that ends well, one for each item and variant
/// that must end otherwise.
pub fn jobs<'a>(
    bench: Bench<'a>,
    items: &'a [Item],
    filter: Option<&str>,
    exact: bool,
) -> Vec<Job<'a>> {
    let wanted = |item: &Item, variant: Option<&str>| {
        let path = path(bench.machine, item, variant);
        filter.is_none_or(|filter| if exact { path == filter } else { path.contains(filter) })
    };
    let mut jobs = Vec::new();
    let shared: Vec<_> =
        items.iter().filter(|item| item.expect == Expect::Pass && wanted(item, None)).collect();
    if !shared.is_empty() {
        let tests = shared.iter().map(|item| path(bench.machine, item, None)).collect();
        jobs.push(Job {
            name: format!("{}: {} tests", bench.machine, shared.len()),
            tests,
            work: Box::new(move || {
                let records = together(bench, &shared)?;
                Ok(records.into_iter().map(|record| hinted(bench, record)).collect())
            }),
        });
    }
    for item in items {
        if item.expect != Expect::Pass && wanted(item, None) {
            jobs.push(job_alone(bench, item, None, &item.expect));
        }
        for variant in &item.variants {
            if wanted(item, Some(&variant.name)) {
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
    let name = path(bench.machine, item, variant);
    Job {
        tests: vec![name.clone()],
        name,
        work: Box::new(move || Ok(vec![hinted(bench, alone(bench, item, variant, expect)?)])),
    }
}

/// Runs items in as few boots as may be: after a crash, a hang or a deadlock the rest
/// goes on in a fresh one.
fn together(bench: Bench<'_>, items: &[&Item]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut left: Vec<&Item> = items.to_vec();
    // A single test has a log of its own: others of its machine may run in other processes.
    let log = match items {
        [item] => path(bench.machine, item, None),
        _ => bench.machine.to_string(),
    };
    for number in 1.. {
        let booted = boot(bench, left.clone(), None, &format!("{log}.{number}"))?;
        let wall = booted.finished.wall / (booted.outcome.results.len().max(1) as u32);
        let Booted { outcome, log, .. } = booted;
        records.extend(of_boot(bench.machine, &outcome, wall, &log));
        if outcome.cut_short.is_none() && is_last(&outcome) {
            return Ok(records);
        }
        let rest = &outcome.not_started;
        // A boot that ends before any test will end so again.
        if outcome.results.is_empty() && number > 1 || rest.is_empty() {
            let why = format!("two boots in a row ended before it: {}", outcome.why);
            records.extend(rest.iter().map(|(suite, name)| {
                record(
                    bench.machine,
                    suite,
                    name,
                    Status::NotRun(why.clone()),
                    Duration::ZERO,
                    &log,
                )
            }));
            return Ok(records);
        }
        left.retain(|item| rest.iter().any(|(_, name)| *name == item.name));
    }
    Ok(records)
}

/// The records of one boot: its results, and what is to be said of its end.
fn of_boot(machine: &Machine, outcome: &Outcome, wall: Duration, log: &Path) -> Vec<Record> {
    let result = |result| from_result(machine, result, wall, log);
    let mut records: Vec<_> = outcome.results.iter().map(result).collect();
    match &outcome.cut_short {
        None if is_last(outcome) => records.extend(whole(machine, outcome, log)),
        // A deadlock ended the boot with a result of its own; what is left goes on in another.
        None => {}
        Some((suite, name)) => records.push(Record {
            output: outcome.tail.clone(),
            ..record(machine, suite, name, cut_short(outcome), wall, log)
        }),
    }
    for record in &mut records {
        record.green = outcome.green();
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
    let Booted { outcome, finished, log } = boot(bench, vec![item], variant, &name)?;
    let green = outcome.green();
    let status = alone_came_to(expect, &outcome);
    let name = label(item, variant);
    let mut record = record(bench.machine, &item.suite, &name, status, finished.wall, &log);
    record.green = green;
    record.output = outcome.results.into_iter().flat_map(|result| result.output).collect();
    record.output.extend(outcome.tail);
    Ok(record)
}

fn boot(bench: Bench<'_>, items: Vec<&Item>, variant: Option<&str>, log: &str) -> Result<Booted> {
    Boot {
        qemu: bench.qemu,
        machine: bench.machine,
        kernel: bench.kernel,
        items,
        variant: variant.unwrap_or("default"),
        words: Vec::new(),
        qemu_args: Vec::new(),
        silence: bench.silence,
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
fn whole(machine: &Machine, outcome: &Outcome, log: &Path) -> Vec<Record> {
    if outcome.exit <= Exit::Failed || outcome.only_skips {
        return Vec::new();
    }
    let left_out = |(suite, name): &(String, String)| {
        let status = Status::NotRun(outcome.why.clone());
        record(machine, suite, name, status, Duration::ZERO, log)
    };
    let mut records: Vec<_> = outcome.not_started.iter().map(left_out).collect();
    let mut whole = record(machine, "log", "whole", cut_short(outcome), Duration::ZERO, log);
    whole.output.clone_from(&outcome.tail);
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

fn from_result(machine: &Machine, result: &TestResult, wall: Duration, log: &Path) -> Record {
    let status = match &result.status {
        parse::Status::Ok => Status::Passed,
        parse::Status::Skip(why) => Status::Skipped(why.clone()),
        parse::Status::NotOk => {
            let claim = result.output.iter().find_map(|line| line.strip_prefix("FAIL: "));
            Status::Failed(claim.unwrap_or("the guest says so").into())
        }
    };
    let mut record = record(machine, &result.suite, &result.name, status, wall, log);
    record.output.clone_from(&result.output);
    record
}

fn record(
    machine: &Machine,
    suite: &str,
    name: &str,
    status: Status,
    wall: Duration,
    log: &Path,
) -> Record {
    Record {
        machine: machine.to_string(),
        suite: suite.into(),
        name: name.into(),
        status,
        wall,
        output: Vec::new(),
        log: Some(log.display().to_string()),
        green: None,
    }
}

/// A failing record with the command that gets a debugger to where it failed.
fn hinted(bench: Bench<'_>, mut record: Record) -> Record {
    if record.status.is_failure() {
        let (name, flags) = (&record.name, bench.machine.flags());
        record.output.push(format!("debug: cargo xtask gdb --test {name}{flags}"));
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
    use crate::guest::End;
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
        let log = Path::new("log");
        let results = outcome.results.iter();
        let mut all: Vec<_> =
            results.map(|result| from_result(&machine, result, Duration::ZERO, log)).collect();
        all.extend(whole(&machine, outcome, log));
        all
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
        }
    }

    #[test]
    fn what_must_end_otherwise_has_a_boot_of_its_own_and_so_has_each_variant() {
        let items = [
            item("a", Expect::Pass, &["v", "w"]),
            item("b", Expect::Oops("x".into()), &[]),
            item("c", Expect::Pass, &[]),
        ];
        let qemu = Qemu { path: "/nowhere".into(), version: (7, 2) };
        let machine = Machine::matrix(Matrix::Quick).remove(0);
        let kernel = Kernel::nowhere();
        let bench =
            Bench { qemu: &qemu, machine: &machine, kernel: &kernel, silence: Duration::ZERO };
        let tests = |filter| -> Vec<String> {
            let jobs = jobs(bench, &items, filter, false);
            jobs.iter()
                .map(|job| job.tests.join(" ").replace("cortex-a72-gic2-smp2/s/", ""))
                .collect()
        };
        assert_eq!(tests(None), ["a c", "a@v", "a@w", "b"]);
        assert_eq!(tests(Some("/s/a@w")), ["a@w"]);
        assert_eq!(tests(Some("/s/c")), ["c"]);
        assert_eq!(tests(Some("nothing")), [""; 0]);
    }
}
