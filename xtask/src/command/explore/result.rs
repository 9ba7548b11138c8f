//! What came of a unit, as a line of JSON: kept as soon as there is one, merged from any number of
//! files.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use ktap::item::Expect;
use serde::{Deserialize, Serialize};

use super::unit::Unit;

/// How a unit ended.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No schedule broke a rule.
    Held,
    /// One did.
    Lost,
    /// The guest cannot run it.
    Skipped,
    /// Anything else: it crashed, it hung, it failed otherwise.
    Broken,
}

/// A unit that is through.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Line {
    /// The unit.
    #[serde(flatten)]
    pub unit: Unit,
    /// Text that its report must hold if it is to lose; empty if it is to hold.
    pub expect: String,
    /// Whether it ended as it must.
    pub met: bool,
    /// How it ended.
    pub verdict: Verdict,
    /// The rule that was broken.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// The schedule that broke it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Schedules that ran.
    pub schedules: u64,
    /// Schedules cut short.
    pub pruned: u64,
    /// Steps of the longest.
    pub longest: u64,
    /// Whether none within the bound is left.
    pub exhaustive: bool,
    /// Microseconds from the start of the guest.
    pub us: u64,
}

/// The text of an expectation, as [`Line::expect`] has it.
pub fn text_of(expect: &Expect) -> String {
    match expect {
        Expect::Pass => String::new(),
        Expect::Oops(text) | Expect::Deadlock(text) | Expect::Fail(text) => text.clone(),
    }
}

/// The lines of a file. A last line that was cut is left out, as its unit will be run again.
///
/// # Errors
/// The file cannot be read, or another line is no result.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the results {} cannot be read", path.display()))?;
    let complete = text.ends_with('\n');
    let rows: Vec<&str> = text.lines().collect();
    let mut lines = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        match serde_json::from_str(row) {
            Ok(line) => lines.push(line),
            Err(_) if number + 1 == rows.len() && !complete => {}
            Err(error) => {
                let place = format!("{}:{}", path.display(), number + 1);
                anyhow::bail!("{place} is no result of an exploration: {error}")
            }
        }
    }
    Ok(lines)
}

/// Each unit once: the last line of it.
pub fn once(lines: Vec<Line>) -> Vec<Line> {
    let mut seen = HashSet::new();
    let mut kept: Vec<_> =
        lines.into_iter().rev().filter(|line| seen.insert(line.unit.clone())).collect();
    kept.reverse();
    kept
}

/// Units of which two lines say different things, though nothing but the schedule may decide: what
/// they are, in a sentence. A unit that is limited in time comes as far as it comes.
pub fn contradictions(lines: &[Line]) -> Vec<String> {
    let said = |line: &Line| (line.verdict, line.rule.clone(), line.token.clone(), line.schedules);
    let mut first: HashMap<&Unit, &Line> = HashMap::new();
    let mut all = Vec::new();
    let certain = |line: &&Line| line.unit.milliseconds == 0 && line.verdict != Verdict::Broken;
    for line in lines.iter().filter(certain) {
        let before = first.entry(&line.unit).or_insert(line);
        if said(before) != said(line) {
            let Unit { scenario, variant, shard, first, .. } = &line.unit;
            all.push(format!(
                "{scenario} under {variant}, part {shard} from {first}: two runs differ, so \
                 something beside the schedule decides"
            ));
        }
    }
    all
}

/// A file to which results are added.
pub struct Book(File);

impl Book {
    /// Opens the file, and makes it if it is not there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).unwrap_or_default();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let folder = path.parent().unwrap_or(Path::new("."));
        let open = || {
            std::fs::create_dir_all(folder)?;
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            // A line that was cut goes: the next would be lost with it.
            if whole < text.len() {
                file.set_len(whole as u64)?;
            }
            Ok::<_, std::io::Error>(file)
        };
        let file =
            open().with_context(|| format!("the results {} cannot be written", path.display()))?;
        Ok(Self(file))
    }

    /// Adds a line, in one write: several processes may share a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        self.0.write_all(text.as_bytes()).context("the results cannot be written")
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::unit::{pieces, tests as unit};
    use super::*;

    /// A unit of the race of [`unit::race`] that held.
    pub fn held(variant: &str, shard: &str) -> Line {
        let race = unit::race();
        let options = unit::options(&format!("--variant {variant} --shard {shard}"));
        let unit = pieces(&options, &[&race], "k").remove(0).unit;
        Line {
            unit,
            expect: String::new(),
            met: true,
            verdict: Verdict::Held,
            rule: String::new(),
            token: String::new(),
            why: String::new(),
            schedules: 100,
            pruned: 5,
            longest: 31,
            exhaustive: true,
            us: 2_000_000,
        }
    }

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("faultline-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_line_comes_back_as_it_was_kept() {
        let path = file("kept", "");
        let lines = [held("default", "0/2"), held("default", "1/2")];
        let mut book = Book::open(&path).unwrap();
        lines.iter().for_each(|line| book.add(line).unwrap());
        let read = read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read, lines);
    }

    #[test]
    fn a_unit_counts_once_by_its_last_line() {
        let again = Line { schedules: 7, ..held("default", "0/1") };
        let lines = once(vec![held("default", "0/1"), held("plain-store", "0/1"), again.clone()]);
        assert_eq!(lines, [held("plain-store", "0/1"), again]);
    }

    #[test]
    fn equal_units_that_end_otherwise_contradict_each_other() {
        let (one, other) = (held("default", "0/1"), held("default", "0/2"));
        assert!(contradictions(&[one.clone(), other, one.clone()]).is_empty());
        let less = Line { schedules: 99, ..one.clone() };
        let said = contradictions(&[one.clone(), less.clone()]);
        assert!(said.len() == 1 && said[0].contains("check-then-store under default"), "{said:?}");
        let timed = |mut line: Line| {
            line.unit.milliseconds = 1000;
            line
        };
        assert!(contradictions(&[timed(one.clone()), timed(less)]).is_empty());
        let hung = Line { verdict: Verdict::Broken, ..one.clone() };
        assert!(contradictions(&[hung, one]).is_empty());
    }

    #[test]
    fn a_line_that_was_cut_costs_its_own_unit_only() {
        let whole = serde_json::to_string(&held("default", "0/1")).unwrap() + "\n";
        let path = file("cut", &format!("{whole}{}", &whole[..40]));
        assert_eq!(read(&path).unwrap().len(), 1);
        Book::open(&path).unwrap().add(&held("default", "1/2")).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
        std::fs::write(&path, format!("{{}}\n{whole}")).unwrap();
        let error = read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains(":1 is no result"), "{error}");
    }
}
