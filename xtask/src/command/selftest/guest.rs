//! The harness tried on guests that misbehave on purpose: each must be caught, with the right code
//! and the right words.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use ktap::item::Item;

use super::Wanted;
use crate::cli::{ImageKind, Matrix};
use crate::command::test::Job;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::machine::{Machine, Qemu};
use crate::record::Record;
use crate::run::{Boot, Booted, Kernel, output_folder};

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
    /// What befalls QEMU at the first result.
    accident: Next,
    /// In the device tree, every occurrence of the first becomes the second, of the same length.
    tree: Option<(&'static str, &'static str)>,
    /// It may take as long as it takes: what ends it is not time.
    unlimited: bool,
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
    accident: Next::More,
    tree: None,
    unlimited: false,
    exit: Exit::NoVerdict,
    says: "",
};

const MISBEHAVIOURS: &[Misbehaviour] = &[
    Misbehaviour {
        name: "a-killed-guest-is-a-cut-log",
        // It goes no further by itself, so that the kill meets it between the tests.
        inject: "hang",
        accident: Next::Kill,
        says: "QEMU was killed by signal 9 while atomics-follow-the-cpu ran",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-stopped-qemu-is-a-hang",
        inject: "hang",
        accident: Next::Stop,
        exit: Exit::Hung,
        says: "printed nothing for 3.0 s while atomics-follow-the-cpu ran",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-flood-of-garbage-is-ended",
        inject: "flood",
        // 16 MiB byte by byte take half a minute, and longer on a loaded host.
        unlimited: true,
        says: "more than any log can be",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-guest-that-chatters-for-ever-is-a-hang",
        inject: "chatter",
        exit: Exit::Hung,
        says: "the guest took more than 30 s",
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
    Misbehaviour {
        name: "a-tree-without-an-interrupt-controller-is-said",
        tree: Some(("arm,cortex-a15-gic", "arm,cortex-a99-gic")),
        exit: Exit::Usage,
        says: "device tree: a GICv2 or GICv3 interrupt controller is missing",
        ..PLAIN
    },
    Misbehaviour {
        name: "a-tree-without-a-console-is-said",
        tree: Some(("arm,pl011", "arm,pl099")),
        exit: Exit::Usage,
        says: "device tree: a PL011 console is missing",
        ..PLAIN
    },
];

/// A job for each misbehaviour.
pub fn jobs<'a>(qemu: &'a Qemu, kernel: &'a Kernel, items: &'a [Item]) -> Vec<Job<'a>> {
    let job = |misbehaviour: &'static Misbehaviour| {
        let path = format!("harness/guest/{}", misbehaviour.name);
        Job::single(path, move || misbehaviour.play(qemu, kernel, items))
    };
    MISBEHAVIOURS.iter().map(job).collect()
}

impl Misbehaviour {
    fn play(&self, qemu: &Qemu, kernel: &Kernel, items: &[Item]) -> Result<Record> {
        let names = BEFORE_AND_AFTER.map(String::from);
        let machine = Machine { image: self.image, ..Machine::matrix(Matrix::Quick).remove(0) };
        let mut qemu_args: Vec<_> =
            self.qemu_args.iter().map(|argument| argument.to_string()).collect();
        if let Some(change) = self.tree {
            qemu_args.extend(["-dtb".into(), changed_tree(qemu, &machine, self.name, change)?]);
        }
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
            qemu_args,
            deadline: Deadline { unlimited: self.unlimited, ..Deadline::fixed(SILENCE) },
            log: format!("harness-{}", self.name),
        };
        let booted =
            boot.run(
                |_, session| {
                    if session.results().len() == 1 { self.accident } else { Next::More }
                },
            )?;
        Ok(self.record(&booted))
    }

    fn wanted(&self) -> Wanted {
        Wanted { name: self.name, exit: self.exit, says: self.says }
    }

    fn record(&self, booted: &Booted) -> Record {
        let outcome = &booted.outcome;
        let mut record = self.wanted().record("guest", outcome.exit, &outcome.why);
        record.wall = booted.finished.wall;
        record.output.extend(outcome.tail.iter().cloned());
        record.log = Some(booted.log.display().to_string());
        record
    }
}

/// What each must come to.
#[cfg(test)]
pub fn wanted() -> impl Iterator<Item = Wanted> {
    MISBEHAVIOURS.iter().map(Misbehaviour::wanted)
}

/// QEMU's own tree for the machine, changed, as a file.
fn changed_tree(
    qemu: &Qemu,
    machine: &Machine,
    name: &str,
    (from, to): (&str, &str),
) -> Result<String> {
    let path = output_folder().join(format!("log/harness-{name}.dtb")).display().to_string();
    let dump = format!("virt,gic-version={},dumpdtb={path}", machine.gic);
    let status = Command::new(&qemu.path)
        .args(["-nodefaults", "-display", "none", "-cpu", &machine.cpu, "-machine", &dump])
        .args(["-smp", &machine.smp.to_string(), "-m", &machine.mem])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "{qemu} does not dump its device tree");
    let mut tree = std::fs::read(&path)?;
    let places: Vec<_> = (0..tree.len().saturating_sub(from.len()))
        .filter(|&at| tree[at..].starts_with(from.as_bytes()))
        .collect();
    ensure!(!places.is_empty() && from.len() == to.len(), "the device tree has no {from}");
    for at in places {
        tree[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    std::fs::write(&path, trimmed(tree))?;
    Ok(path)
}

/// A tree without the room that QEMU left in it to grow: it doubles what it is given, and drops
/// without a word a tree that no longer fits below the kernel.
fn trimmed(mut tree: Vec<u8>) -> Vec<u8> {
    /// Offsets of header fields (Devicetree Specification 5.2), big-endian words.
    const TOTAL_SIZE: usize = 4;
    const BLOCKS: [(usize, usize); 2] = [(8, 36), (12, 32)];
    let word = |at: usize| {
        let bytes = tree.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize)
    };
    let end = BLOCKS.map(|(offset, size)| word(offset) + word(size)).into_iter().max();
    let end = end.unwrap_or(0).next_multiple_of(8);
    tree.truncate(end);
    if let Some(field) = tree.get_mut(TOTAL_SIZE..TOTAL_SIZE + 4) {
        field.copy_from_slice(&(end as u32).to_be_bytes());
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_misbehaviour_is_taken_for_a_pass() {
        for misbehaviour in MISBEHAVIOURS {
            assert!(misbehaviour.exit > Exit::Failed, "{}", misbehaviour.name);
            assert!(!misbehaviour.says.is_empty(), "{}", misbehaviour.name);
        }
    }
}
