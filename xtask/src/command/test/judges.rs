//! Outside judges: programs that read TAP and KTAP and have never heard of us. Each log of a run
//! goes to each of them, and a disagreement with our own verdict is a failed test.
//!
//! - `prove`, of Perl: on every Debian.
//! - `kunit.py parse`, of Linux: Debian's `linux-source-6.1` carries it in tools/testing/kunit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Job;
use crate::cli::Setup;
use crate::install;
use crate::record::{Record, Status};
use crate::run::output_folder;
use crate::toolchain::output;

const KUNIT_TARBALL: &str = "/usr/src/linux-source-6.1.tar.xz";
const KUNIT: &str = "tools/testing/kunit/kunit.py";

/// A program that gives a verdict on a log by its exit code.
struct Judge {
    name: &'static str,
    program: &'static str,
    arguments: Vec<String>,
}

/// What became of looking for a judge.
enum Found {
    Here(Judge),
    Missing(&'static str, String),
}

/// A job for each judge and each log that `records` name.
pub fn jobs<'a>(setup: &Setup, records: &[Record]) -> Vec<Job<'a>> {
    let logs = logs(records);
    let mut jobs = Vec::new();
    for found in [prove(setup), kunit()] {
        match found {
            Found::Here(judge) => {
                let judge = Arc::new(judge);
                jobs.extend(logs.iter().map(|&(log, green)| {
                    let (judge, log) = (Arc::clone(&judge), log.to_string());
                    let path = format!("judge/{}/{}", judge.name, stem(&log));
                    Job::single(path, move || judge.record(&log, green))
                }));
            }
            Found::Missing(name, why) => {
                let path = format!("judge/{name}/all logs");
                let skipped = Status::Skipped(why);
                let record = Record::new("judge", name, "all logs", skipped);
                jobs.push(Job::single(path, move || Ok(record.clone())));
            }
        }
    }
    jobs
}

/// Every log of whole boots, with our own verdict on it.
fn logs(records: &[Record]) -> Vec<(&str, bool)> {
    let mut logs: Vec<(&str, bool)> = Vec::new();
    for record in records {
        if let (Some(log), Some(green)) = (&record.log, record.green)
            && logs.iter().all(|(known, _)| known != log)
        {
            logs.push((log, green));
        }
    }
    logs
}

impl Judge {
    fn record(&self, log: &str, green: bool) -> Result<Record> {
        let started = Instant::now();
        // Absolute: kunit.py changes its folder before it opens the file.
        let path = std::path::absolute(log)?;
        let output = Command::new(self.program)
            .args(&self.arguments)
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} cannot be started", self.program))?;
        let status = compare(green, output.status.success());
        let mut record = Record::new("judge", self.name, &stem(log), status);
        record.log = Some(log.into());
        record.wall = started.elapsed();
        record.output = String::from_utf8_lossy(&output.stdout).lines().map(String::from).collect();
        Ok(record)
    }
}

/// Agreement passes, whichever way.
fn compare(ours: bool, theirs: bool) -> Status {
    let word = |green| if green { "passed" } else { "failed" };
    if ours == theirs {
        return Status::Passed;
    }
    Status::Failed(format!("it says {}, we say {}", word(theirs), word(ours)))
}

fn prove(setup: &Setup) -> Found {
    let there = || output("prove", &["--version"]).is_some();
    if !there() {
        let outcome = install::packages(setup, &["perl"], "have prove judge the logs");
        if let Err(missing) = outcome {
            return Found::Missing("prove", format!("{missing:#}"));
        }
    }
    // The log is the test's output: `cat` is the interpreter that runs it.
    let arguments = ["--quiet", "--exec", "cat"].map(String::from).into();
    Found::Here(Judge { name: "prove", program: "prove", arguments })
}

fn kunit() -> Found {
    let missing = |why: String| Found::Missing("kunit", why);
    if !Path::new(KUNIT_TARBALL).exists() {
        return missing("Debian's linux-source-6.1 is not installed".into());
    }
    if output("python3", &["--version"]).is_none() {
        return missing("python3 is not installed".into());
    }
    match unpack_kunit() {
        Ok(script) => Found::Here(Judge {
            name: "kunit",
            program: "python3",
            arguments: vec![script.display().to_string(), "parse".into()],
        }),
        Err(error) => missing(format!("{error:#}")),
    }
}

/// Takes the few files of kunit.py out of the kernel's tarball, once.
fn unpack_kunit() -> Result<PathBuf> {
    let folder = output_folder().join("kunit");
    let script = folder.join(KUNIT);
    if script.exists() {
        return Ok(script);
    }
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let status = Command::new("tar")
        .args(["--extract", "--file", KUNIT_TARBALL, "--strip-components=1", "--directory"])
        .arg(&folder)
        .args(["linux-source-6.1/tools/testing/kunit"])
        .stdin(Stdio::null())
        .status()
        .context("tar cannot be started")?;
    anyhow::ensure!(status.success() && script.exists(), "{KUNIT_TARBALL} holds no kunit.py");
    Ok(script)
}

/// The name of a log: its file's, without the ending.
fn stem(log: &str) -> String {
    Path::new(log).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disagreement_is_a_failure_either_way() {
        assert_eq!(compare(true, true), Status::Passed);
        assert_eq!(compare(false, false), Status::Passed);
        assert!(compare(true, false).is_failure());
        assert!(compare(false, true).is_failure());
    }

    #[test]
    fn each_log_is_judged_once_and_only_those_of_whole_boots() {
        let with = |log: Option<&str>, green| {
            let log = log.map(String::from);
            Record { log, green, ..Record::new("m", "s", "n", Status::Passed) }
        };
        let records = [
            with(Some("a"), Some(true)),
            with(Some("a"), Some(true)),
            with(Some("b"), Some(false)),
            with(Some("c"), None),
            with(None, Some(true)),
        ];
        assert_eq!(logs(&records), [("a", true), ("b", false)]);
    }
}
