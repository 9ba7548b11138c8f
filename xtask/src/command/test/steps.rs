//! Step points leave no trace in an image without the lab: the kernel is built twice from copies of
//! its sources, once as it is and once with every `step!` call taken out, and the code of the two
//! must be the same to the byte. The image then boots.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ktap::item::Item;
use object::{Object, ObjectSection};

use super::work::Job;
use crate::cli::Matrix;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::image;
use crate::machine::{Machine, Qemu};
use crate::record::{Record, Status};
use crate::run::{Boot, Kernel, output_folder};
use crate::toolchain::Toolchain;

/// Name of the job.
const NAME: &str = "steps-leave-no-trace-in-an-image-without-the-lab";
/// What the kernel is built from.
const SOURCES: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", ".cargo", "boot", "kernel", "linker.ld", "xtask"];
/// Calls that must be found, lest nothing be compared with nothing.
const LEAST_CALLS: usize = 15;
/// What the image runs.
const SMALLEST: &str = "atomics-follow-the-cpu";

/// The job.
pub fn job<'a>(toolchain: &'a Toolchain, qemu: &'a Qemu, items: &'a [Item]) -> Job<'a> {
    Job::single(format!("harness/steps/{NAME}"), move || {
        let mut record = Record::new("harness", "steps", NAME, Status::Passed);
        // One after the other: they share a target folder, where the newer sources are built.
        let elf = image::build_bare(toolchain, &copy("with")?)?;
        let (one, boots) = (text(&elf)?, boot(qemu, items, &elf)?);
        let without = copy("without")?;
        let calls = take_out(&without.join("kernel/arena/src"))?;
        let other = text(&image::build_bare(toolchain, &without)?)?;
        let bytes = one.len();
        record.output = vec![format!("{calls} calls taken out, {bytes} bytes of code compared")];
        record.status = match () {
            () if calls < LEAST_CALLS => Status::Failed(format!("only {calls} calls were found")),
            () if one != other => Status::Failed("the code differs".into()),
            () if boots != Exit::Passed => Status::Failed(format!("the image {boots}")),
            () => Status::Passed,
        };
        Ok(record)
    })
}

fn boot(qemu: &Qemu, items: &[Item], elf: &Path) -> Result<Exit> {
    let kernel = Kernel::of(elf.into())?;
    let boot = Boot {
        qemu,
        machine: &Machine::matrix(Matrix::Quick).remove(0),
        kernel: &kernel,
        items: crate::items::select(items, &[SMALLEST.to_string()])?,
        variant: "default",
        words: Vec::new(),
        qemu_args: Vec::new(),
        deadline: Deadline::fixed(crate::calibrate::UNMEASURED * 10),
        log: "harness-steps".into(),
    };
    Ok(boot.run(|_, _| Next::More)?.outcome.exit)
}

/// A copy of the sources. The copies share what was built of their dependencies.
fn copy(name: &str) -> Result<PathBuf> {
    let folder = std::path::absolute(output_folder().join("steps").join(name))?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    for source in SOURCES {
        copy_into(Path::new(source), &folder.join(source))
            .with_context(|| format!("{source} cannot be copied to {}", folder.display()))?;
    }
    let (target, link) = (folder.with_file_name("target"), folder.join("target"));
    std::fs::create_dir_all(&target)?;
    if !link.exists() {
        std::os::unix::fs::symlink(&target, &link)?;
    }
    Ok(folder)
}

/// Copies everything anew: cargo builds what is newer than the last build.
fn copy_into(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return std::fs::write(to, std::fs::read(from)?);
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        copy_into(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Takes every call out of the sources in `folder`; returns how many there were.
fn take_out(folder: &Path) -> Result<usize> {
    let mut calls = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            calls += take_out(&path)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let (text, found) = without_calls(&std::fs::read_to_string(&path)?);
            calls += found;
            std::fs::write(&path, text)?;
        }
    }
    Ok(calls)
}

/// `text` with an empty statement for each call, on as many lines: panics name lines.
fn without_calls(text: &str) -> (String, usize) {
    const CALL: &str = "step!(";
    let mut parts = text.split(CALL);
    let mut out = parts.next().unwrap_or_default().to_string();
    let mut calls = 0;
    for part in parts {
        match part.split_once(");") {
            Some((inside, rest)) => {
                calls += 1;
                out += "();";
                out.extend(inside.chars().filter(|c| *c == '\n'));
                out += rest;
            }
            None => out = out + CALL + part,
        }
    }
    (out, calls)
}

/// The code of an image.
fn text(elf: &Path) -> Result<Vec<u8>> {
    let data = std::fs::read(elf)?;
    let file = object::File::parse(&*data)?;
    let section = file.section_by_name(".text").context("the image has no .text")?;
    let text = section.data()?.to_vec();
    ensure!(!text.is_empty(), "the image has no code");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_and_lines_stay() {
        let text = "a\n    step!(hw, A, b());\nc step!(\n  d,\n);\ne";
        assert_eq!(without_calls(text), ("a\n    ();\nc ();\n\n\ne".to_string(), 2));
        assert_eq!(without_calls("macro step!"), ("macro step!".to_string(), 0));
    }
}
