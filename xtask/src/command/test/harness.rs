//! The harness tried on guests that misbehave on purpose: each must be caught, with the right code
//! and the right words.

use std::time::Duration;

use anyhow::Result;
use ktap::item::Item;

use super::Job;
use crate::cli::{ImageKind, Matrix};
use crate::exit::Exit;
use crate::guest::Next;
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::run::{Boot, Booted, Kernel};

/// How long a silent guest is waited for here: it is known to be hung.
const SILENCE: Duration = Duration::from_secs(3);

/// Two short tests: the fault comes between them.
const BEFORE_AND_AFTER: [&str; 2] = ["lock-refuses-its-own-holder", "atomics-follow-the-cpu"];

/// A guest that misbehaves.
struct Misbehaviour {
    /// Name of the test.
    name: &'static str,
    /// `inject=` for the guest; empty for none.
    inject: &'static str,
    /// Further arguments for QEMU.
    qemu_args: &'static [&'static str],
    /// Form of the kernel.
    image: ImageKind,
    /// QEMU is killed at the first result.
    kill: bool,
    /// The code that it must lead to.
    exit: Exit,
    /// What the verdict must say.
    says: &'static str,
}

const PLAIN: Misbehaviour = Misbehaviour {
    name: "",
    inject: "",
    qemu_args: &[],
    image: ImageKind::Elf,
    kill: false,
    exit: Exit::NoVerdict,
    says: "",
};

const MISBEHAVIOURS: &[Misbehaviour] = &[
    Misbehaviour {
        name: "a-killed-guest-is-a-cut-log",
        kill: true,
        says: "QEMU was killed by signal 9 while atomics-follow-the-cpu ran",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-guest-that-prints-nothing-is-a-hang",
        inject: "silent",
        exit: Exit::Hung,
        says: "printed nothing for 3.0 s while lock-refuses-its-own-holder ran",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-guest-that-prints-garbage-has-no-verdict",
        inject: "garbage",
        says: "the log cannot be believed",
        ..PLAIN
    },
    Misbehaviour {
        name: "an-oops-between-tests-is-a-crash",
        inject: "oops",
        exit: Exit::Crashed,
        says: "oops: data abort, same EL; translation fault",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-panic-between-tests-is-a-crash",
        inject: "panic",
        exit: Exit::Crashed,
        says: "panic: injected",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-stop-between-tests-is-a-hang",
        inject: "hang",
        exit: Exit::Hung,
        says: "printed nothing for 3.0 s while atomics-follow-the-cpu ran",
        ..PLAIN
    },
    Misbehaviour {
        name: "an-exit-between-tests-is-a-cut-log",
        inject: "cut",
        says: "the log is cut",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-second-header-is-a-second-boot",
        inject: "second-header",
        says: "the log cannot be believed",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-line-after-the-end-is-noticed",
        inject: "after-end",
        says: "the log cannot be believed",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-missing-device-tree-is-said",
        // Started behind QEMU's boot stub, the Image is told of no tree.
        image: ImageKind::Flat,
        qemu_args: &["-device", "loader,addr=0x40200000,cpu-num=0"],
        exit: Exit::Usage,
        says: "device tree: none at 0x40000000",
        ..PLAIN
    },
];

/// A job for each misbehaviour that `filter` selects.
pub fn jobs<'a>(
    qemu: &'a Qemu,
    kernel: &'a Kernel,
    items: &'a [Item],
    filter: Option<&str>,
) -> Vec<Job<'a>> {
    MISBEHAVIOURS
        .iter()
        .map(|misbehaviour| (misbehaviour, format!("harness/guest/{}", misbehaviour.name)))
        .filter(|(_, name)| filter.is_none_or(|filter| name.contains(filter)))
        .map(|(misbehaviour, name)| Job {
            tests: vec![name.clone()],
            name,
            work: Box::new(move || {
                misbehaviour.play(qemu, kernel, items).map(|record| vec![record])
            }),
        })
        .collect()
}

impl Misbehaviour {
    fn play(&self, qemu: &Qemu, kernel: &Kernel, items: &[Item]) -> Result<Record> {
        let names = BEFORE_AND_AFTER.map(String::from);
        let machine = Machine { image: self.image, ..Machine::matrix(Matrix::Quick).remove(0) };
        let words = match self.inject {
            "" => Vec::new(),
            inject => vec![format!("inject={inject}")],
        };
        let boot = Boot {
            qemu,
            machine: &machine,
            kernel,
            items: crate::items::select(items, &names)?,
            variant: "default",
            words,
            qemu_args: self.qemu_args.iter().map(|argument| argument.to_string()).collect(),
            silence: SILENCE,
            log: format!("harness-{}", self.name),
        };
        let booted = boot.run(|_, session| {
            if self.kill && session.results().len() == 1 { Next::Kill } else { Next::More }
        })?;
        Ok(self.record(&booted))
    }

    fn record(&self, booted: &Booted) -> Record {
        let outcome = &booted.outcome;
        let caught = outcome.exit == self.exit && outcome.why.contains(self.says);
        let status = if caught {
            Status::Passed
        } else {
            Status::Failed(format!(
                "the guest {} (\"{}\"); expected: it {} (\"{}\")",
                outcome.exit, outcome.why, self.exit, self.says
            ))
        };
        Record {
            machine: "harness".into(),
            suite: "guest".into(),
            name: self.name.into(),
            status,
            wall: booted.finished.wall,
            output: outcome.tail.clone(),
            log: Some(booted.log.display().to_string()),
        }
    }
}
