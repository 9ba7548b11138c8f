//! One crash and one hang in the middle of a suite of twenty: every other test keeps its verdict,
//! and the two are explained.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use ktap::item::{Expect, Item};

use super::guest::{self, Bench};
use super::work::Job;
use crate::calibrate;
use crate::cli::Matrix;
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::report::excerpt;
use crate::run::Kernel;
use crate::symbol::Symbols;

/// Tests that run in all.
const TESTS: usize = 20;
/// Places of the test before which the guest crashes, and of the one before which it hangs.
const CRASH: usize = 6;
const HANG: usize = 13;
/// A crash is told so soon behind the first line of its report; on a loaded machine, in the time
/// of two boots.
const TOLD: Duration = Duration::from_millis(100);
/// Name of the job.
const NAME: &str = "a-crash-and-a-hang-cost-two-tests-of-twenty";

/// The job.
pub fn job<'a>(qemu: &'a Qemu, kernel: &'a Kernel, items: &'a [Item]) -> Job<'a> {
    Job::single(format!("harness/midway/{NAME}"), move || {
        let shared: Vec<&Item> = twenty(items);
        let machine = Machine::matrix(Matrix::Quick).remove(0);
        let at = |place: usize| shared.get(place).map_or("", |item| item.name.as_str());
        let words = [format!("inject=oops@{},hang@{}", at(CRASH), at(HANG))];
        let timeout = None;
        let bench =
            Bench { qemu, machine: &machine, kernel, items, timeout, seed: None, words: &words };
        let seen = Mutex::new((Symbols::of(&kernel.elf), Vec::new(), None));
        guest::together(bench, &shared, &|record| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(banner) = record.times.banner {
                // All that is printed of it, with its frames: what a person waits for.
                let text = excerpt(&record, &seen.0);
                seen.2 = text.contains("runner/inject.rs").then(|| banner.elapsed());
            }
            seen.1.push(record);
        })?;
        let (_, records, told) = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let boot = calibrate::limit(qemu, &machine, kernel, items) / calibrate::BOOTS;
        let mut record = judge(&records, at(CRASH), at(HANG));
        let told = told.context("the crash was told without its frames")?;
        record.output.push(format!("crash told {} ms behind its banner", told.as_millis()));
        if told > TOLD.max(boot * 2) {
            record.status = Status::Failed(format!(
                "the crash was told {} ms behind its banner",
                told.as_millis()
            ));
        }
        Ok(record)
    })
}

/// The first tests that pass on two CPUs, in the order in which the guest runs them.
fn twenty(items: &[Item]) -> Vec<&Item> {
    let passes = |item: &&Item| item.expect == Expect::Pass && item.min_cpus <= 2;
    items.iter().filter(passes).take(TESTS).collect()
}

/// Eighteen passes, and two failures of the right kind with an explanation each.
fn judge(records: &[Record], crash: &str, hang: &str) -> Record {
    let passed = records.iter().filter(|record| record.status == Status::Passed).count();
    let named = |name: &str| records.iter().find(|record| record.name == name);
    let crashed = named(crash).is_some_and(|record| {
        matches!(&record.status, Status::Crashed(why) if why.contains("oops"))
            && record.output.iter().any(|line| line.contains("bt 0x"))
    });
    let hung = named(hang)
        .is_some_and(|record| matches!(&record.status, Status::Hung(why) if why.contains(hang)));
    let status = if (records.len(), passed, crashed, hung) == (TESTS, TESTS - 2, true, true) {
        Status::Passed
    } else {
        let total = records.len();
        Status::Failed(format!(
            "{total} records of {TESTS}, {passed} passed, crash told: {crashed}, hang told: {hung}"
        ))
    };
    let mut record = Record::new("harness", "midway", NAME, status);
    record.output = records
        .iter()
        .filter(|record| record.status != Status::Passed)
        .map(|record| format!("{}: {}", record.path(), record.status.why().unwrap_or_default()))
        .collect();
    record.wall = records.iter().map(|record| record.wall).sum();
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(total: usize, crash: Status, hang: Status) -> Vec<Record> {
        let mut all: Vec<_> =
            (0..total).map(|n| Record::new("m", "s", &n.to_string(), Status::Passed)).collect();
        all[CRASH].status = crash;
        all[CRASH].output = vec!["oops: bt 0x1".into()];
        all[HANG].status = hang;
        all
    }

    #[test]
    fn a_lost_test_or_an_unexplained_end_is_noticed() {
        let crash = || Status::Crashed("oops: x".into());
        let hang = || Status::Hung("nothing while 13 ran".into());
        let judged = |records: &[Record]| judge(records, "6", "13").status == Status::Passed;
        assert!(judged(&records(TESTS, crash(), hang())));
        assert!(!judged(&records(TESTS - 1, crash(), hang())), "a test is lost");
        assert!(!judged(&records(TESTS, hang(), hang())), "the crash is told as a hang");
        assert!(!judged(&records(TESTS, crash(), Status::Passed)), "the hang is not told");
        let mut mute = records(TESTS, crash(), hang());
        mute[CRASH].output.clear();
        assert!(!judged(&mute), "the crash has no backtrace");
    }
}
