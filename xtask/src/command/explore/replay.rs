//! One schedule again, by its token: what happened in it, and whether it ends the same each time.

use std::path::Path;

use anyhow::{Result, ensure};

use super::boot::{Bed, Played};
use super::casemate::{Level, casemate};
use super::result::{Line, Verdict};
use super::timeline::{Timeline, render};
use super::trace::perfetto;
use super::unit::Piece;
use super::{loss, write};
use crate::cli::{Explore as Options, TraceFormat};
use crate::exit::Exit;
use crate::interrupt;
use crate::report::{plain, put};

/// Runs a schedule as often as asked, tells it once, and says whether all ended the same.
///
/// # Errors
/// A schedule is of one race under one variant; QEMU cannot be started; the trace cannot be written.
pub fn run(bed: Bed<'_>, options: &Options, pieces: &[Piece<'_>], token: &str) -> Result<Exit> {
    let piece = match pieces {
        [] => return Ok(Exit::NoVerdict),
        [piece] => piece,
        _ => {
            // Without --variant it is the default's.
            let mut defaults = pieces.iter().filter(|piece| piece.unit.variant == "default");
            let first = defaults.next();
            ensure!(
                !options.scenarios.is_empty() && defaults.next().is_none(),
                "a schedule is of one race: name it (and its --variant)"
            );
            first.unwrap_or(&pieces[0])
        }
    };
    let all = replays(bed, piece, token, options.count.unwrap_or(1))?;
    ensure!(!interrupt::requested(), "interrupted; no QEMU is left");
    let Some(first) = all.first() else { return Ok(Exit::NoVerdict) };
    put(&told(first, options));
    if let Some(path) = &options.trace {
        write_trace(options, first, path)?;
    }
    let same = all.iter().filter(|played| end_of(played) == end_of(first)).count();
    if all.len() > 1 || options.count.is_some_and(|count| count > 1) {
        let runs = first_runs(&all, options.count.unwrap_or(1));
        let same = if same == all.len() { runs } else { same as u64 };
        put(&format!("{same} of {runs} ended the same: {}\n", verdict(&first.line)));
    }
    let good = same == all.len() && all.iter().all(|played| played.line.met);
    Ok(if good { Exit::Passed } else { Exit::Failed })
}

/// A schedule that holds is repeated within a boot.
fn first_runs(all: &[Played], count: u64) -> u64 {
    if all[0].line.verdict == Verdict::Held { count } else { all.len() as u64 }
}

/// Boots a schedule `count` times. The first boot tells it step by step; where it holds, the others
/// are made in one boot more.
///
/// # Errors
/// QEMU cannot be started.
pub fn replays(bed: Bed<'_>, piece: &Piece<'_>, token: &str, count: u64) -> Result<Vec<Played>> {
    let words = |count: u64, trace: u8| {
        vec![format!("token={token}"), format!("count={count}"), format!("trace={trace}")]
    };
    let mut all: Vec<Played> = Vec::new();
    while (all.len() as u64) < count {
        let holds = all.first().is_some_and(|first| first.line.verdict == Verdict::Held);
        let words = if holds { words(count - 1, 0) } else { words(1, 1) };
        all.extend(bed.play(piece, words, |_| {})?);
        // What is no schedule of this race is none the next time.
        let broken = all.first().is_none_or(|first| first.line.verdict == Verdict::Broken);
        if holds || broken || interrupt::requested() {
            break;
        }
    }
    Ok(all)
}

/// How a replay ended, and by which steps: what must be the same each time.
fn end_of(played: &Played) -> (Verdict, &str, &str) {
    (played.line.verdict, &played.line.rule, &played.line.token)
}

fn verdict(line: &Line) -> String {
    match line.verdict {
        Verdict::Held => "held".into(),
        Verdict::Lost => format!("lost: {}", line.rule),
        Verdict::Skipped | Verdict::Broken => line.why.clone(),
    }
}

fn told(played: &Played, options: &Options) -> String {
    if played.line.verdict == Verdict::Lost {
        return loss(played, options);
    }
    let timeline = Timeline::read(played.lab.iter().map(String::as_str));
    let unit = &played.line.unit;
    let text = plain(&verdict(&played.line));
    format!("{}{} under {}: {text}\n", render(&timeline), unit.scenario, unit.variant)
}

/// Runs the schedule of a loss again and writes what happened to `path`.
///
/// # Errors
/// QEMU cannot be started, or the trace cannot be written.
pub fn trace(
    bed: Bed<'_>,
    options: &Options,
    pieces: &[Piece<'_>],
    line: &Line,
    path: &Path,
) -> Result<()> {
    let Some(piece) = pieces.iter().find(|piece| piece.unit == line.unit) else { return Ok(()) };
    for played in replays(bed, piece, &line.token, 1)? {
        write_trace(options, &played, path)?;
    }
    Ok(())
}

fn write_trace(options: &Options, played: &Played, path: &Path) -> Result<()> {
    let timeline = Timeline::read(played.lab.iter().map(String::as_str));
    let unit = &played.line.unit;
    let title = format!("{} under {}", unit.scenario, unit.variant);
    let text = match options.trace_format {
        TraceFormat::Perfetto => serde_json::to_string(&perfetto(&timeline, &title))?,
        TraceFormat::Casemate => casemate(&timeline, Level::El1),
        TraceFormat::CasemateEl2 => casemate(&timeline, Level::El2),
    };
    write(path, &text)?;
    put(&format!("trace: {}\n", super::shown(path)));
    Ok(())
}
