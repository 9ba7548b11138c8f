use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::write;

const GOOD: &str = "KTAP version 1
1..2
# boot: cpus=2
    KTAP version 1
    # Subtest: lock
    1..2
    ok 1 masks
    # FAIL: why
    not ok 2 nests
not ok 1 lock
    KTAP version 1
    # Subtest: smp
    1..1
    ok 1 ticks # SKIP needs more CPUs
ok 2 smp
";

fn events(log: &str) -> Vec<Event> {
    let mut parser = Parser::new();
    log.lines().flat_map(|line| parser.feed_line(line.as_bytes())).collect()
}

fn errors(log: &str) -> Vec<ErrorKind> {
    let kind = |event| match event {
        Event::Error(error) => Some(error.kind),
        _ => None,
    };
    events(log).into_iter().filter_map(kind).collect()
}

fn rest_of(log: &str) -> Option<String> {
    let mut parser = Parser::new();
    log.lines().for_each(|line| drop(parser.feed_line(line.as_bytes())));
    parser.finish()
}

#[test]
fn a_good_log_has_no_error_and_an_end() {
    assert_eq!(errors(GOOD), []);
    assert_eq!(events(GOOD).last(), Some(&Event::End));
    assert_eq!(rest_of(GOOD), None);
    let statuses: Vec<_> = events(GOOD)
        .into_iter()
        .filter_map(|event| match event {
            Event::Item { name, status, .. } => Some((name, status)),
            _ => None,
        })
        .collect();
    assert_eq!(
        statuses,
        [
            ("masks".to_string(), Status::Ok),
            ("nests".to_string(), Status::NotOk),
            ("ticks".to_string(), Status::Skip("needs more CPUs".to_string())),
        ]
    );
}

#[test]
fn every_cut_of_a_log_is_incomplete() {
    let lines: Vec<_> = GOOD.lines().collect();
    for count in 0..lines.len() {
        let log: String = lines[..count].iter().flat_map(|line| [*line, "\n"]).collect();
        assert!(rest_of(&log).is_some(), "cut after {count} lines");
    }
}

#[test]
fn each_way_of_breaking_the_dialect_is_told_by_name() {
    for (from, to, kind) in [
        ("KTAP version 1\n1..2", "hello\nKTAP version 1\n1..2", ErrorKind::NoHeader),
        ("# boot: cpus=2", "KTAP version 1", ErrorKind::SecondHeader),
        ("1..2\n# boot: cpus=2", "# boot: cpus=2\n1..2", ErrorKind::NoPlan),
        ("    # FAIL: why", "    1..2", ErrorKind::StrayPlan),
        ("    not ok 2 nests", "    not ok 3 nests", ErrorKind::Number),
        ("    not ok 2 nests", "    not ok 2 nests\n    ok 3 more", ErrorKind::TooMany),
        ("    ok 1 masks\n", "", ErrorKind::TooFew),
        ("not ok 1 lock", "not ok 1 locks", ErrorKind::OtherName),
        ("not ok 1 lock", "ok 1 lock", ErrorKind::Contradiction),
        ("ok 2 smp\n", "ok 2 smp\n# more\n", ErrorKind::AfterTheEnd),
        ("    ok 1 masks", "  ok 1 masks", ErrorKind::Unknown),
        ("    ok 1 masks", "    ok +1 masks", ErrorKind::Unknown),
        ("1..2\n# boot: cpus=2", "1..+2\n# boot: cpus=2", ErrorKind::NoPlan),
        ("    ok 1 masks", "    ok 1 masks # TIMEOUT", ErrorKind::Directive),
        ("    ok 1 masks", "    ok 1 masks # TODO later", ErrorKind::Directive),
        ("    ok 1 masks", "    ok 1 masks # skip why", ErrorKind::Directive),
        ("    ok 1 masks", "    ok 1 masks # SKIPPED", ErrorKind::Directive),
        ("    ok 1 masks", "    ok 1 ma    ok 1 masks#", ErrorKind::Unknown),
        ("# boot: cpus=2", "# boot: \u{7}", ErrorKind::NotText),
        ("# boot: cpus=2", &"#".repeat(LINE + 1), ErrorKind::NotText),
        ("ok 2 smp", "not ok 2 smp", ErrorKind::Contradiction),
        ("ok 2 smp", "ok 3 smp", ErrorKind::Number),
        ("    # Subtest: lock", "# Subtest: lock", ErrorKind::Unknown),
        ("    1..2\n    ok 1", "1..2\n    ok 1", ErrorKind::NoPlan),
        ("    not ok 2 nests", "    not ok 1 nests", ErrorKind::Number),
    ] {
        let log = GOOD.replacen(from, to, 1);
        assert_ne!(log, GOOD, "{from} is not in the log");
        assert!(errors(&log).contains(&kind), "{to}: {:?}", errors(&log));
    }
}

#[test]
fn a_failure_that_calls_itself_a_skip_is_a_failure() {
    let log = GOOD.replace("not ok 2 nests", "not ok 2 nests # SKIP not today");
    assert_eq!(errors(&log), []);
    let is_failure =
        |event: &Event| matches!(event, Event::Item { status: Status::NotOk, number: 2, .. });
    assert!(events(&log).iter().any(is_failure));
}

#[test]
fn a_bail_out_explains_an_incomplete_log() {
    let log = "KTAP version 1\n1..1\nBail out! oops: data abort\n";
    assert!(events(log).contains(&Event::BailOut("oops: data abort".to_string())));
    assert_eq!(rest_of(log), None);
}

#[test]
fn a_crash_is_no_error_of_the_log_wherever_it_comes() {
    let report = "# oops: cpu=0\nBail out! oops: data abort\n";
    for before in [
        "KTAP version 1\n",
        "KTAP version 1\n1..1\n    KTAP version 1\n",
        "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n",
        "KTAP version 1\n1..1\n\n",
    ] {
        let log = std::format!("{before}{report}");
        assert_eq!(errors(&log), [], "{log}");
    }
}

#[test]
fn a_late_plan_is_an_error_if_the_run_goes_on() {
    assert_eq!(errors("KTAP version 1\n# early\n1..0\n"), [ErrorKind::NoPlan]);
}

#[test]
fn a_flood_of_garbage_reports_a_bounded_number_of_errors() {
    let flood: String = (0..10_000).map(|_| "garbage\n").collect();
    assert_eq!(errors(&flood).len(), ERRORS);
}

#[test]
fn a_log_of_no_suites_ends_with_its_plan() {
    assert_eq!(events("KTAP version 1\n1..0\n").last(), Some(&Event::End));
}

fn written(suites: &[(String, Vec<(String, u8)>)]) -> String {
    let mut log = String::new();
    let mut out = |line: fmt::Arguments<'_>| {
        log.push_str(&std::format!("{line}\n"));
    };
    write::open(&mut out, suites.len());
    for (index, (name, tests)) in suites.iter().enumerate() {
        write::begin_suite(&mut out, name, tests.len());
        let mut ok = true;
        for (number, (name, verdict)) in tests.iter().enumerate() {
            write::diagnostic(&mut out, format_args!("about {name}"));
            let verdict = match verdict {
                0 => write::Verdict::Ok,
                1 => write::Verdict::NotOk,
                _ => write::Verdict::Skip("a reason"),
            };
            ok &= verdict != write::Verdict::NotOk;
            write::result(&mut out, number + 1, name, verdict);
        }
        write::suite_result(&mut out, index + 1, name, ok);
    }
    log
}

proptest! {
    #[test]
    fn what_the_writer_writes_the_parser_reads(
        suites in prop::collection::vec(
            ("[a-z][a-z#. -]{0,20}[a-z]", prop::collection::vec(("[a-z]\\PC{0,20}[a-z]", 0..3_u8), 0..5)),
            0..5,
        ),
    ) {
        let log = written(&suites);
        prop_assert_eq!(errors(&log), [], "{}", log);
        prop_assert_eq!(rest_of(&log), None);
        let items = events(&log).iter().filter(|e| matches!(e, Event::Item { .. })).count();
        prop_assert_eq!(items, suites.iter().map(|(_, tests)| tests.len()).sum::<usize>());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..40)) {
        let mut parser = Parser::new();
        for line in lines {
            parser.feed_line(&line);
        }
        let _ = parser.finish();
    }
}

/// Was green: a suite that says of itself that it was skipped, whatever its tests came to.
#[test]
fn a_suite_that_is_skipped_as_a_whole_is_no_ok() {
    let log = GOOD.replace("ok 2 smp", "ok 2 smp # SKIP no time");
    assert_eq!(errors(&log), [ErrorKind::Directive]);
}

/// Was green: two spellings of one number are two writers of one log.
#[test]
fn a_number_with_a_zero_in_front_is_none() {
    assert_eq!(errors(&GOOD.replace("    ok 1 masks", "    ok 01 masks"))[0], ErrorKind::Unknown);
    assert_eq!(errors(&GOOD.replace("1..2\n#", "1..02\n#"))[0], ErrorKind::NoPlan);
}

/// Was not: a diagnostic where a suite's head had to be was reported however many had been.
#[test]
fn a_flood_of_early_diagnostics_reports_a_bounded_number_of_errors() {
    let suite = "    KTAP version 1\n# early\n    # Subtest: s\n    1..0\nok 1 s\n";
    let log = std::format!("KTAP version 1\n1..100\n{}", suite.repeat(50));
    assert_eq!(errors(&log).len(), ERRORS);
}
