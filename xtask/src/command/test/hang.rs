//! The harness tried on guests that hang on purpose: what it says of each must name the culprit.

use std::time::Duration;

use anyhow::Result;
use ktap::item::Item;

use super::Job;
use crate::cli::Matrix;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::run::{Boot, Booted, Kernel};

/// How long a silent guest is waited for here: it is known to be hung.
const SILENCE: Duration = Duration::from_secs(3);

/// Two short tests: the guest hangs between them.
const BEFORE_AND_AFTER: [&str; 2] = ["lock-refuses-its-own-holder", "atomics-follow-the-cpu"];

/// A guest that hangs.
struct Hang {
    /// Name of the test.
    name: &'static str,
    /// `inject=` for the guest.
    inject: &'static str,
    /// What must be said: for each, one line that holds all its parts.
    says: &'static [&'static [&'static str]],
}

const HANGS: &[Hang] = &[
    Hang {
        name: "a-stopped-cpu-is-told-from-one-that-ticks",
        inject: "hang",
        says: &[
            &["cpu0 at ", "kernel::runner::inject::stop (kernel/src/runner/inject.rs:"],
            &["cpu0 at ", ", EL1, IRQs masked, no tick in "],
            &["cpu0   called by ", "kernel_main ("],
            &["cpu1 at ", ", EL1, IRQs ", " ticks in "],
            &["no lock is held"],
            &["test atomics-follow-the-cpu was running"],
        ],
    },
    Hang {
        name: "a-held-lock-is-told-with-its-owner",
        inject: "hang-locked",
        says: &[
            &["cpu0 at ", "kernel::runner::inject::stop (", "no tick in "],
            &["lock injected held by cpu0"],
            &["test atomics-follow-the-cpu was running"],
        ],
    },
    Hang {
        name: "a-cpu-that-waits-for-a-lock-is-told-with-the-lock-s-owner",
        inject: "hang-waiting",
        says: &[
            &["cpu0 ", "kernel::mem::lock::IrqSpinLock", " (kernel/src/mem/lock.rs:"],
            &["cpu0 at ", "IRQs masked, no tick in "],
            &["cpu1 at ", "kernel::runner::inject::stop (", "no tick in "],
            &["lock injected held by cpu1"],
            &["test atomics-follow-the-cpu was running"],
        ],
    },
    Hang {
        name: "a-guest-that-hangs-in-boot-is-told-by-its-registers",
        inject: "silent",
        says: &[
            &["cpu0 at ", "kernel::runner::inject::stop (", ", EL1, IRQs masked"],
            &["test lock-refuses-its-own-holder was running"],
        ],
    },
];

/// A job for each hang.
pub fn jobs<'a>(qemu: &'a Qemu, kernel: &'a Kernel, items: &'a [Item]) -> Vec<Job<'a>> {
    let job = |hang: &'static Hang| {
        let path = format!("harness/hang/{}", hang.name);
        Job::single(path, move || hang.play(qemu, kernel, items))
    };
    HANGS.iter().map(job).collect()
}

impl Hang {
    fn play(&self, qemu: &Qemu, kernel: &Kernel, items: &[Item]) -> Result<Record> {
        let boot = Boot {
            qemu,
            machine: &Machine::matrix(Matrix::Quick).remove(0),
            kernel,
            items: crate::items::select(items, &BEFORE_AND_AFTER.map(String::from))?,
            variant: "default",
            words: vec![format!("inject={}", self.inject)],
            qemu_args: Vec::new(),
            deadline: Deadline::fixed(SILENCE),
            log: format!("harness-{}", self.name),
        };
        let Booted { outcome, finished, log, .. } = boot.run(|_, _| Next::More)?;
        let status = match (outcome.exit, self.unsaid(&outcome.tail)) {
            (Exit::Hung, None) => Status::Passed,
            (Exit::Hung, Some(parts)) => {
                Status::Failed(format!("no line about the hang has {}", parts.join(" and ")))
            }
            (exit, _) => Status::Failed(format!("the guest {exit}, and should have hung")),
        };
        Ok(Record {
            wall: finished.wall,
            output: outcome.tail,
            log: Some(log.display().to_string()),
            ..Record::new("harness", "hang", self.name, status)
        })
    }

    /// The first thing that no line says.
    fn unsaid(&self, lines: &[String]) -> Option<&'static [&'static str]> {
        let is_said = |parts: &[&str]| {
            let told = lines.iter().filter_map(|line| line.strip_prefix("hang: "));
            told.into_iter().any(|line| parts.iter().all(|part| line.contains(part)))
        };
        self.says.iter().copied().find(|parts| !is_said(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_over_two_lines_or_by_the_guest_itself_does_not_count() {
        let hang = Hang { name: "", inject: "", says: &[&["lock a", "cpu0"]] };
        let unsaid = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
            hang.unsaid(&lines).is_some()
        };
        assert!(!unsaid(&["x", "hang: lock a held by cpu0"]));
        assert!(unsaid(&["hang: lock a", "hang: cpu0"]));
        assert!(unsaid(&["# lock a held by cpu0"]));
        assert!(unsaid(&[]));
    }
}
