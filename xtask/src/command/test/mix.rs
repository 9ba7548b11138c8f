//! The random mix: a guest does operations on real arenas on four CPUs, and the host does the same
//! on a model and compares.

mod told;

use std::time::Duration;

use anyhow::{Context, Result};
use ktap::item::Item;
use mix::Batch;

use super::Job;
use crate::cli::Matrix;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::run::{Boot, Booted, Kernel};

use told::{Asked, Finding, Told};

/// Name of the guest's item.
const ITEM: &str = "mix";
/// Name of the test that must find no difference. In one thread of QEMU's the CPUs take turns: at each
/// TLBI, wait and interrupt, which is often in the middle of something.
const AGREES: &str = "the-arena-does-what-the-model-says";
/// Operations of a run, and of a long one.
const SOME: u64 = 100_000;
const MANY: u64 = 1_000_000;
/// The same with a thread for each CPU, all at once as far as the host has cores. Where it has fewer,
/// the lock goes to CPUs that do not run, and everything takes a hundred times as long.
const IN_THREADS: &str = "the-arena-does-what-the-model-says-in-threads";
const SOME_IN_THREADS: u64 = 4_000;
const MANY_IN_THREADS: u64 = 40_000;
/// Operations among which a broken variant must be noticed.
const FEW: u64 = 10_000;
/// How often a batch that differed is run again until it differs in full: the other CPUs go on
/// otherwise each time.
const AGAIN: usize = 3;
/// The seed where none is given.
const SEED: u64 = 1;
/// How long the guest may be silent: a batch takes a fraction of a second on an idle machine.
const SILENCE: Duration = Duration::from_secs(60);

/// Variants of the protocol that the mix must notice, and what it must say of them.
const NOTICED: &[(&str, &str)] = &[
    ("no-tlbi-free", "the model says empty -> scratch"),
    ("frees-twice", " frames"),
    ("maps-freed", "the arena refused: must not happen"),
    ("miscounts", " pages counted, "),
    ("leaks", " leaked"),
];

/// What all runs share.
#[derive(Clone, Copy)]
struct Bed<'a> {
    qemu: &'a Qemu,
    kernel: &'a Kernel,
    items: &'a [Item],
    /// Whether all CPUs are in one thread of QEMU's.
    single: bool,
}

/// Two jobs for the sound arena, and one for each variant that must be noticed.
pub fn jobs<'a>(
    qemu: &'a Qemu,
    kernel: &'a Kernel,
    items: &'a [Item],
    seed: Option<u64>,
    long: bool,
) -> Vec<Job<'a>> {
    let bed = Bed { qemu, kernel, items, single: true };
    let agrees = [
        (AGREES, true, if long { MANY } else { SOME }),
        (IN_THREADS, false, if long { MANY_IN_THREADS } else { SOME_IN_THREADS }),
    ]
    .map(|(name, single, count)| {
        let asked = Asked { seed: seed.unwrap_or(SEED), count };
        Job::single(format!("harness/mix/{name}"), move || {
            let run = Bed { single, ..bed }.run(asked, "default")?;
            let status = match &run.finding {
                Finding::Agreed(_) if run.booted.outcome.exit == Exit::Passed => Status::Passed,
                _ => Status::Failed(run.why()),
            };
            Ok(run.record(name, status))
        })
    });
    let noticed = NOTICED.iter().map(move |&(variant, says)| {
        let name = format!("{AGREES}@{variant}");
        Job::single(format!("harness/mix/{name}"), move || {
            let asked = Asked { seed: SEED, count: FEW };
            let run = bed.run(asked, variant)?;
            let why = run.why();
            let status = if why.contains(says) {
                Status::Passed
            } else {
                Status::Failed(format!("nothing says \"{says}\": {why}"))
            };
            let mut record = run.record(&name, status);
            record.output.push(why);
            Ok(record)
        })
    });
    agrees.into_iter().chain(noticed).collect()
}

/// A run and what came of it.
struct Run {
    asked: Asked,
    booted: Booted,
    finding: Finding,
}

impl Bed<'_> {
    /// Runs the mix and compares; what differs is run again for the first reply that does.
    fn run(&self, asked: Asked, variant: &str) -> Result<Run> {
        let (booted, told) = self.boot(asked, variant, None)?;
        let finding = match told.map(|told| told.compare(asked)) {
            Ok(Finding::Differs(batch)) => self.again(asked, variant, batch)?,
            Ok(finding) => finding,
            Err(error) => Finding::Wrong(format!("{error:#}")),
        };
        Ok(Run { asked, booted, finding })
    }

    /// A batch that differs, in full, until it differs again.
    fn again(&self, asked: Asked, variant: &str, batch: Batch) -> Result<Finding> {
        for _ in 0..AGAIN {
            let told = self.boot(asked, variant, Some(batch))?.1?;
            if let Some(found) = told.first_difference(asked, batch) {
                return Ok(Finding::Wrong(found));
            }
        }
        let why = format!("batch {batch} was not the model's, and was {AGAIN} times afterwards");
        Ok(Finding::Wrong(why))
    }

    fn boot(
        &self,
        asked: Asked,
        variant: &str,
        full: Option<Batch>,
    ) -> Result<(Booted, Result<Told>)> {
        let mut words = vec![format!("seed={}", asked.seed), format!("count={}", asked.count)];
        words.extend(full.map(|batch| format!("mix={batch}")));
        let four = Machine::matrix(Matrix::Quick).into_iter().find(|machine| machine.smp >= 4);
        let machine = four.context("no machine of the quick matrix has four CPUs")?;
        let threads = if self.single { "" } else { "-in-threads" };
        let again = if full.is_some() { "-in-full" } else { "" };
        let boot = Boot {
            qemu: self.qemu,
            machine: &Machine { single: self.single, ..machine },
            kernel: self.kernel,
            items: crate::items::select(self.items, &[ITEM.to_string()])?,
            variant,
            words,
            qemu_args: Vec::new(),
            deadline: Deadline { unlimited: true, ..Deadline::fixed(SILENCE) },
            log: format!("harness-mix-{variant}{threads}{again}"),
        };
        let end = full.map(|batch| {
            let Batch { phase, cpu, number } = batch;
            format!("{phase} {cpu} batch {number}:")
        });
        let mut told = Ok(Told::default());
        let mut through = false;
        let booted = boot.run(|line, _| {
            // What comes of a guest that is killed may end in the middle of a line.
            let told_line = line.trim_start().strip_prefix("# mix: ").filter(|_| !through);
            let Some(line) = told_line else { return Next::More };
            if let Ok(so_far) = &mut told
                && let Err(error) = so_far.line(line)
            {
                told = Err(error.context(format!("the guest said: {line}")));
            }
            // The batch that was wanted is told: there is nothing more to learn.
            through = end.as_ref().is_some_and(|end| line.starts_with(end));
            if through { Next::Kill } else { Next::More }
        })?;
        Ok((booted, told))
    }
}

impl Run {
    /// What is wrong: what the model says, and what the guest does.
    fn why(&self) -> String {
        let outcome = &self.booted.outcome;
        let claims = outcome.results.iter().flat_map(|result| &result.output);
        let claim = claims.filter_map(|line| line.strip_prefix("FAIL: ")).next();
        let found = match &self.finding {
            Finding::Wrong(why) => why.clone(),
            Finding::Agreed(_) => "the model agrees".into(),
            Finding::Differs(batch) => format!("batch {batch} differs"),
        };
        match (claim, outcome.exit) {
            (Some(claim), _) => format!("{found}; and the guest: {claim}"),
            (None, Exit::Passed) => found,
            (None, _) => format!("{found}; and the guest: {}", outcome.why),
        }
    }

    fn record(self, name: &str, status: Status) -> Record {
        let mut output = vec![format!("seed {}, {} operations", self.asked.seed, self.asked.count)];
        if let Finding::Agreed(what) = &self.finding {
            output.push(what.clone());
        }
        Record {
            wall: self.booted.finished.wall,
            output,
            log: Some(self.booted.log.display().to_string()),
            ..Record::new("harness", "mix", name, status)
        }
    }
}
