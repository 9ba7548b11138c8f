//! `cargo xtask proof`: the protocols under loom, which follows every execution, and under shuttle, which
//! follows random ones.

mod table;

use std::process::Command;

use anyhow::{Result, bail};

use crate::cli::Proof as Options;
use crate::exit::Exit;
use crate::libtest;
use crate::record::{Record, Status, Totals, exit_of};
use crate::report::{closing_line, put};

/// A model checker that the crate `proof` can be built for.
struct Checker {
    name: &'static str,
    /// What a record's name begins with if it is one of this checker's.
    prefix: &'static str,
    /// How to build for its atomics.
    flags: &'static str,
    /// Builds for its atomics: a folder of their own, or each would undo the others.
    folder: &'static str,
    /// What bounds it, and how far a long run goes.
    bound: (&'static str, &'static str),
}

const CHECKERS: [Checker; 2] = [
    Checker {
        name: "loom",
        prefix: "loom::",
        flags: "--cfg loom",
        folder: "target/loom",
        bound: ("FAULTLINE_LOOM_BOUND", "5"),
    },
    Checker {
        name: "shuttle",
        prefix: "shuttle::",
        flags: "--cfg shuttle",
        folder: "target/shuttle",
        bound: ("FAULTLINE_SHUTTLE_SCHEDULES", "100000"),
    },
];

/// Which tests are wanted.
pub enum Wanted<'a> {
    /// Those with these names, a checker's prefix in front; all if there are none.
    Exactly(&'a [&'a str]),
    /// Those whose names contain this.
    Containing(&'a str),
}

/// Runs the command.
///
/// # Errors
/// cargo cannot be started, a bound in the environment is no number, or the filter is one of nothing.
pub fn run(options: &Options) -> Result<Exit> {
    let filter = options.filter.as_deref().unwrap_or_default();
    let records = records(&Wanted::Containing(filter), options.long)?;
    if records.is_empty() {
        bail!("no proof's name contains {filter}; without a filter all are run");
    }
    for record in &records {
        if let Status::Failed(why) | Status::NoVerdict(why) = &record.status {
            put(&format!("FAIL {}: {why}\n", record.path()));
        }
    }
    put(&format!("{}\n", closing_line(Totals::of(&records))));
    Ok(exit_of(&records))
}

/// Whether the host test `name` is one of these.
pub fn is_one(name: &str) -> bool {
    CHECKERS.iter().any(|checker| name.starts_with(checker.prefix))
}

/// Runs the proofs that are wanted, and prints beside each how far it was followed, and in the end what
/// found which bug.
///
/// # Errors
/// cargo cannot be started, or a bound in the environment is no number.
pub fn records(wanted: &Wanted<'_>, long: bool) -> Result<Vec<Record>> {
    for checker in &CHECKERS {
        let (bound, _) = checker.bound;
        check_bound(bound, std::env::var(bound).ok().as_deref())?;
    }
    let (mut records, mut told) = (Vec::new(), Vec::new());
    for checker in &CHECKERS {
        let Some(arguments) = checker.arguments(wanted) else { continue };
        put(&format!("host: cargo test under {}\n", checker.name));
        let mut run = libtest::run(checker.command(&arguments, long))?;
        if run.lines.iter().any(|line| line == "running 0 tests") {
            // A filter may be of one checker's tests only.
            continue;
        }
        let start = format!("{}: ", checker.name);
        let lines = run.lines.into_iter().filter(|line| line.starts_with(&start));
        for line in lines {
            put(&format!("{line}\n"));
            told.push(line);
        }
        for record in &mut run.records {
            let name = format!("{}{}", checker.prefix, record.name);
            *record = Record::new("host", checker.name, &name, record.status.clone());
        }
        records.extend(run.records);
    }
    table::of(&told).iter().for_each(|line| put(&format!("{line}\n")));
    Ok(records)
}

/// Before minutes are spent on builds.
fn check_bound(name: &str, given: Option<&str>) -> Result<()> {
    match given {
        Some(given) if given.parse::<usize>().is_err() => {
            bail!("{name} is a number, not {given:?}")
        }
        _ => Ok(()),
    }
}

impl Checker {
    fn command(&self, arguments: &[&str], long: bool) -> Command {
        let mut command = Command::new("cargo");
        command
            .args(["test", "--package", "proof", "--lib", "--release", "--quiet"])
            .args(["--target-dir", self.folder])
            .env("RUSTFLAGS", self.flags)
            .args(["--", "--show-output"])
            .args(arguments);
        let (bound, far) = self.bound;
        // Whoever bounds it by hand knows why.
        if long && std::env::var_os(bound).is_none() {
            command.env(bound, far);
        }
        command
    }

    /// What selects the tests that are wanted, if any are this checker's.
    fn arguments<'a>(&self, wanted: &Wanted<'a>) -> Option<Vec<&'a str>> {
        match wanted {
            Wanted::Exactly([]) => Some(Vec::new()),
            Wanted::Exactly(names) => {
                let own = names.iter().filter_map(|name| name.strip_prefix(self.prefix));
                let own: Vec<_> = own.collect();
                (!own.is_empty()).then(|| [vec!["--exact"], own].concat())
            }
            Wanted::Containing(filter) => Some(vec![filter]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_number() {
        assert!(check_bound("BOUND", None).is_ok() && check_bound("BOUND", Some("4")).is_ok());
        for given in ["", "four", "-1"] {
            let why = check_bound("BOUND", Some(given)).unwrap_err().to_string();
            assert!(why.starts_with("BOUND is a number"), "{why}");
        }
    }

    #[test]
    fn each_checker_runs_what_is_its_own() {
        let [loom, shuttle] = &CHECKERS;
        let names = ["loom::page::a"];
        assert_eq!(loom.arguments(&Wanted::Exactly(&names)), Some(vec!["--exact", "page::a"]));
        assert_eq!(shuttle.arguments(&Wanted::Exactly(&names)), None);
        assert_eq!(shuttle.arguments(&Wanted::Exactly(&[])), Some(vec![]));
        assert!(is_one(names[0]) && is_one("shuttle::mix::b") && !is_one("slot::test::c"));
    }
}
