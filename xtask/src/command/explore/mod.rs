//! `cargo xtask explore`: races under one schedule after the other, and the schedule that loses.

mod boot;
mod campaign;
mod casemate;
pub mod log;
mod replay;
mod result;
mod table;
mod timeline;
mod trace;
mod unit;

use std::path::Path;

use anyhow::{Context, Result, bail};
use explore::schedule::Schedule;
use ktap::item::Item;

use crate::cli::{EXPLORED_CPU, Explore as Options};
use crate::command::qemu::check_variant;
use crate::exit::Exit;
use crate::image::Build;
use crate::interrupt;
use crate::items;
use crate::machine::{Machine, Qemu};
use crate::report::{plain, put};
use crate::run::{Kernel, prepare_output};
use crate::toolchain;

pub use boot::{Bed, Played};
pub use replay::replays;
pub use result::{Line, Verdict};
pub use table::rows;
pub use timeline::Timeline;
pub use unit::{Piece, pieces};

use result::{Book, contradictions, once, read};

/// Runs the command.
///
/// # Errors
/// Wrong names, a text that is no token, missing tools, a kernel that does not build, files that
/// cannot be read or written.
pub fn run(options: &Options) -> Result<Exit> {
    if !options.merge.is_empty() {
        return merge(options);
    }
    if let Some(token) = &options.schedule {
        check_token(token)?;
    }
    prepare_output()?;
    let toolchain = toolchain::choose(&options.setup)?;
    let qemu = Qemu::find(&options.setup)?;
    qemu.check_cpu(&options.cpu)?;
    let kernel = Kernel::build(&toolchain, Build::Release)?;
    let items = items::read(&kernel.elf)?;
    let races = races(&items, options)?;
    if let Some(variant) = &options.variant {
        check_variant(&items, variant)?;
    }
    let pieces = pieces(options, &races, &kernel.hash()?);
    let bed = Bed { qemu: &qemu, kernel: &kernel, items: &items };
    match &options.schedule {
        Some(token) => replay::run(bed, options, &pieces, token),
        None => explore(bed, options, &pieces),
    }
}

/// The races that are meant: those named, or all.
fn races<'a>(items: &'a [Item], options: &Options) -> Result<Vec<&'a Item>> {
    if options.scenarios.is_empty() {
        // Those that name the variant, where there is one: under it the others are the default.
        let is_meant = |item: &&Item| match options.variant.as_deref() {
            None | Some("default") => item.explored,
            Some(variant) => item.explored && item.variants.iter().any(|v| v.name == variant),
        };
        return Ok(items.iter().filter(is_meant).collect());
    }
    let mut selected = items::select(items, &options.scenarios)?;
    // A schedule is of the race that is named, not of `NAME.*` as well.
    let named = |item: &&&Item| options.scenarios.contains(&item.name);
    if options.schedule.is_some() && selected.iter().any(|item| named(&item)) {
        selected.retain(|item| named(&item));
    }
    let names: Vec<_> = selected.iter().map(|item| item.name.as_str()).collect();
    // `NAME.*` may be no race where NAME is one.
    selected.retain(|item| item.explored);
    if selected.is_empty() {
        let all: Vec<_> = items.iter().filter(|i| i.explored).map(|i| i.name.as_str()).collect();
        bail!("{} is no race; these are: {}", names.join(", "), all.join(", "));
    }
    Ok(selected)
}

/// Checks that a text is a token.
///
/// # Errors
/// What is wrong with it, and what one looks like.
pub fn check_token(token: &str) -> Result<()> {
    let Err(error) = Schedule::parse(token) else { return Ok(()) };
    bail!(
        "{token:?} is no token: {error} (a6b8a is six steps of CPU 0, eight of CPU 1, one of CPU 0)"
    )
}

/// The campaign, its table, and the schedules that lost.
fn explore(bed: Bed<'_>, options: &Options, pieces: &[Piece<'_>]) -> Result<Exit> {
    let is_known = options.json.exists() && !options.fresh;
    let known = if is_known { once(read(&options.json)?) } else { Vec::new() };
    // What crashed or hung is run again: the machine may have been to blame.
    let known: Vec<_> =
        known.into_iter().filter(|line| line.met || line.verdict != Verdict::Broken).collect();
    let book = Book::open(&options.json)?;
    let ended = campaign::run(bed, pieces, &known, book)?;
    for played in &ended.played {
        if played.line.verdict == Verdict::Broken && !played.line.met {
            let unit = &played.line.unit;
            let (why, log) = (plain(&played.line.why), &played.log);
            put(&format!("{} under {}: {why} (log: {log})\n", unit.scenario, unit.variant));
        }
        let wrong = !played.line.met && matches!(played.line.verdict, Verdict::Lost);
        let asked = options.variant.is_some() && played.line.verdict == Verdict::Lost;
        if wrong || asked {
            put(&loss(played, options));
        }
    }
    if let (Some(path), Some(line)) = (&options.trace, first_lost(&ended.lines)) {
        replay::trace(bed, options, pieces, line, path)?;
    }
    let rows = rows(&ended.lines);
    put(&table::table(&rows));
    let old = ended.lines.len() - ended.played.len();
    if old > 0 {
        let from = shown(&options.json);
        put(&format!("{old} of {} results were there in {from} (--fresh: anew)\n", pieces.len()));
    }
    if interrupt::requested() {
        bail!("interrupted; no QEMU is left, results are in {}", shown(&options.json));
    }
    Ok(table::exit(&rows, options.shard != "0/1"))
}

fn first_lost(lines: &[Line]) -> Option<&Line> {
    lines.iter().find(|line| line.verdict == Verdict::Lost)
}

/// A schedule that lost: its timeline, why it lost, and how to run it again.
pub fn loss(played: &Played, options: &Options) -> String {
    let line = &played.line;
    let unit = &line.unit;
    let timeline = Timeline::read(played.lab.iter().map(String::as_str));
    let mut text = format!("{} under {} lost: {}\n", unit.scenario, unit.variant, line.rule);
    text += &timeline::render(&timeline);
    played.oracle.iter().for_each(|said| text += &format!("{}\n", plain(said)));
    if played.oracle.is_empty() {
        text += &format!("{}\n", plain(&line.why));
    }
    text + &again(played, options)
}

/// The commands that run a schedule again.
fn again(played: &Played, options: &Options) -> String {
    let (line, unit) = (&played.line, &played.line.unit);
    let mut machine = String::new();
    if let Some(smp) = options.smp {
        machine += &format!(" --smp {smp}");
    }
    if options.cpu != EXPLORED_CPU {
        machine += &format!(" --cpu {}", options.cpu);
    }
    if options.gic != 2 {
        machine += &format!(" --gic {}", options.gic);
    }
    // The debugger does not know how many actors the race has.
    let debugged = Machine::new(&options.cpu, options.gic, played.smp).flags();
    let what = format!("{} --variant {} --schedule {}", unit.scenario, unit.variant, line.token);
    let threads = if options.mttcg { " --mttcg" } else { "" };
    format!(
        "again:     cargo xtask explore {what}{machine}{threads}\n\
         debugged:  cargo xtask gdb {what}{debugged}\n"
    )
}

/// One table of the results of several files.
fn merge(options: &Options) -> Result<Exit> {
    let lines: Result<Vec<_>> = options.merge.iter().map(|path| read(path)).collect();
    let lines: Vec<_> = lines?.into_iter().flatten().collect();
    let contradictions = contradictions(&lines);
    let lines = once(lines);
    let mut kernels: Vec<_> = lines.iter().map(|line| line.unit.kernel.as_str()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    if kernels.len() > 1 {
        put(&format!("results of {} kernels, each in rows of its own\n", kernels.len()));
    }
    let rows = rows(&lines);
    put(&table::table(&rows));
    contradictions.iter().for_each(|line| put(&format!("{line}\n")));
    let exit = if contradictions.is_empty() { Exit::Passed } else { Exit::Failed };
    Ok(exit.and(table::exit(&rows, false)))
}

/// A path as a person gave it, or would.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let path = path.canonicalize().unwrap_or(path.into());
    let short = here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    short.unwrap_or(path).display().to_string()
}

/// Writes a file that a person asked for.
fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)
        .with_context(|| format!("the trace {} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_token_is_refused_with_what_one_looks_like() {
        assert!(check_token("a6b8a").is_ok());
        let error = check_token("6ab").unwrap_err().to_string();
        assert!(error.contains("no token") && error.contains("a6b8a is six steps"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn the_commands_that_run_a_schedule_again_name_the_machine() {
        let line = Line { token: "ab2".into(), ..result::tests::held("plain-store", "0/1") };
        let played = Played { line, lab: vec![], oracle: vec![], log: String::new(), smp: 3 };
        let text = again(&played, &unit::tests::options(""));
        let what = "check-then-store --variant plain-store --schedule ab2";
        assert!(text.contains(&format!("cargo xtask explore {what}\n")), "{text}");
        assert!(
            text.contains(&format!("cargo xtask gdb {what} --cpu neoverse-n1 --smp 3\n")),
            "{text}"
        );
        let text = again(&played, &unit::tests::options("--smp 4 --mttcg --cpu max"));
        assert!(text.contains(&format!("{what} --smp 4 --cpu max --mttcg\n")), "{text}");
    }

    #[test]
    fn all_races_are_meant_where_none_is_named_and_nothing_else_can_be() {
        let race = unit::tests::race();
        let test = Item { name: "other".into(), explored: false, ..race.clone() };
        let items = [test, race];
        let names = |line: &str| {
            let races = races(&items, &unit::tests::options(line));
            races.map(|all| all.iter().map(|item| item.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(names("").unwrap(), ["check-then-store"]);
        assert_eq!(names("--variant plain-store").unwrap(), ["check-then-store"]);
        assert!(names("--variant busy").unwrap().is_empty());
        assert_eq!(names("check-then-store --variant busy").unwrap(), ["check-then-store"]);
        let more = ["check-then-store.more", "check-then-store.test"];
        let more = more.map(|name| Item {
            name: name.into(),
            explored: name.ends_with("more"),
            ..items[1].clone()
        });
        let items = [items.clone().to_vec(), more.to_vec()].concat();
        let of_both = |line: &str| {
            let races = races(&items, &unit::tests::options(line)).unwrap();
            races.iter().map(|item| item.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of_both("check-then-store"), ["check-then-store", "check-then-store.more"]);
        assert_eq!(of_both("check-then-store --schedule a2"), ["check-then-store"]);
        let error = names("other").unwrap_err().to_string();
        assert_eq!(error, "other is no race; these are: check-then-store");
        assert!(names("chek-then-store").unwrap_err().to_string().contains("did you mean"));
    }
}
