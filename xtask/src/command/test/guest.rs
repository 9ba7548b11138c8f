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
pub fn jobs<'a>(bench: Bench<'a>, items: &'a [Item], filter: Option<&str>) -> Vec<Job<'a>> {
    let wanted = |item: &Item, variant: Option<&str>| {
        filter.is_none_or(|filter| path(bench.machine, item, variant).contains(filter))
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

/// Runs items in as few boots as may be: after a crash or a hang the rest goes on in a fresh one.
fn together(bench: Bench<'_>, items: &[&Item]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut left: Vec<&Item> = items.to_vec();
    for number in 1.. {
        let booted = boot(bench, left.clone(), None, &format!("{}.{number}", bench.machine))?;
        let wall = booted.finished.wall / (booted.outcome.results.len().max(1) as u32);
        let Booted { outcome, log, .. } = booted;
        records.extend(outcome.results.iter().map(|result| from_result(bench, result, wall, &log)));
        let Some((suite, name)) = &outcome.cut_short else {
            records.extend(doubt(bench, &outcome, &log));
            return Ok(records);
        };
        records.push(Record {
            output: outcome.tail.clone(),
            ..record(bench, suite, name, cut_short(&outcome), wall, &log)
        });
        let rest = &outcome.not_started;
        // A boot that ends before any test will end so again.
        if outcome.results.is_empty() && number > 1 || rest.is_empty() {
            let why = format!("two boots in a row ended before it: {}", outcome.why);
            records.extend(rest.iter().map(|(suite, name)| {
                record(bench, suite, name, Status::NotRun(why.clone()), Duration::ZERO, &log)
            }));
            return Ok(records);
        }
        left.retain(|item| rest.iter().any(|(_, name)| *name == item.name));
    }
    Ok(records)
}

/// Runs an item in a boot of its own and judges it by what it must come to.
fn alone(bench: Bench<'_>, item: &Item, variant: Option<&str>, expect: &Expect) -> Result<Record> {
    let name = path(bench.machine, item, variant);
    let Booted { outcome, finished, log } = boot(bench, vec![item], variant, &name)?;
    let skipped = outcome.results.iter().find_map(|result| match &result.status {
        parse::Status::Skip(why) => Some(why.clone()),
        _ => None,
    });
    let status = match (skipped, judge(expect, &outcome)) {
        (Some(why), _) => Status::Skipped(why),
        (None, Ok(())) => Status::Passed,
        (None, Err(why)) => match outcome.exit {
            Exit::Crashed => Status::Crashed(why),
            Exit::Hung => Status::Hung(why),
            Exit::NoVerdict => Status::NoVerdict(why),
            _ => Status::Failed(why),
        },
    };
    let name = label(item, variant);
    let mut record = record(bench, &item.suite, &name, status, finished.wall, &log);
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

/// A sound log says nothing more than its results; one that cannot be believed is a failure of its
/// own, whatever its results say.
fn doubt(bench: Bench<'_>, outcome: &Outcome, log: &Path) -> Option<Record> {
    (outcome.exit > Exit::Failed).then(|| {
        let status = Status::NoVerdict(outcome.why.clone());
        let mut record = record(bench, "log", "whole", status, Duration::ZERO, log);
        record.output.clone_from(&outcome.tail);
        record
    })
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

fn from_result(bench: Bench<'_>, result: &TestResult, wall: Duration, log: &Path) -> Record {
    let status = match &result.status {
        parse::Status::Ok => Status::Passed,
        parse::Status::Skip(why) => Status::Skipped(why.clone()),
        parse::Status::NotOk => {
            let claim = result.output.iter().find_map(|line| line.strip_prefix("FAIL: "));
            Status::Failed(claim.unwrap_or("the guest says so").into())
        }
    };
    let mut record = record(bench, &result.suite, &result.name, status, wall, log);
    record.output.clone_from(&result.output);
    record
}

fn record(
    bench: Bench<'_>,
    suite: &str,
    name: &str,
    status: Status,
    wall: Duration,
    log: &Path,
) -> Record {
    Record {
        machine: bench.machine.to_string(),
        suite: suite.into(),
        name: name.into(),
        status,
        wall,
        output: Vec::new(),
        log: Some(log.display().to_string()),
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
