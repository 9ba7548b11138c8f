//! The log of a guest: whatever it sends, the parser says what is wrong with it, and believes only what
//! the writer could have written.

use ktap::parse::{ERRORS, Event, Parser, Status};
use ktap::write::{self, Verdict};

use crate::is_a_sentence;

/// Any bytes are parsed: the errors are sentences and not too many, a log is complete exactly if it
/// ended, and one that is complete and without errors means the same when the writer writes it.
///
/// # Panics
/// If that does not hold.
pub fn holds(bytes: &[u8]) {
    let (events, rest) = parsed(bytes);
    let errors = events.iter().filter_map(|event| match event {
        Event::Error(error) => Some(error),
        _ => None,
    });
    errors.clone().for_each(|error| is_a_sentence(error));
    assert!(errors.clone().count() <= ERRORS, "a flood of errors");
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    let ends = count(|event| matches!(event, Event::End));
    let bailed = count(|event| matches!(event, Event::BailOut(_))) > 0;
    assert_eq!(rest.is_none(), ends == 1 || bailed, "{rest:?}");
    assert!(ends <= 1, "it ended {ends} times");
    rest.iter().for_each(|rest| is_a_sentence(rest));
    if ends == 1 && !bailed && errors.count() == 0 {
        counts_are_as_planned(&events);
        if could_be_ours(&events) {
            let log = written(&events);
            assert_eq!(parsed(log.as_bytes()), (events, None), "written as {log}");
        }
    }
}

/// What the parser makes of a log, and where that stops if it is incomplete.
fn parsed(bytes: &[u8]) -> (Vec<Event>, Option<String>) {
    let mut parser = Parser::new();
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
    let events = lines.flat_map(|line| parser.feed_line(line)).collect();
    (events, parser.finish())
}

/// A sound log has as many suites and tests as its plans say, and no suite passes that must not.
fn counts_are_as_planned(events: &[Event]) {
    let (mut suites, mut tests, mut sound) = (0, 0, true);
    for event in events {
        match event {
            Event::Plan(planned) => suites = *planned,
            Event::Suite { tests: planned, .. } => (tests, sound) = (*planned, true),
            Event::Item { status, .. } => {
                tests = tests.checked_sub(1).expect("a test beyond the plan");
                sound &= *status != Status::NotOk;
            }
            Event::SuiteResult { ok, .. } => {
                suites = suites.checked_sub(1).expect("a suite beyond the plan");
                assert_eq!((tests, *ok), (0, sound), "tests left, and whether all passed");
            }
            _ => {}
        }
    }
    assert_eq!(suites, 0, "suites left");
}

/// Whether the writer, which is stricter than the parser, would leave every text as it is.
fn could_be_ours(events: &[Event]) -> bool {
    let plain = |text: &str| !text.contains('\t');
    let name = |text: &str| plain(text) && !text.contains('#') && !text.starts_with("- ");
    events.iter().all(|event| match event {
        Event::Item { name: text, status: Status::Skip(why), .. } => name(text) && name(why),
        Event::Item { name: text, .. }
        | Event::Suite { name: text, .. }
        | Event::SuiteResult { name: text, .. } => name(text),
        Event::Diagnostic { text, .. } => plain(text),
        _ => true,
    })
}

/// The log that the writer makes of a sound one.
fn written(events: &[Event]) -> String {
    let (mut log, mut suites) = (String::new(), 0);
    let mut out = |line: std::fmt::Arguments<'_>| log.push_str(&format!("{line}\n"));
    for event in events {
        match event {
            Event::Plan(suites) => write::open(&mut out, *suites),
            Event::Suite { name, tests } => write::begin_suite(&mut out, name, *tests),
            Event::Item { number, name, status, .. } => {
                let verdict = match status {
                    Status::Ok => Verdict::Ok,
                    Status::NotOk => Verdict::NotOk,
                    Status::Skip(why) => Verdict::Skip(why),
                };
                write::result(&mut out, *number, name, verdict);
            }
            Event::SuiteResult { name, ok } => {
                suites += 1;
                write::suite_result(&mut out, suites, name, *ok);
            }
            Event::Diagnostic { depth: 0, text } => write::remark(&mut out, format_args!("{text}")),
            Event::Diagnostic { text, .. } => write::diagnostic(&mut out, format_args!("{text}")),
            Event::Header | Event::End | Event::BailOut(_) | Event::Error(_) => {}
        }
    }
    log
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::{changes, damaged};

    const LOG: &[u8] = include_bytes!("../seed/log/two-suites");

    /// Lines that mean something somewhere, in no order.
    const LINES: [&str; 22] = [
        "KTAP version 1",
        "    KTAP version 1",
        "1..0",
        "1..1",
        "1..2",
        "    1..0",
        "    1..1",
        "    1..2",
        "    # Subtest: a",
        "    # Subtest: b",
        "    ok 1 x",
        "    not ok 1 x",
        "    ok 2 y # SKIP why",
        "    ok 2 - y",
        "ok 1 a",
        "not ok 1 a",
        "ok 2 b",
        "# remark",
        "    # diagnostic",
        "Bail out! why",
        "",
        "garbage",
    ];

    /// Suites of tests that passed (0), failed (1) or were skipped, under names that [`LINES`] has too.
    fn sound(suites: &[Vec<u8>]) -> String {
        let mut events = vec![Event::Plan(suites.len())];
        for (suite, name) in suites.iter().zip(["a", "b"].into_iter().cycle()) {
            events.push(Event::Suite { name: name.into(), tests: suite.len() });
            for (verdict, number) in suite.iter().zip(1..) {
                let status = match verdict {
                    0 => Status::Ok,
                    1 => Status::NotOk,
                    _ => Status::Skip("why".into()),
                };
                let (suite, name) = (name.into(), if number == 1 { "x" } else { "y" }.into());
                events.push(Event::Item { suite, number, name, status });
            }
            events.push(Event::SuiteResult { name: name.into(), ok: !suite.contains(&1) });
        }
        written(&events)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::CASES))]

        #[test]
        fn any_bytes_are_a_log_or_are_told_apart(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            holds(&bytes);
        }

        #[test]
        fn lines_in_any_order_are_a_log_or_are_told_apart(
            lines in prop::collection::vec(prop::sample::select(&LINES[..]), 0..60),
        ) {
            holds(lines.join("\n").as_bytes());
        }

        #[test]
        fn a_sound_log_with_a_few_other_lines_is_a_log_or_is_told_apart(
            suites in prop::collection::vec(prop::collection::vec(0..3_u8, 0..3), 0..3),
            others in prop::collection::vec((any::<u16>(), prop::sample::select(&LINES[..])), 0..2),
            reversed in prop::collection::vec(any::<u16>(), 0..2),
        ) {
            let mut lines: Vec<_> = sound(&suites).lines().map(String::from).collect();
            let length = lines.len();
            let place = |at: u16| (usize::from(at) * length) >> 16;
            others.iter().for_each(|&(at, line)| lines[place(at)] = line.into());
            for line in reversed.into_iter().map(place) {
                let failed = lines[line].contains("not ok");
                let (from, to) = if failed { ("not ok", "ok") } else { ("ok", "not ok") };
                lines[line] = lines[line].replacen(from, to, 1);
            }
            holds(lines.join("\n").as_bytes());
        }

        #[test]
        fn a_damaged_log_is_a_log_or_is_told_apart(changes in changes()) {
            holds(&damaged(LOG, &changes));
        }
    }

    #[test]
    fn the_seeds_hold() {
        crate::replay("log", holds);
    }
}
