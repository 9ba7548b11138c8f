//! What the whole run came to, test by test: the one source of the terminal's lines, KTAP, JUnit
//! and JSON.

use std::time::Duration;

use serde::Serialize;

use crate::exit::Exit;
use crate::run::Times;

/// One test on one machine.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The machine, or `host`, or `harness`.
    pub machine: String,
    /// The suite.
    pub suite: String,
    /// The test, `@variant` behind it if it ran under one.
    pub name: String,
    /// What it came to.
    pub status: Status,
    /// Time, as far as it is known by test.
    pub wall: Duration,
    /// What it printed, and what the harness has to add.
    pub output: Vec<String>,
    /// The raw serial log.
    pub log: Option<String>,
    /// Whether that log, as a whole, is one of success: complete, and nothing in it failed. `None`
    /// where the log is not of a boot that was to run to its end.
    #[serde(skip)]
    pub green: Option<bool>,
    /// Which repetition of the run, from 1.
    pub round: u32,
    /// When the parts of its boot's log came.
    #[serde(skip)]
    pub times: Times,
}

/// What one test came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status", content = "why")]
pub enum Status {
    /// It did what it must.
    Passed,
    /// It did not.
    Failed(String),
    /// The guest crashed under it.
    Crashed(String),
    /// The guest hung under it.
    Hung(String),
    /// Its log cannot be believed.
    NoVerdict(String),
    /// The machine cannot run it.
    Skipped(String),
    /// It never started.
    NotRun(String),
}

impl Record {
    /// A record with nothing in it but its name and what the test came to.
    pub fn new(machine: &str, suite: &str, name: &str, status: Status) -> Self {
        Self {
            machine: machine.into(),
            suite: suite.into(),
            name: name.into(),
            status,
            wall: Duration::ZERO,
            output: Vec::new(),
            log: None,
            green: None,
            round: 1,
            times: Times::default(),
        }
    }

    /// The name that filters match: `machine/suite/test`.
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.machine, self.suite, self.name)
    }
}

impl Status {
    /// The exit code that this asks for; `None` for what asks for nothing.
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::Passed => Some(Exit::Passed),
            Self::Failed(_) => Some(Exit::Failed),
            Self::Crashed(_) => Some(Exit::Crashed),
            Self::Hung(_) => Some(Exit::Hung),
            Self::NoVerdict(_) | Self::NotRun(_) => Some(Exit::NoVerdict),
            Self::Skipped(_) => None,
        }
    }

    /// Why, where there is a why.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed(why)
            | Self::Crashed(why)
            | Self::Hung(why)
            | Self::NoVerdict(why)
            | Self::Skipped(why)
            | Self::NotRun(why) => Some(why),
        }
    }

    /// Whether it counts as a failure.
    pub fn is_failure(&self) -> bool {
        self.exit().is_some_and(|exit| exit != Exit::Passed)
    }
}

/// Counts of a run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Tests that did what they must.
    pub passed: usize,
    /// Tests that did not, whatever the reason.
    pub failed: usize,
    /// Tests that the machine cannot run.
    pub skipped: usize,
}

impl Totals {
    /// Counts `records`.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        records.into_iter().fold(Self::default(), |mut totals, record| {
            match record.status {
                Status::Passed => totals.passed += 1,
                Status::Skipped(_) => totals.skipped += 1,
                _ => totals.failed += 1,
            }
            totals
        })
    }
}

/// The exit code of a run: the highest that any test asks for. A run in which nothing ran, or
/// everything was skipped, has no verdict.
pub fn exit_of(records: &[Record]) -> Exit {
    records.iter().filter_map(|record| record.status.exit()).max().unwrap_or(Exit::NoVerdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: Status) -> Record {
        Record::new("m", "s", "n", status)
    }

    #[test]
    fn the_highest_code_wins() {
        let why = || "why".to_string();
        let mut records = vec![record(Status::Passed)];
        assert_eq!(exit_of(&records), Exit::Passed);
        for (status, exit) in [
            (Status::Failed(why()), Exit::Failed),
            (Status::Crashed(why()), Exit::Crashed),
            (Status::Hung(why()), Exit::Hung),
            (Status::NotRun(why()), Exit::NoVerdict),
        ] {
            records.push(record(status));
            assert_eq!(exit_of(&records), exit);
        }
    }

    #[test]
    fn every_test_is_counted_once_and_what_did_not_run_as_failed() {
        let why = || "why".to_string();
        let records = [
            Status::Passed,
            Status::Skipped(why()),
            Status::Failed(why()),
            Status::Crashed(why()),
            Status::Hung(why()),
            Status::NoVerdict(why()),
            Status::NotRun(why()),
        ]
        .map(record);
        let totals = Totals::of(&records);
        assert_eq!(totals, Totals { passed: 1, failed: 5, skipped: 1 });
        let failures = records.iter().filter(|record| record.status.is_failure()).count();
        assert_eq!(failures, 5);
    }

    #[test]
    fn a_run_of_nothing_or_of_skips_is_not_green() {
        assert_eq!(exit_of(&[]), Exit::NoVerdict);
        assert_eq!(exit_of(&[record(Status::Skipped("no".into()))]), Exit::NoVerdict);
    }
}
