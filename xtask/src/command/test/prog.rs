//! Tests of `--prog`: objects of clang's in a guest, to the exit code and the words on their streams.

use anyhow::{Context, Result};
use ktap::item::Item;
use link::Options;

use super::Job;
use crate::cli::Matrix;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::machine::{Machine, Qemu};
use crate::prog;
use crate::record::{Record, Status};
use crate::run::{Boot, Booted, Kernel, output_folder};

/// The item that runs what the host hands over.
pub const ITEM: &str = "prog";

/// An object and what must come of it.
struct Brought {
    name: &'static str,
    object: &'static [u8],
    attach: Option<&'static str>,
    exit: Exit,
    /// Lines that must come, in this order.
    says: &'static [&'static str],
    /// What no line may have.
    never: &'static str,
}

const BROUGHT: &[Brought] = &[
    Brought {
        name: "one-past-the-end-is-reported-and-aborted",
        object: include_bytes!("../../../prog/one-past-the-end.bpf.o"),
        attach: None,
        exit: Exit::Failed,
        says: &[
            "stdout: 129 slots written",
            "stderr: ERROR: Arena WRITE access at unmapped address 0x100002000",
            "stderr:   insn ",
            "stderr:   bt 0x",
            "scratch=1 violations=1 ",
            "FAIL: the program was aborted behind 1 violations",
        ],
        never: "oops",
    },
    Brought {
        name: "the-same-without-the-bug-passes",
        object: include_bytes!("../../../prog/sound.bpf.o"),
        attach: None,
        exit: Exit::Passed,
        says: &["mm_page_alloc fired 2 times", "stdout: 128 slots written", "violations=0 "],
        never: "ERROR",
    },
    Brought {
        name: "a-list-is-built-by-the-program-and-walked-by-the-kernel",
        object: include_bytes!("../../../prog/list.bpf.o"),
        attach: None,
        exit: Exit::Passed,
        says: &["prog: returned 0", "stdout: 100 nodes, their sum is 4950"],
        never: "ERROR",
    },
    Brought {
        name: "a-program-can-be-put-on-the-tick",
        object: include_bytes!("../../../prog/sound.bpf.o"),
        attach: Some("sched_tick"),
        exit: Exit::Passed,
        says: &["sched_tick fired ", "stdout: 128 slots written"],
        never: "ERROR",
    },
    Brought {
        name: "a-program-can-be-put-on-frees",
        object: include_bytes!("../../../prog/sound.bpf.o"),
        attach: Some("mm_page_free"),
        exit: Exit::Passed,
        says: &["mm_page_free fired 2 times", "stdout: 128 slots written"],
        never: "ERROR",
    },
];

/// A job for each.
pub fn jobs<'a>(qemu: &'a Qemu, kernel: &'a Kernel, items: &'a [Item]) -> Vec<Job<'a>> {
    let job = |brought: &'static Brought| {
        let path = format!("harness/prog/{}", brought.name);
        Job::single(path, move || brought.play(qemu, kernel, items))
    };
    BROUGHT.iter().map(job).collect()
}

impl Brought {
    fn play(&self, qemu: &Qemu, kernel: &Kernel, items: &[Item]) -> Result<Record> {
        let attach = self.attach.map(String::from);
        let linked = link::link(self.object, &Options { attach, ..Options::default() })?;
        let folder = output_folder().join("prog");
        std::fs::create_dir_all(&folder).context("no folder for images")?;
        let file = folder.join(self.name);
        std::fs::write(&file, &linked.image).context("the image cannot be written")?;
        let mut machine = Machine::matrix(Matrix::Quick).remove(0);
        machine.smp = 2;
        let boot = Boot {
            qemu,
            machine: &machine,
            kernel,
            items: crate::items::select(items, &[ITEM.to_string()])?,
            variant: "default",
            words: Vec::new(),
            qemu_args: prog::qemu_arguments(&file).into(),
            deadline: Deadline::fixed(crate::calibrate::UNMEASURED),
            log: format!("harness-prog-{}", self.name),
        };
        let mut lines = Vec::new();
        let Booted { outcome, finished, log, .. } = boot.run(|line, _| {
            lines.push(line.to_string());
            Next::More
        })?;
        let status = match self.fault(outcome.exit, &lines) {
            None => Status::Passed,
            Some(fault) => Status::Failed(fault),
        };
        Ok(Record {
            wall: finished.wall,
            output: lines,
            log: Some(log.display().to_string()),
            ..Record::new("harness", "prog", self.name, status)
        })
    }

    fn fault(&self, exit: Exit, lines: &[String]) -> Option<String> {
        if exit != self.exit {
            return Some(format!("the guest {exit}, and not {}", self.exit));
        }
        let mut rest = lines.iter();
        let unsaid = self.says.iter().find(|said| !rest.any(|line| line.contains(**said)));
        if let Some(unsaid) = unsaid {
            return Some(format!("no line, behind the one before, has {unsaid:?}"));
        }
        let bad = lines.iter().find(|line| line.contains(self.never));
        bad.map(|line| format!("a line has {:?}: {line}", self.never))
    }
}
