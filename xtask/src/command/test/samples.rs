//! The litmus tests on the machine, in earnest: a guest takes thousands of samples of each, sees nothing
//! that the model forbids, and sees of what it allows all that QEMU can show.

use std::time::Duration;

use anyhow::{Context, Result};
use ktap::item::Item;

use super::Job;
use crate::cli::Matrix;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::run::{Boot, Booted, Kernel};

/// Suite of the guest's items.
const SUITE: &str = "litmus";
/// The seed where none is given.
const SEED: u64 = 1;
/// How long the guest may be silent: it tells of every test.
const SILENCE: Duration = Duration::from_secs(120);

/// Tests whose outcome is allowed and comes, where the CPUs take turns in one thread of QEMU's, among
/// the samples of an ordinary run: what needs a stale translation, or another CPU in the middle.
const SHOWN: [&str; 15] = [
    "C2-ldr-double-clear",
    "D1-hd-dirty-lost",
    "H3-handler-spurious",
    "I10-bbm-then-cas-refault",
    "I11-ldr-str-clear",
    "I2-str-over-cas",
    "I3-check-then-str",
    "I6-bbm-no-tlbi",
    "L5-local-unmap-access",
    "R10-free-list-notlbi",
    "R2-free-notlbi-read",
    "R5-free-local-tlbi",
    "R8-free-notlbi-write",
    "T1-clear-refault-window",
    "T2-realloc-before-tlbi",
];

/// One run.
struct Campaign {
    name: &'static str,
    /// Whether all CPUs are in one thread of QEMU's.
    single: bool,
    /// Samples of each test in a run, and in a long one.
    some: u64,
    many: u64,
    /// What must have been seen.
    shown: &'static [&'static str],
}

const CAMPAIGNS: [Campaign; 2] = [
    Campaign {
        name: "no-sample-shows-what-the-model-forbids",
        single: true,
        some: 5_000,
        many: 100_000,
        shown: &SHOWN,
    },
    // On two host cores a sample takes a millisecond, and what comes depends on their load.
    Campaign {
        name: "no-sample-shows-what-the-model-forbids-in-threads",
        single: false,
        some: 100,
        many: 3_000,
        shown: &[],
    },
];

/// What the guest says of one test.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Counted {
    name: String,
    seen: u64,
    samples: u64,
}

/// A job for each run.
pub fn jobs<'a>(
    qemu: &'a Qemu,
    kernel: &'a Kernel,
    items: &'a [Item],
    seed: Option<u64>,
    long: bool,
) -> Vec<Job<'a>> {
    let job = |campaign: &'static Campaign| {
        Job::single(format!("harness/litmus/{}", campaign.name), move || {
            let count = if long { campaign.many } else { campaign.some };
            campaign.run(qemu, kernel, items, seed.unwrap_or(SEED), count)
        })
    };
    CAMPAIGNS.iter().map(job).collect()
}

impl Campaign {
    fn run(
        &self,
        qemu: &Qemu,
        kernel: &Kernel,
        items: &[Item],
        seed: u64,
        count: u64,
    ) -> Result<Record> {
        let four = Machine::matrix(Matrix::Quick).into_iter().find(|machine| machine.smp >= 4);
        let machine = four.context("no machine of the quick matrix has four CPUs")?;
        let boot = Boot {
            qemu,
            machine: &Machine { single: self.single, ..machine },
            kernel,
            items: items.iter().filter(|item| item.suite == SUITE).collect(),
            variant: "default",
            words: vec![format!("seed={seed}"), format!("count={count}")],
            qemu_args: Vec::new(),
            deadline: Deadline { unlimited: true, ..Deadline::fixed(SILENCE) },
            log: format!("harness-{}", self.name),
        };
        let mut counted = Vec::new();
        let Booted { outcome, finished, log, .. } = boot.run(|line, _| {
            counted.extend(Counted::of_line(line));
            Next::More
        })?;
        // The guest's own controls stop at the first outcome that they seek.
        counted.retain(|test| test.samples >= count);
        let claims = outcome.results.iter().flat_map(|result| &result.output);
        let claim = claims.filter_map(|line| line.strip_prefix("FAIL: ")).next();
        let status = match (outcome.exit, claim) {
            (Exit::Passed, _) => match unseen(&counted, self.shown) {
                None => Status::Passed,
                Some(why) => Status::Failed(why),
            },
            (_, Some(claim)) => Status::Failed(claim.to_string()),
            (_, None) => Status::Failed(outcome.why.clone()),
        };
        let samples: u64 = counted.iter().map(|test| test.samples).sum();
        let seen = counted.iter().filter(|test| test.seen > 0).count();
        let output = format!(
            "seed {seed}, {samples} samples of {} tests, of which {seen} showed their outcome",
            counted.len()
        );
        Ok(Record {
            wall: finished.wall,
            output: vec![output],
            log: Some(log.display().to_string()),
            ..Record::new("harness", "litmus", self.name, status)
        })
    }
}

/// What was to be seen and was not.
fn unseen(counted: &[Counted], shown: &[&str]) -> Option<String> {
    let is_seen = |name| counted.iter().any(|test| test.name == name && test.seen > 0);
    let name = shown.iter().find(|name| !is_seen(**name))?;
    let samples = counted.iter().find(|test| test.name == *name).map_or(0, |test| test.samples);
    Some(format!("{name}: allowed, and not seen in {samples} samples: what hides it?"))
}

impl Counted {
    /// `# litmus: NAME: seen in 3 of 400 samples, ...`.
    fn of_line(line: &str) -> Option<Self> {
        let (name, rest) =
            line.trim_start().strip_prefix("# litmus: ")?.split_once(": seen in ")?;
        let (seen, rest) = rest.split_once(" of ")?;
        let samples = rest.split_once(" samples")?.0.parse().ok()?;
        Some(Self { name: name.into(), seen: seen.parse().ok()?, samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::litmus::expect::{self, Observed};

    #[test]
    fn the_guests_line_is_read() {
        let line =
            "    # litmus: I6-bbm-no-tlbi: seen in 5 of 400 samples, model Sometimes, 3 outcomes";
        let counted = Counted { name: "I6-bbm-no-tlbi".into(), seen: 5, samples: 400 };
        assert_eq!(Counted::of_line(line), Some(counted));
        let other = "    # litmus: D1-hd-dirty-lost: not run: needs more CPUs";
        assert_eq!(Counted::of_line(other), None);
    }

    #[test]
    fn only_what_is_allowed_is_asked_for() {
        let tests = expect::all().unwrap();
        for name in SHOWN {
            let test = tests.iter().find(|test| test.name == name).expect(name);
            assert_eq!(test.verdict.observed, Observed::Sometimes, "{name}");
        }
    }

    #[test]
    fn what_is_hidden_is_told() {
        let counted = |seen| [Counted { name: "a".into(), seen, samples: 9 }];
        assert_eq!(unseen(&counted(1), &["a"]), None);
        let why = "a: allowed, and not seen in 9 samples: what hides it?";
        assert_eq!(unseen(&counted(0), &["a"]).as_deref(), Some(why));
        let why = "b: allowed, and not seen in 0 samples: what hides it?";
        assert_eq!(unseen(&counted(1), &["a", "b"]).as_deref(), Some(why));
    }
}
