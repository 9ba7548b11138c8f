//! Every guest test as a test of its own, each in a boot of its own, for `cargo test` and nextest.
//!
//! The list and each verdict are those of `cargo xtask test`; cargo's no-op build in each of them
//! is what keeps a stale kernel from being tested.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::process::{Command, ExitCode, Output};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match list() {
        Ok(paths) => libtest_mimic::run(&arguments, trials(&paths)).exit_code(),
        Err(why) => {
            eprintln!("error: guest tests cannot be listed: {why}");
            ExitCode::FAILURE
        }
    }
}

fn trials(paths: &[String]) -> Vec<Trial> {
    let trial = |path: &String| {
        let tested = path.clone();
        Trial::ignorable_test(path.as_str(), move || run(&tested))
    };
    paths.iter().map(trial).collect()
}

/// The paths of all guest tests: each once, or a partition would not be a share of them.
fn list() -> Result<Vec<String>, String> {
    let output = xtask(&["--list", "--label", "guest"])?;
    if !output.status.success() {
        return Err(last_line(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let paths: Vec<_> = text.lines().map(String::from).collect();
    let mut seen = HashSet::new();
    for path in &paths {
        if path.split('/').count() != 3 || path.contains(' ') || !seen.insert(path) {
            return Err(format!("not the path of one test: {path}"));
        }
    }
    if paths.is_empty() { Err("the list is empty".into()) } else { Ok(paths) }
}

fn run(path: &str) -> Result<Completion, Failed> {
    let output = xtask(&["--exact", path])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let skip = format!("skip {path}: ");
    match output.status.code() {
        Some(0) => Ok(Completion::Completed),
        // No verdict is what a run of skips has.
        Some(5) if text.lines().any(|line| line.starts_with(&skip)) => {
            let why = text.lines().find_map(|line| line.strip_prefix(&skip));
            Ok(Completion::ignored_with(why.unwrap_or_default()))
        }
        _ => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn xtask(arguments: &[&str]) -> Result<Output, String> {
    let matrix = std::env::var("FAULTLINE_MATRIX").unwrap_or_else(|_| "quick".into());
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["test", "--matrix", &matrix])
        .args(arguments)
        // The report is that of a whole run; a single test must not take its place.
        .env("FAULTLINE_REPORT", "none")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("xtask cannot be started: {error}"))
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().last().unwrap_or("no reason given").into()
}
