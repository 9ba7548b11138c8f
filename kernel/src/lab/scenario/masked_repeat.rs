//! `masked-repeat`: a second wild access to a page that holds scratch already makes no fault, and so
//! no report. That is how scratch works; here it is shown.
//!
//! Actors: A (CPU 0) and B (CPU 1), kernel functions on behalf of a program, each write to the page
//! and read it.
//! Right: each CPU is reported at most once, by its write; of the reads no report says anything, and
//! whoever comes when scratch is there already leaves no trace at all.

use super::stage::{Stage, violations};
use crate::lab::explore;
use crate::lab::race::{self, Race};
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "masked-repeat",
    suite: "scenario",
    about: "a second wild access to a page that holds scratch makes no report",
    min_cpus: 2,
    explored: true,
    run: masked_repeat,
}

struct Actors {
    stage: Stage,
}

impl Race for Actors {
    fn reset(&self) -> Outcome {
        self.stage.clear()
    }

    fn act(&self, cpu: usize) {
        self.stage.wild(|| {
            race::write(self.stage.target, cpu as u64);
            race::read(self.stage.target)
        });
    }

    fn check(&self) -> Outcome {
        let seen = self.stage.seen()?;
        let reports = violations(&self.stage.program);
        claim!(seen.installed == 1, "{} installs", seen.installed);
        claim!(reports.len() as u64 == seen.aborts, "{} reports: {seen:?}", reports.len());
        claim!(reports.iter().all(|report| report.write), "a read was reported");
        for cpu in 0..2 {
            let of_cpu = reports.iter().filter(|report| report.cpu == cpu).count();
            claim!(of_cpu <= 1, "{of_cpu} reports of CPU {cpu}");
        }
        if reports.len() == 1 {
            self.stage.meet();
        }
        Ok(())
    }
}

fn masked_repeat(ctx: &Ctx) -> Outcome {
    let stage = Stage::new(ctx)?;
    let ground = stage.ground(2);
    let actors = Actors { stage };
    explore::run(ctx, &ground, &actors)?;
    actors.stage.met(ctx, "one report stood for four wild accesses")
}
