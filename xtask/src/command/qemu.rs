//! `cargo xtask qemu`: play scenarios and tell their story.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ktap::item::{Expect, Item};
use link::Linked;

use crate::calibrate;
use crate::cli::{self, Qemu as Options};
use crate::command::gdb;
use crate::command::test::prog::ITEM;
use crate::exit::Exit;
use crate::guest::{Deadline, Next};
use crate::items;
use crate::judge::judge;
use crate::machine::{Machine, Qemu, nearest};
use crate::prog;
use crate::report::{plain, put};
use crate::run::{Boot, Booted, Kernel, output_folder};
use crate::symbol::Symbols;
use crate::toolchain;

/// Played when no scenario is named: the founding case.
const FOUNDING: &str = "aa-fault";

/// Runs the command.
///
/// # Errors
/// Wrong names, missing tools, a kernel that does not build.
pub fn run(options: &Options) -> Result<Exit> {
    // Before anything is built: a bad object is told at once.
    let linked = options.prog.prog.as_ref().map(|_| prog::link(&options.prog)).transpose()?;
    let toolchain = toolchain::choose(&options.setup)?;
    let machine = Machine::from_options(&options.virt);
    if options.list {
        let kernel = Kernel::build(&toolchain, machine.build)?;
        list(&items::read(&kernel.elf)?);
        return Ok(Exit::Passed);
    }
    let qemu = Qemu::find(&options.setup)?;
    qemu.check_cpu(&machine.cpu)?;
    let kernel = Kernel::build(&toolchain, machine.build)?;
    let items = items::read(&kernel.elf)?;
    let names = match options.scenarios.as_slice() {
        [] if linked.is_some() => vec![ITEM.to_string()],
        [] => vec![FOUNDING.to_string()],
        names => names.to_vec(),
    };
    let mut selected = items::select(&items, &names)?;
    if options.scenarios.is_empty() && linked.is_none() {
        // The story, and not its explored relative.
        selected.retain(|item| item.name == FOUNDING);
    }
    check_variant(&items, &options.variant)?;
    if options.gdb {
        return gdb::session(
            &gdb_options(options, &names[0]),
            &qemu,
            &machine,
            &kernel,
            selected[0],
        );
    }
    let symbols = Symbols::of(&kernel.elf);
    let measured = || calibrate::limit(&qemu, &machine, &kernel, &items);
    let mut exit = Exit::Passed;
    let mut qemu_args = options.qemu_args.clone();
    if let Some(linked) = &linked {
        qemu_args.extend(prog::qemu_arguments(&handed_over(linked)?));
    }
    for (number, group) in boots(&selected).into_iter().enumerate() {
        let boot = Boot {
            qemu: &qemu,
            machine: &machine,
            kernel: &kernel,
            items: group,
            variant: &options.variant,
            words: vec!["story=1".into()],
            qemu_args: qemu_args.clone(),
            deadline: match options.timeout {
                Some(seconds) => Deadline::fixed(Duration::from_secs(seconds)),
                None => {
                    Deadline { again: Some(&measured), ..Deadline::fixed(calibrate::UNMEASURED) }
                }
            },
            log: if number == 0 { "qemu".into() } else { format!("qemu.{}", number + 1) },
        };
        exit = exit.and(play(&boot, &symbols, linked.as_ref())?);
    }
    Ok(exit)
}

/// Writes the image of a program where QEMU finds it.
fn handed_over(linked: &Linked) -> Result<PathBuf> {
    let folder = output_folder();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = folder.join("prog.image");
    std::fs::write(&file, &linked.image)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(file)
}

/// What can share a boot does; what must end badly has one of its own.
fn boots<'a>(items: &[&'a Item]) -> Vec<Vec<&'a Item>> {
    let (together, alone): (Vec<_>, Vec<_>) =
        items.iter().copied().partition(|item| item.expect == Expect::Pass);
    let together = if together.is_empty() { vec![] } else { vec![together] };
    together.into_iter().chain(alone.into_iter().map(|item| vec![item])).collect()
}

/// One boot: its command line, its story, its verdict.
fn play(boot: &Boot<'_>, symbols: &Symbols, linked: Option<&Linked>) -> Result<Exit> {
    let arguments: Vec<_> =
        boot.arguments().iter().map(|argument| quoted(&argument.to_string_lossy())).collect();
    put(&format!("$ {} {}\n", boot.qemu.path.display(), arguments.join(" ")));
    let booted = boot.run(|line, _| {
        if let Some(line) = told(line) {
            let place = linked.and_then(|linked| linked.place_in(line));
            let place = place.map_or(String::new(), |place| format!(" ({place})"));
            put(&format!("{}{place}\n", plain(line)));
            for frame in symbols.of_line(line) {
                put(&format!("      {frame}\n"));
            }
        }
        Next::More
    })?;
    for line in booted.outcome.tail.iter().filter(|line| line.starts_with("hang: ")) {
        put(&format!("{}\n", plain(line)));
    }
    let (exit, verdict) = verdict(boot, &booted);
    put(&format!("{verdict}\n"));
    Ok(exit)
}

/// The lines of a log that are for people: all but KTAP's own punctuation.
fn told(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    let punctuation = ["KTAP version", "1..", "# Subtest:", "ok ", "not ok "];
    if trimmed.is_empty() || punctuation.iter().any(|start| trimmed.starts_with(start)) {
        return None;
    }
    let text = trimmed.strip_prefix("# ").unwrap_or(trimmed);
    Some(text.strip_prefix("| ").unwrap_or(text))
}

/// The one line at the end. Under the default protocol an oops that the catalogue asks for is a
/// pass; under a broken variant the guest's own verdict stands.
fn verdict(boot: &Boot<'_>, booted: &Booted) -> (Exit, String) {
    let names: Vec<_> = boot.items.iter().map(|item| item.name.as_str()).collect();
    let names = names.join(", ");
    let place = format!("{}, {:.2} s", boot.machine, booted.finished.wall.as_secs_f32());
    if boot.variant == "default"
        && let [item] = boot.items[..]
        && item.expect != Expect::Pass
    {
        return match judge(&item.expect, &booted.outcome) {
            Ok(()) => (Exit::Passed, format!("PASS {names}: ended as it must ({place})")),
            Err(why) => {
                let exit = booted.outcome.exit.max(Exit::Failed);
                (exit, format!("FAIL {names}: {why} ({place})"))
            }
        };
    }
    match booted.outcome.exit {
        Exit::Passed => (Exit::Passed, format!("PASS {names} ({place})")),
        exit => {
            let under = match boot.variant {
                "default" => String::new(),
                variant => format!(" under {variant}"),
            };
            let why = reason(booted);
            (
                exit,
                format!(
                    "FAIL {names}{under} {exit}: {why} ({place}; log: {})",
                    booted.log.display()
                ),
            )
        }
    }
}

/// Why a boot failed: a failing claim's own words, where there are any.
fn reason(booted: &Booted) -> String {
    let claim = booted.outcome.results.iter().flat_map(|result| &result.output).find_map(|line| {
        line.strip_prefix("FAIL: ")
            .filter(|text| *text != "deadlock")
            .or_else(|| line.starts_with("deadlock: ").then_some(line.as_str()))
    });
    match (booted.outcome.exit, claim) {
        (Exit::Failed, Some(claim)) => claim.to_string(),
        _ => booted.outcome.why.clone(),
    }
}

/// Checks a variant's name against those that the image's items know.
///
/// # Errors
/// The nearest that exists.
pub fn check_variant(items: &[Item], variant: &str) -> Result<()> {
    let known: Vec<&str> =
        items.iter().flat_map(|item| &item.variants).map(|variant| variant.name.as_str()).collect();
    if variant == "default" || known.contains(&variant) {
        return Ok(());
    }
    let hint = nearest(variant, known.into_iter())
        .map_or(String::new(), |variant| format!("; did you mean {variant}?"));
    bail!("no protocol variant is called {variant}{hint} (`cargo xtask qemu --list` lists them)")
}

fn list(items: &[Item]) {
    for item in items.iter().filter(|item| item.suite == "scenario") {
        put(&format!("{:<28} {}\n", item.name, item.about));
        for variant in &item.variants {
            put(&format!("  --variant {:<16} {}\n", variant.name, variant.about));
        }
    }
}

fn gdb_options(options: &Options, scenario: &str) -> cli::Gdb {
    cli::Gdb {
        scenario: scenario.into(),
        variant: options.variant.clone(),
        test: None,
        schedule: None,
        vscode: false,
        batch: None,
        virt: options.virt.clone(),
        setup: options.setup.clone(),
    }
}

/// An argument as a shell takes it.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:@+%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_string();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_told_without_ktap_s_punctuation() {
        assert_eq!(told("    # | arena 0: created"), Some("arena 0: created"));
        assert_eq!(told("# oops: cpu=0"), Some("oops: cpu=0"));
        assert_eq!(told("Bail out! oops: x"), Some("Bail out! oops: x"));
        for line in
            ["KTAP version 1", "    1..3", "    ok 1 x", "not ok 1 s", "    # Subtest: s", ""]
        {
            assert_eq!(told(line), None, "{line}");
        }
    }

    #[test]
    fn arguments_can_be_pasted() {
        assert_eq!(quoted("virt,gic-version=2"), "virt,gic-version=2");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    fn item(name: &str, expect: Expect) -> Item {
        Item {
            name: name.into(),
            suite: "scenario".into(),
            about: String::new(),
            expect,
            variants: vec![ktap::item::Variant {
                name: "busy".into(),
                about: String::new(),
                expect: Expect::Fail("x".into()),
            }],
            min_cpus: 1,
            timeout_ms: 0,
            explored: false,
        }
    }

    #[test]
    fn what_must_end_badly_is_booted_alone() {
        let items =
            [item("a", Expect::Pass), item("b", Expect::Oops("x".into())), item("c", Expect::Pass)];
        let names: Vec<Vec<_>> = boots(&items.iter().collect::<Vec<_>>())
            .iter()
            .map(|boot| boot.iter().map(|item| item.name.as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["a", "c"], vec!["b"]]);
    }

    #[test]
    fn a_misspelt_variant_is_refused_with_the_nearest() {
        let items = [item("a", Expect::Pass)];
        assert!(check_variant(&items, "default").is_ok() && check_variant(&items, "busy").is_ok());
        let error = check_variant(&items, "bussy").unwrap_err().to_string();
        assert!(error.contains("did you mean busy?"), "{error}");
    }

    /// The verdict on a boot of one item that must come to `expect`.
    fn verdict_on(expect: Expect, variant: &str, log: &str, code: i32) -> (Exit, String) {
        let end = crate::guest::End::Exited(code);
        let item = item("a", expect);
        let machine = Machine::matrix(crate::cli::Matrix::Quick).remove(0);
        let boot = Boot {
            qemu: &Qemu { path: "/nowhere".into(), version: (7, 2), name: String::new() },
            machine: &machine,
            kernel: &Kernel::nowhere(),
            items: vec![&item],
            variant,
            words: Vec::new(),
            qemu_args: Vec::new(),
            deadline: Deadline::fixed(Duration::ZERO),
            log: "log".into(),
        };
        let mut session = crate::session::Session::new(&[("scenario".into(), "a".into())]);
        let head = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: scenario\n    1..1";
        for line in head.lines().chain(log.lines()) {
            session.line(line.as_bytes());
        }
        let outcome = session.finish(&end, "");
        let wall = Duration::ZERO;
        let finished = crate::guest::Finished { end, wall, complaints: String::new() };
        let times = crate::run::Times::default();
        verdict(&boot, &Booted { outcome, finished, times, log: "the.log".into() })
    }

    const PASSED: &str = "    ok 1 a\nok 1 scenario";
    const DEADLOCK: &str = "    # deadlock: lock arena held by cpu0\n    # FAIL: deadlock\n    \
                            not ok 1 a\nnot ok 1 scenario";
    const OOPS: &str = "    # FAIL: before\nBail out! oops: near null";

    #[test]
    fn an_end_that_the_catalogue_asks_for_passes_under_the_default_protocol_only() {
        let oops = || Expect::Oops("near null".into());
        let (exit, text) = verdict_on(oops(), "default", OOPS, 3);
        assert!(exit == Exit::Passed && text.starts_with("PASS a: ended as it must"), "{text}");
        let (exit, text) = verdict_on(oops(), "busy", OOPS, 3);
        assert_eq!(exit, Exit::Crashed);
        assert!(text.starts_with("FAIL a under busy crashed: the guest gave up: oops"), "{text}");
        let (exit, text) = verdict_on(oops(), "default", PASSED, 0);
        assert!(exit == Exit::Failed && text.starts_with("FAIL a: expected an oops"), "{text}");
    }

    #[test]
    fn a_failure_is_told_in_the_words_of_its_claim() {
        let (exit, text) = verdict_on(Expect::Pass, "default", PASSED, 0);
        assert!(exit == Exit::Passed && text.starts_with("PASS a ("), "{text}");
        let (exit, text) = verdict_on(Expect::Pass, "busy", DEADLOCK, 1);
        assert_eq!(exit, Exit::Failed);
        assert!(text.starts_with("FAIL a under busy failed: deadlock: lock arena held"), "{text}");
        let (exit, text) = verdict_on(Expect::Pass, "busy", DEADLOCK, 0);
        assert_eq!(exit, Exit::NoVerdict);
        assert!(text.contains("the guest exited with 0"), "no claim explains that: {text}");
        let swapped = DEADLOCK.replace("deadlock: lock arena held by cpu0", "a");
        let swapped = swapped.replace("FAIL: deadlock", "FAIL: deadlock\n    # FAIL: a claim");
        let (_, text) = verdict_on(Expect::Pass, "busy", &swapped, 1);
        assert!(text.starts_with("FAIL a under busy failed: a claim ("), "{text}");
    }
}
