//! The host crates under Miri, which sees undefined behaviour in what they and their dependencies do.
//! No stable toolchain has it: where there is none, that is said, and nothing is called passed.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::record::{Record, Status};
use crate::report::put;
use crate::toolchain;

/// The test.
pub const NAME: &str = "miri";

/// Crates whose code the kernel or a person's input reaches.
const CRATES: &[&str] = &["arena", "bpf", "explore", "ktap", "mix", "outside", "tree"];

/// Runs their tests under the active toolchain's Miri.
///
/// # Errors
/// cargo cannot be started.
pub fn record() -> Result<Record> {
    let status = match toolchain::output("cargo", &["miri", "--version"]) {
        None => Status::Skipped("the active toolchain has no `cargo miri`".into()),
        Some(version) => {
            put(&format!("host: cargo test under {version}\n"));
            run()?
        }
    };
    if let Status::Skipped(why) = &status {
        put(&format!("{NAME}: skipped: {why}\n"));
    }
    Ok(Record::new("host", NAME, NAME, status))
}

fn run() -> Result<Status> {
    let output = Command::new("cargo")
        .args(["miri", "test", "--lib", "--target-dir", "target/miri"])
        .args(CRATES.iter().flat_map(|name| ["--package", name]))
        // Tests that read files; and it is hundreds of times slower.
        .envs([("MIRIFLAGS", "-Zmiri-disable-isolation"), ("PROPTEST_CASES", "2")])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let status = verdict(output.status.success(), &said);
    if status.is_failure() {
        put(&said);
    }
    Ok(status)
}

/// A run in which no test passed has no verdict, however it ended.
fn verdict(succeeded: bool, said: &str) -> Status {
    let passed = |line: &str| {
        line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok()
    };
    match said.lines().filter_map(passed).sum::<usize>() {
        _ if !succeeded => Status::Failed("see the output above".into()),
        0 => Status::NoVerdict("no test ran under Miri".into()),
        _ => Status::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_ran_are_a_pass() {
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored";
        let some = "test result: ok. 12 passed; 0 failed; 1 ignored";
        assert_eq!(verdict(true, &format!("{none}\n{some}\n")), Status::Passed);
        for said in ["", none, "miri 0.1.0"] {
            assert!(matches!(verdict(true, said), Status::NoVerdict(_)), "{said}");
        }
        assert!(matches!(verdict(false, some), Status::Failed(_)));
    }
}
