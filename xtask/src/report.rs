//! What a person sees, and the files that programs read.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::record::{Record, Status, Totals};
use crate::run::output_folder;
use crate::symbol::Symbols;

/// Lines of a failing test's output that are shown.
const SHOWN: usize = 40;

/// The live line: how far, how long, how long yet, and what runs.
const LIVE: &str = "[{pos}/{len}] {elapsed} gone, {eta} left  {wide_msg}";

/// Characters of one line that are shown; the serial log has all.
const WIDTH: usize = 1000;

/// The terminal, told of every test as it ends.
pub struct Terminal {
    bar: ProgressBar,
    colour: bool,
    symbols: Symbols,
}

impl Terminal {
    /// For a run of `total` tests. A live line only where a person looks: not in CI, not in a file.
    /// Colours only on a terminal, and none under NO_COLOR.
    pub fn new(total: usize, symbols: Symbols) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = std::io::stdout().is_terminal();
        let bar = if terminal && !set("CI") {
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stdout());
            bar.with_style(
                ProgressStyle::with_template(LIVE).unwrap_or(ProgressStyle::default_bar()),
            )
        } else {
            ProgressBar::hidden()
        };
        Self { bar, colour: terminal && !set("NO_COLOR"), symbols }
    }

    /// What runs now.
    pub fn running(&self, what: &str) {
        self.bar.set_message(what.to_string());
    }

    /// A test ended.
    pub fn ended(&mut self, record: &Record) {
        self.bar.inc(1);
        match &record.status {
            Status::Passed => {}
            Status::Skipped(why) => self.put(&format!("skip {}: {why}\n", record.path())),
            status => {
                let why = status.why().unwrap_or_default();
                let round = match record.round {
                    1 => String::new(),
                    round => format!(" (round {round})"),
                };
                let head = format!("{} {}{round}: {why}\n", self.red("FAIL"), record.path());
                self.put(&(head + &excerpt(record, &self.symbols)));
                if let Some(banner) = record.times.banner {
                    let told = banner.elapsed().as_millis();
                    self.put(&format!("    told {told} ms after the first line of the report\n"));
                }
            }
        }
    }

    /// Nothing more comes: takes the live line away.
    pub fn close(&self) {
        self.bar.finish_and_clear();
    }

    /// Prints above the live line.
    fn put(&self, text: &str) {
        self.bar.suspend(|| put(text));
    }

    fn red(&self, text: &str) -> String {
        if self.colour { format!("\x1b[31m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// The closing line, which CI reads.
pub fn closing_line(totals: Totals) -> String {
    let Totals { passed, failed, skipped } = totals;
    match skipped {
        0 => format!("{passed} passed, {failed} failed"),
        _ => format!("{passed} passed, {failed} failed, {skipped} skipped"),
    }
}

/// Writes the run as KTAP, JUnit XML and JSON below the output folder.
///
/// # Errors
/// A file cannot be written.
pub fn write_files(records: &[Record]) -> Result<()> {
    let folder = output_folder();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("the report {} cannot be written", path.display()))
    };
    write("report.ktap", &ktap(records))?;
    write("report.xml", &junit(records)?)?;
    write("report.json", &serde_json::to_string_pretty(records)?)
}

/// The end of a failing test's output, code addresses resolved.
pub fn excerpt(record: &Record, symbols: &Symbols) -> String {
    let mut text = String::new();
    let hidden = record.output.len().saturating_sub(SHOWN);
    if hidden > 0 {
        let _ = writeln!(text, "    ... {hidden} lines before");
    }
    for line in &record.output[hidden..] {
        let _ = writeln!(text, "    {}", plain(line));
        for frame in symbols.of_line(line) {
            let _ = writeln!(text, "        {frame}");
        }
    }
    if let Some(log) = &record.log {
        let _ = writeln!(text, "    serial log: {log}");
    }
    text
}

/// A line of a guest's as a terminal can take it: no control character, which might be the start of
/// an escape sequence, and no endless line.
pub fn plain(line: &str) -> String {
    let kept = line.chars().take(WIDTH);
    kept.map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// Prints; a closed pipe (`| head`) ends the printing, not the run.
pub fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn ktap(records: &[Record]) -> String {
    let mut text = format!("KTAP version 1\n1..{}\n", records.len());
    for (number, record) in (1..).zip(records) {
        let mut name = record.path().replace('#', "_");
        if record.round > 1 {
            name += &format!("~{}", record.round);
        }
        let _ = match &record.status {
            Status::Passed => writeln!(text, "ok {number} {name}"),
            Status::Skipped(why) => writeln!(text, "ok {number} {name} # SKIP {why}"),
            status => {
                let why = status.why().unwrap_or_default().replace('\n', " ");
                writeln!(text, "# {why}\nnot ok {number} {name}")
            }
        };
    }
    text
}

fn junit(records: &[Record]) -> Result<String> {
    let mut report = Report::new("faultline");
    let mut suites: Vec<TestSuite> = Vec::new();
    for record in records {
        let mut name = format!("{}/{}", record.machine, record.suite);
        if record.round > 1 {
            name += &format!("/round-{}", record.round);
        }
        if suites.last().is_none_or(|suite| suite.name.as_str() != name) {
            suites.push(TestSuite::new(name));
        }
        let status = match &record.status {
            Status::Passed => TestCaseStatus::success(),
            Status::Skipped(why) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(why.as_str());
                status
            }
            status => {
                let kind = match status {
                    Status::Failed(_) => NonSuccessKind::Failure,
                    _ => NonSuccessKind::Error,
                };
                let mut status_of_case = TestCaseStatus::non_success(kind);
                status_of_case.set_message(status.why().unwrap_or_default());
                status_of_case
            }
        };
        let mut case = TestCase::new(record.name.as_str(), status);
        case.set_time(record.wall);
        case.set_system_out(record.output.join("\n"));
        if let Some(suite) = suites.last_mut() {
            suite.add_test_case(case);
        }
    }
    report.add_test_suites(suites);
    Ok(report.to_string()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use std::time::Duration;

    fn record(name: &str, status: Status) -> Record {
        Record {
            wall: Duration::from_millis(3),
            output: vec!["line \u{7} one".into()],
            ..Record::new("m", "s", name, status)
        }
    }

    #[test]
    fn the_closing_line_names_skips_only_where_there_are_some() {
        let totals = Totals { passed: 3, failed: 0, skipped: 0 };
        assert_eq!(closing_line(totals), "3 passed, 0 failed");
        let totals = Totals { skipped: 2, ..totals };
        assert_eq!(closing_line(totals), "3 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn what_a_guest_prints_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[2J\u{9b}b\tc"), "a\u{fffd}[2J\u{fffd}b\tc");
        assert_eq!(plain(&"x".repeat(1 << 20)).len(), WIDTH);
    }

    #[test]
    fn the_files_agree_on_what_failed() {
        let records =
            [record("good", Status::Passed), record("bad", Status::Hung("silence".into()))];
        let ktap = ktap(&records);
        assert!(
            ktap.starts_with("KTAP version 1\n1..2\nok 1 m/s/good\n# silence\nnot ok 2 m/s/bad")
        );
        let junit = junit(&records).unwrap();
        assert!(junit.contains("errors=\"1\"") && junit.contains("silence"), "{junit}");
        assert!(!junit.contains('\u{7}'), "control characters of a log are no XML");
    }

    #[test]
    fn no_name_or_reason_breaks_the_ktap_report() {
        let records = [
            record("a # SKIP b", Status::Passed),
            record("c", Status::Crashed("one\nok 2 two".into())),
            record("d", Status::Skipped("needs more".into())),
        ];
        let lines = ["ok 1 m/s/a _ SKIP b", "# one ok 2 two", "not ok 2 m/s/c"];
        let expected = format!("{}\nok 3 m/s/d # SKIP needs more\n", lines.join("\n"));
        assert_eq!(ktap(&records), format!("KTAP version 1\n1..3\n{expected}"));
    }

    #[test]
    fn junit_tells_failures_from_errors_and_groups_by_suite() {
        let why = || "why".to_string();
        let mut records = vec![
            record("a", Status::Failed(why())),
            record("b", Status::NoVerdict(why())),
            record("c", Status::Skipped(why())),
        ];
        records.push(Record { suite: "t".into(), ..record("d", Status::Passed) });
        let junit = junit(&records).unwrap();
        assert_eq!(junit.matches("<testsuite ").count(), 2, "{junit}");
        assert_eq!(junit.matches("<failure").count(), 1, "{junit}");
        assert_eq!(junit.matches("<error").count(), 1, "{junit}");
        assert_eq!(junit.matches("<skipped").count(), 1, "{junit}");
    }

    #[test]
    fn an_excerpt_is_the_end_of_the_output() {
        let output = (0..SHOWN + 2).map(|n| format!("line {n}")).collect();
        let log = Some("the.log".into());
        let record = Record { output, log, ..record("a", Status::Failed("why".into())) };
        let text = excerpt(&record, &Symbols::of(Path::new("/nowhere")));
        assert!(text.starts_with("    ... 2 lines before\n    line 2\n"), "{text}");
        assert!(text.ends_with("    line 41\n    serial log: the.log\n"), "{text}");
    }
}
