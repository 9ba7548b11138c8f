//! Reading what `cargo test` prints: the results of Rust's test harness as records.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::record::{Record, Status};
use crate::report::put;

/// What a run of cargo's came to.
pub struct Run {
    /// A record a test, and one for what is wrong with the run itself.
    pub records: Vec<Record>,
    /// Everything that it printed on standard output.
    pub lines: Vec<String>,
}

/// Runs `command`, whose last argument is `--`, to its end. A failed run is printed.
///
/// # Errors
/// cargo cannot be started.
pub fn run(mut command: Command) -> Result<Run> {
    let mut child = command
        .args(["--format", "pretty"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be started")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut lines = Vec::new();
    for line in BufReader::new(stdout).split(b'\n') {
        lines.push(String::from_utf8_lossy(&line?).into_owned());
    }
    let succeeded = child.wait()?.success();
    if !succeeded {
        lines.iter().for_each(|line| put(&format!("    {line}\n")));
    }
    Ok(Run { records: records_of(&lines, succeeded), lines })
}

/// The records of a run of cargo; one that failed without a failing test has a record of its own.
fn records_of(lines: &[String], succeeded: bool) -> Vec<Record> {
    let mut records = parse(lines);
    let miscount = miscount(lines, records.len());
    let failed = records.iter().any(|record| record.status.is_failure());
    if !succeeded && !failed {
        records.push(record("cargo-test", Status::NoVerdict("cargo test failed".into())));
    }
    records.extend(miscount.map(|why| record("count", Status::NoVerdict(why))));
    records
}

/// The results in the output of Rust's test harness.
fn parse(lines: &[String]) -> Vec<Record> {
    lines
        .iter()
        .filter_map(|line| {
            let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
            let status = match result {
                "ok" => Status::Passed,
                "ignored" => Status::Skipped("ignored".into()),
                _ if result.starts_with("FAILED") => Status::Failed("see the output above".into()),
                _ => return None,
            };
            Some(record(name.trim_end_matches(" - should panic"), status))
        })
        .collect()
}

/// Why the results that were read are not those that the test harnesses counted themselves: an
/// output that is read wrongly must not be a run of fewer tests.
fn miscount(lines: &[String], read: usize) -> Option<String> {
    let counted: usize = lines
        .iter()
        .filter_map(|line| line.strip_prefix("test result: ")?.split_once(". "))
        .flat_map(|(_, counts)| counts.split("; ").take(3))
        .filter_map(|count| count.split(' ').next()?.parse::<usize>().ok())
        .sum();
    if counted == 0 {
        return Some("cargo test ran no test".into());
    }
    (counted != read).then(|| format!("cargo test counts {counted} tests, {read} were read"))
}

fn record(name: &str, status: Status) -> Record {
    Record::new("host", name.split("::").next().unwrap_or("host"), name, status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_line_of_the_test_harness_is_counted() {
        let lines = [
            "running 4 tests",
            "test a::works ... ok",
            "test b::breaks ... FAILED",
            "test c::later ... ignored",
            "test d::dies - should panic ... ok",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out",
        ]
        .map(String::from);
        assert_eq!(miscount(&lines, 4), None);
        assert!(miscount(&lines, 3).is_some(), "a result that was not read");
        assert!(miscount(&lines[..5], 0).is_some(), "no test at all");
        let records = parse(&lines);
        let names: Vec<_> = records.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["a::works", "b::breaks", "c::later", "d::dies"]);
        assert!(records[1].status.is_failure());
        assert_eq!(records[2].status, Status::Skipped("ignored".into()));
    }

    #[test]
    fn a_cargo_that_fails_without_a_failing_test_is_no_verdict() {
        let passed = ["test a::works ... ok", "test result: ok. 1 passed; 0 failed; 0 ignored"]
            .map(String::from);
        assert_eq!(records_of(&passed, true).len(), 1);
        let records = records_of(&passed, false);
        assert_eq!(records.last().unwrap().status, Status::NoVerdict("cargo test failed".into()));
        let failed =
            ["test a::works ... FAILED", "test result: FAILED. 0 passed; 1 failed; 0 ignored"];
        assert_eq!(records_of(&failed.map(String::from), false).len(), 1);
    }
}
