//! The run's lines: KTAP by crate `ktap`, each sent whole by the log.

use core::fmt::Arguments;

use ktap::write;

use crate::log;

pub use ktap::write::Verdict;

/// The header and the plan.
pub fn open(suites: usize) {
    write::open(&mut log::line, suites);
}

/// The header of a suite of `items` items.
pub fn begin_suite(name: &str, items: usize) {
    write::begin_suite(&mut log::line, name, items);
}

/// A diagnostic inside a suite.
pub fn diagnostic(line: Arguments<'_>) {
    write::diagnostic(&mut log::line, line);
}

/// Why an item failed; a line each.
pub fn failure(text: &str) {
    for line in text.lines() {
        diagnostic(format_args!("FAIL: {line}"));
    }
}

/// The result of an item.
pub fn result(number: usize, name: &str, verdict: Verdict<'_>) {
    write::result(&mut log::line, number, name, verdict);
}

/// The result of a suite.
pub fn suite_result(number: usize, name: &str, passed: bool) {
    write::suite_result(&mut log::line, number, name, passed);
}
