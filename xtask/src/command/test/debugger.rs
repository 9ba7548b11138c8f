//! The GDB commands, tried on halted guests: scripts with known answers under `xtask/gdb`.
//!
//! `test/NAME.gdb` is a script whose first line names its guest, `expect/NAME.txt` the answers:
//! lines that must be part of what gdb prints, in their order, `...` standing for any text.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ktap::item::Item;

use super::Job;
use crate::cli::{Matrix, Setup};
use crate::command::gdb::{self, Target};
use crate::items;
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::run::Kernel;

/// What no answer of ours may contain.
const NEVER: [&str; 3] = ["Traceback", "Python Exception", "a bug in this command"];

/// A job for each script.
///
/// # Errors
/// The scripts cannot be listed.
pub fn jobs<'a>(
    setup: &'a Setup,
    qemu: &'a Qemu,
    kernel: &'a Kernel,
    items: &'a [Item],
) -> Result<Vec<Job<'a>>> {
    let mut jobs = Vec::new();
    // Asked once for all scripts: two installations at a time would be in each other's way.
    let debugger = Arc::new(OnceLock::new());
    for script in scripts()? {
        let debugger = Arc::clone(&debugger);
        let stem = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("gdb/commands/{stem}");
        jobs.push(Job::single(name, move || {
            let there: &Result<(), String> = debugger.get_or_init(|| {
                gdb::ensure_installed(setup).map_err(|missing| format!("{missing:#}"))
            });
            play(there, qemu, kernel, items, &script, &stem)
        }));
    }
    Ok(jobs)
}

fn play(
    debugger: &Result<(), String>,
    qemu: &Qemu,
    kernel: &Kernel,
    items: &[Item],
    script: &Path,
    stem: &str,
) -> Result<Record> {
    let started = Instant::now();
    let (status, output) = match debugger {
        Err(missing) => (Status::Skipped(missing.clone()), String::new()),
        Ok(()) => {
            let (ended_well, output) = run(qemu, kernel, items, script, stem)?;
            (judge(ended_well, &output, &expected(script, stem)?), output)
        }
    };
    Ok(Record {
        wall: started.elapsed(),
        output: output.lines().map(String::from).collect(),
        ..Record::new("gdb", "commands", stem, status)
    })
}

fn run(
    qemu: &Qemu,
    kernel: &Kernel,
    items: &[Item],
    script: &Path,
    stem: &str,
) -> Result<(bool, String)> {
    let text = std::fs::read_to_string(script)?;
    let (item, variant, smp) = guest_of(&text)
        .with_context(|| format!("{}: the first line names no guest", script.display()))?;
    let selected = items::select(items, &[item.to_string()])?;
    let machine = Machine { smp, ..Machine::matrix(Matrix::Quick).remove(0) };
    let target =
        Target { qemu, machine: &machine, kernel, item: selected[0], variant, schedule: None };
    gdb::script(&target, script, stem)
}

fn expected(script: &Path, stem: &str) -> Result<String> {
    let path = script.with_file_name(format!("../expect/{stem}.txt"));
    std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}

fn scripts() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("gdb/test");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut scripts: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "gdb"))
        .collect();
    scripts.sort();
    if scripts.is_empty() {
        bail!("{} holds no scripts", folder.display());
    }
    Ok(scripts)
}

/// Item, variant and CPUs out of `# guest: ITEM[@VARIANT], N CPUs`.
fn guest_of(script: &str) -> Option<(&str, &str, u8)> {
    let line = script.lines().next()?.strip_prefix("# guest: ")?;
    let (name, cpus) = line.split_once(", ")?;
    let (item, variant) = name.split_once('@').unwrap_or((name, "default"));
    Some((item, variant, cpus.split(' ').next()?.parse().ok()?))
}

/// Whether every expected line comes, in order, and nothing that may never come.
fn judge(ended_well: bool, output: &str, expected: &str) -> Status {
    let never = output.lines().find(|line| NEVER.iter().any(|bad| line.contains(bad)));
    if let Some(line) = never {
        return Status::Failed(format!("gdb printed: {line}"));
    }
    let mut printed = output.lines();
    let wanted =
        expected.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in wanted {
        if !printed.any(|printed| holds(printed, line)) {
            return Status::Failed(format!("not printed, or not in its place: {line}"));
        }
    }
    if ended_well { Status::Passed } else { Status::Failed("gdb ended with an error".into()) }
}

/// Whether `line` holds the parts of `wanted` between `...`, in order.
fn holds(line: &str, wanted: &str) -> bool {
    let mut rest = line;
    wanted.split("...").all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_guest() {
        assert_eq!(guest_of("# guest: aa-fault, 2 CPUs\n"), Some(("aa-fault", "default", 2)));
        assert_eq!(guest_of("# guest: a@busy, 1 CPUs\n"), Some(("a", "busy", 1)));
        assert_eq!(guest_of("hbreak x\n"), None);
    }

    #[test]
    fn answers_must_come_in_order_and_dots_stand_for_anything() {
        let output = "one 12 two\nthree\n";
        assert_eq!(judge(true, output, "# why\none ... two\n\nthree\n"), Status::Passed);
        assert!(judge(true, output, "three\none\n").is_failure());
        assert!(judge(true, output, "one ... four\n").is_failure());
        assert!(judge(false, output, "three\n").is_failure());
        assert!(judge(true, "three\nTraceback: x\n", "three\n").is_failure());
    }
}
