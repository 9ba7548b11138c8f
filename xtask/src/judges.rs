//! Outside judges: programs that read TAP and KTAP and have never heard of us. Each log of a run
//! goes to each of them, and a disagreement with our own verdict is a failed test.
//!
//! - `prove`, of Perl: on every Debian.
//! - `kunit.py parse`, of Linux: Debian's `linux-source-6.1` carries it in tools/testing/kunit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cli::Setup;
use crate::install;
use crate::record::{Record, Status};
use crate::run::OUTPUT;
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

/// Has every judge look at every log that `records` name, once each.
///
/// # Errors
/// A judge that is there cannot be started.
pub fn judge(setup: &Setup, records: &[Record]) -> Result<Vec<Record>> {
    let logs = logs(records);
    let mut verdicts = Vec::new();
    for found in [prove(setup), kunit()] {
        match found {
            Found::Here(judge) => {
                for (log, green) in &logs {
                    verdicts.push(judge.record(log, *green)?);
                }
            }
            Found::Missing(name, why) => {
                verdicts.push(record(name, "all logs", Status::Skipped(why), None));
            }
        }
    }
    Ok(verdicts)
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
        let name = Path::new(log).file_stem().unwrap_or_default().to_string_lossy();
        let mut record = record(self.name, &name, status, Some(log));
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
    let folder = Path::new(OUTPUT).join("kunit");
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

fn record(judge: &str, log: &str, status: Status, path: Option<&str>) -> Record {
    Record {
        machine: "judge".into(),
        suite: judge.into(),
        name: log.into(),
        status,
        wall: std::time::Duration::ZERO,
        output: Vec::new(),
        log: path.map(String::from),
        green: None,
    }
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
            let mut one = record("x", "y", Status::Passed, log);
            one.green = green;
            one
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
