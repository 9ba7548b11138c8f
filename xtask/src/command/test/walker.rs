//! QEMU's own table walker as a second opinion: a guest tells every mapping that its kernel claims,
//! and the host asks QEMU about each page of them, and about the holes between.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ktap::item::Item;

use super::Job;
use crate::cli::Matrix;
use crate::guest::{Deadline, Next};
use crate::machine::{Machine, Qemu};
use crate::qmp::Socket;
use crate::record::{Record, Status};
use crate::run::{Boot, Booted, Kernel};

/// Name of the test.
const NAME: &str = "qemu-s-walk-agrees-with-the-kernel-s";
/// Two short tests: the guest tells its map between them.
const BEFORE_AND_AFTER: [&str; 2] = ["lock-refuses-its-own-holder", "atomics-follow-the-cpu"];
/// How long the guest may take to tell.
const SILENCE: Duration = Duration::from_secs(30);
const PAGE: u64 = 4096;
/// What one level 2 entry can map.
const BLOCK: u64 = 2 << 20;
/// What a guest must tell of, each at least once.
const KINDS: [&str; 8] =
    ["dump", "allocated", "scratch", "freed", "reserved", "empty", "guard", "stack-guard"];
/// Fewer pages than this are no comparison.
const ENOUGH: usize = 200;
/// Disagreements that are told.
const TOLD: usize = 10;

/// What the kernel says of a run of addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Claim {
    pages: Range<u64>,
    /// Physical address of the first byte; `None` if nothing is mapped.
    physical: Option<u64>,
    /// What it is to the kernel.
    what: String,
}

/// What a comparison came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Opinion {
    mapped: usize,
    unmapped: usize,
    disagreements: Vec<String>,
}

/// A job for each machine.
pub fn jobs<'a>(qemu: &'a Qemu, kernel: &'a Kernel, items: &'a [Item]) -> Vec<Job<'a>> {
    let job = |machine: Machine| {
        let path = format!("harness/walker/{NAME}.{machine}");
        Job::single(path, move || play(qemu, kernel, items, &machine))
    };
    Machine::matrix(Matrix::Quick).into_iter().map(job).collect()
}

fn play(qemu: &Qemu, kernel: &Kernel, items: &[Item], machine: &Machine) -> Result<Record> {
    let name = format!("{NAME}.{machine}");
    let boot = Boot {
        qemu,
        machine,
        kernel,
        items: crate::items::select(items, &BEFORE_AND_AFTER.map(String::from))?,
        variant: "default",
        words: vec!["inject=walk".into()],
        qemu_args: Vec::new(),
        deadline: Deadline::fixed(SILENCE),
        log: format!("harness-{name}"),
    };
    let socket = Socket::new();
    let mut claims = Vec::new();
    let mut opinion = None;
    let Booted { outcome, finished, log, .. } = boot.run_with_monitor(&socket, |line, _| {
        match line.trim_start().strip_prefix("# walk: ") {
            Some("end") => {
                opinion = Some(ask_qemu(&socket, &claims, usize::from(machine.smp)));
                // QEMU ended by itself if it was asked; there is nothing more to wait for.
                return Next::Kill;
            }
            Some(line) => claims.push(parse(line)),
            None => {}
        }
        Next::More
    })?;
    let mut output = Vec::new();
    let status = match opinion {
        Some(Ok(opinion)) => {
            let Opinion { mapped, unmapped, .. } = opinion;
            output.push(format!("compared {mapped} mapped and {unmapped} unmapped pages"));
            verdict(&opinion)
        }
        Some(Err(error)) => Status::Failed(format!("QEMU gave no opinion: {error:#}")),
        None => Status::Failed(format!("the guest did not tell its map: {}", outcome.why)),
    };
    Ok(Record {
        wall: finished.wall,
        output,
        log: Some(log.display().to_string()),
        ..Record::new("harness", "walker", &name, status)
    })
}

/// QEMU's opinion on what the guest, which waits, has told.
fn ask_qemu(socket: &Result<Socket>, claims: &[Result<Claim>], cpus: usize) -> Result<Opinion> {
    let error = |error: &anyhow::Error| anyhow::anyhow!("{error:#}");
    let claims = claims.iter().map(|claim| claim.as_ref().map_err(error).cloned());
    let claims = claims.collect::<Result<Vec<_>>>()?;
    let mut monitor = socket.as_ref().map_err(error)?.connect()?;
    monitor.stop()?;
    // Each CPU names the tables in registers of its own; all must lead to the same.
    let mut turn = (0..cpus).cycle();
    let opinion = compare(&claims, |page| {
        let cpu = turn.next().unwrap_or(0);
        translation(&monitor.ask(cpu, &format!("gva2gpa {page:#x}"))?)
    })?;
    monitor.quit()?;
    Ok(opinion)
}

/// Compares page by page with what `walk` says of each.
fn compare(claims: &[Claim], mut walk: impl FnMut(u64) -> Result<Option<u64>>) -> Result<Opinion> {
    let mut opinion = Opinion::default();
    for claim in claims.iter().chain(&holes(claims)) {
        for page in asked(claim) {
            let expected = claim.physical.map(|first| first + (page - claim.pages.start));
            let seen = walk(page)?;
            if seen != expected {
                let shown = |at: Option<u64>| at.map_or("unmapped".into(), |at| format!("{at:#x}"));
                opinion.disagreements.push(format!(
                    "{page:#x} ({}): the kernel says {}, QEMU {}",
                    claim.what,
                    shown(expected),
                    shown(seen)
                ));
            }
            match expected {
                Some(_) => opinion.mapped += 1,
                None => opinion.unmapped += 1,
            }
        }
    }
    for kind in KINDS {
        if !claims.iter().any(|claim| claim.what == kind) {
            opinion.disagreements.push(format!("the guest told of no {kind}"));
        }
    }
    Ok(opinion)
}

/// The pages of a claim that are asked about: each, but of what the kernel maps with one level 2
/// entry the first, one in the middle and the last.
fn asked(claim: &Claim) -> Vec<u64> {
    let Range { start, end } = claim.pages;
    let mut pages = Vec::new();
    let mut page = start;
    while page < end {
        let aligned = |at: u64| at.is_multiple_of(BLOCK);
        let physical = claim.physical.map(|first| first + (page - start));
        if aligned(page) && physical.is_some_and(aligned) && end - page >= BLOCK {
            pages.extend([page, page + BLOCK / 2, page + BLOCK - PAGE]);
            page += BLOCK;
        } else {
            pages.push(page);
            page += PAGE;
        }
    }
    pages
}

/// The first and the last page of every hole between regions of the dump, which shows all that is
/// mapped.
fn holes(claims: &[Claim]) -> Vec<Claim> {
    let dump = claims.iter().filter(|claim| claim.what == "dump");
    let mut regions: Vec<_> = dump.map(|claim| claim.pages.clone()).collect();
    regions.sort_by_key(|pages| pages.start);
    let hole = |at: u64| Claim { pages: at..at + PAGE, physical: None, what: "hole".into() };
    let between = |pair: &[Range<u64>]| {
        let (from, to) = (pair[0].end, pair[1].start);
        (from < to).then(|| [hole(from), hole(to - PAGE)])
    };
    regions.windows(2).filter_map(between).flatten().collect()
}

fn verdict(opinion: &Opinion) -> Status {
    let Opinion { mapped, unmapped, disagreements } = opinion;
    let compared = mapped + unmapped;
    match disagreements.as_slice() {
        [] if compared >= ENOUGH => Status::Passed,
        [] => Status::Failed(format!("only {compared} pages were compared")),
        all => {
            let told = all[..all.len().min(TOLD)].join("; ");
            Status::Failed(format!("{} of {compared} differ: {told}", all.len()))
        }
    }
}

/// A line of the guest's, without its beginning.
fn parse(line: &str) -> Result<Claim> {
    let number = |word: &str| -> Result<u64> {
        let digits = word.strip_prefix("0x").context("a number without 0x")?;
        Ok(u64::from_str_radix(digits, 16)?)
    };
    let claim = |start: &str, bytes: u64, physical, what: &str| -> Result<Claim> {
        let start = number(start)?;
        let end = start.checked_add(bytes).context("beyond the last address")?;
        Ok(Claim { pages: start..end, physical, what: what.into() })
    };
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["map", start, bytes, physical, what] => {
            claim(start, number(bytes)?, Some(number(physical)?), what)
        }
        ["unmapped", start, what] => claim(start, PAGE, None, what),
        _ => bail!("the guest said: {line}"),
    }
}

/// The answer to `gva2gpa`.
fn translation(answer: &str) -> Result<Option<u64>> {
    let answer = answer.trim();
    if answer == "Unmapped" {
        return Ok(None);
    }
    let digits = answer.strip_prefix("gpa: 0x");
    let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    Ok(Some(address.with_context(|| format!("QEMU answers gva2gpa with {answer:?}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest's claims: one of each kind, the dump with a hole of three pages.
    fn claims() -> Vec<Claim> {
        let lines = [
            "map 0xffff000040000000 0x300000 0x0000000040000000 dump",
            "map 0xffff000040303000 0x2000 0x0000000050000000 dump",
            "map 0xffff000040000000 0x1000 0x0000000040000000 allocated",
            "map 0xffff000040001000 0x1000 0x0000000040001000 scratch",
            "unmapped 0x1000 freed",
            "unmapped 0x2000 reserved",
            "unmapped 0x3000 empty",
            "unmapped 0x4000 guard",
            "unmapped 0x5000 stack-guard",
        ];
        lines.map(|line| parse(line).unwrap()).into()
    }

    /// The walk that agrees with all of them.
    fn walk(page: u64) -> Option<u64> {
        match page {
            0xffff_0000_4000_0000..0xffff_0000_4030_0000 => Some(page - 0xffff_0000_0000_0000),
            0xffff_0000_4030_3000..0xffff_0000_4030_5000 => Some(page - 0xfffe_ffff_f030_3000),
            _ => None,
        }
    }

    fn status_of(claims: &[Claim], walk: impl Fn(u64) -> Option<u64>) -> Status {
        verdict(&compare(claims, |page| Ok(walk(page))).unwrap())
    }

    #[test]
    fn a_walk_that_agrees_everywhere_passes() {
        let opinion = compare(&claims(), |page| Ok(walk(page))).unwrap();
        assert_eq!(opinion, Opinion { mapped: 263, unmapped: 7, disagreements: vec![] });
        assert_eq!(verdict(&opinion), Status::Passed);
    }

    #[test]
    fn one_wrong_entry_among_all_is_red_and_named() {
        let elsewhere = 0xffff_0000_4028_0000;
        for (at, seen) in [
            (elsewhere, None),
            (elsewhere, Some(0x4028_1000)),
            (0xffff_0000_401f_f000, None),
            (0x3000, Some(0x4000_0000)),
            (0xffff_0000_4030_0000, Some(0x4030_0000)),
            (0xffff_0000_4030_2000, Some(0x4030_2000)),
        ] {
            let status = status_of(&claims(), |page| if page == at { seen } else { walk(page) });
            let Status::Failed(why) = status else { panic!("{at:#x} passed as {seen:?}") };
            assert!(why.starts_with(&format!("1 of 270 differ: {at:#x} (")), "{why}");
        }
        let mut doctored = claims();
        doctored[1].physical = Some(0x5000_1000);
        assert!(status_of(&doctored, walk).is_failure());
    }

    #[test]
    fn a_guest_that_tells_too_little_is_red() {
        for kind in KINDS {
            let told: Vec<_> = claims().into_iter().filter(|claim| claim.what != kind).collect();
            let opinion = compare(&told, |page| Ok(walk(page))).unwrap();
            assert_eq!(opinion.disagreements, [format!("the guest told of no {kind}")]);
        }
        let mut short = claims();
        short[0].pages.end = short[0].pages.start + 2 * PAGE;
        let beyond = short[0].pages.end;
        let status = status_of(&short, |page| walk(page).filter(|_| page != beyond));
        assert_eq!(status, Status::Failed("only 13 pages were compared".into()));
    }

    #[test]
    fn lines_and_answers_that_are_none_are_errors() {
        for line in ["", "failed alloc", "map 0x0 0x1000 dump", "unmapped 1000 guard"] {
            assert!(parse(line).is_err(), "{line:?}");
        }
        assert_eq!(translation("gpa: 0x40200000\r\n").unwrap(), Some(0x4020_0000));
        assert_eq!(translation("Unmapped\r\n").unwrap(), None);
        assert!(translation("unknown command: 'gva2gpa'\r\n").is_err());
    }
}
