//! The campaign of random programs: a guest loads and runs thousands of images, and must come through
//! it with nothing missing.

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

/// Name of the guest's item.
const ITEM: &str = "fuzz";
/// The seed where none is given.
const SEED: u64 = 1;
/// How long the guest may be silent: it tells of every 2048 images.
const SILENCE: Duration = Duration::from_secs(90);

/// One campaign.
struct Campaign {
    name: &'static str,
    /// Whether all CPUs are in one thread of QEMU's.
    single: bool,
    variant: &'static str,
    /// Images of a run, and of a long one.
    some: u64,
    many: u64,
    /// What the guest must complain of; empty: nothing.
    says: &'static str,
}

const CAMPAIGNS: [Campaign; 4] = [
    Campaign {
        name: "random-programs-harm-nobody",
        single: true,
        variant: "default",
        some: 4_000,
        many: 100_000,
        says: "",
    },
    Campaign {
        name: "random-programs-harm-nobody-in-threads",
        single: false,
        variant: "default",
        some: 1_000,
        many: 20_000,
        says: "",
    },
    Campaign {
        name: "random-programs-harm-nobody@leaks",
        single: true,
        variant: "leaks",
        some: 200,
        many: 200,
        says: " leaked",
    },
    Campaign {
        name: "random-programs-harm-nobody@miscounts",
        single: true,
        variant: "miscounts",
        some: 200,
        many: 200,
        says: " pages are left",
    },
];

/// A job for each campaign.
pub fn jobs<'a>(
    qemu: &'a Qemu,
    kernel: &'a Kernel,
    items: &'a [Item],
    seed: Option<u64>,
    long: bool,
) -> Vec<Job<'a>> {
    let job = |campaign: &'static Campaign| {
        Job::single(format!("harness/fuzz/{}", campaign.name), move || {
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
            items: crate::items::select(items, &[ITEM.to_string()])?,
            variant: self.variant,
            words: vec![format!("seed={seed}"), format!("count={count}")],
            qemu_args: Vec::new(),
            deadline: Deadline { unlimited: true, ..Deadline::fixed(SILENCE) },
            log: format!("harness-{}", self.name),
        };
        let mut told = Vec::new();
        let Booted { outcome, finished, log, .. } = boot.run(|line, _| {
            let line = line.trim_start().trim_start_matches("# ");
            // Where to begin the search, what is wrong, and the sums at the end.
            if line.starts_with("fuzz: ") || line.starts_with("FAIL: ") {
                told.push(line.to_string());
            }
            Next::More
        })?;
        let why = match outcome.exit {
            Exit::Passed => String::new(),
            _ => told.iter().rev().find(|line| line.starts_with("FAIL: ")).map_or_else(
                || format!("{}; last: {}", outcome.why, told.last().map_or("nothing", |l| l)),
                Clone::clone,
            ),
        };
        let all = told.iter().any(|line| line.starts_with(&format!("fuzz: {count} images, ")));
        let status = match (self.says, outcome.exit) {
            ("", Exit::Passed) if all => Status::Passed,
            ("", Exit::Passed) => Status::Failed(format!("it did not tell of {count} images")),
            (says, exit) if !says.is_empty() && exit != Exit::Passed && why.contains(says) => {
                Status::Passed
            }
            ("", _) => Status::Failed(why.clone()),
            (says, _) => Status::Failed(format!("nothing says \"{says}\": {why}")),
        };
        let mut output = vec![format!("seed {seed}, {count} images")];
        output.extend(told.pop());
        Ok(Record {
            wall: finished.wall,
            output,
            log: Some(log.display().to_string()),
            ..Record::new("harness", "fuzz", self.name, status)
        })
    }
}
