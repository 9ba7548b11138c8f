//! One table of any number of results.

use std::collections::BTreeSet;

use super::result::{Line, Verdict};
use crate::exit::Exit;

/// A race under a variant, all its boots together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    scenario: String,
    variant: String,
    /// Schedules that ran.
    pub schedules: u64,
    longest: u64,
    /// Whether none within the bound is left.
    pub exhaustive: bool,
    extent: String,
    verdict: String,
    token: String,
    /// Whether that is as it must be; `None` if nothing can be said yet.
    pub good: Option<bool>,
}

/// The rows of results, in the order in which each first comes.
pub fn rows(lines: &[Line]) -> Vec<Row> {
    let mut groups: Vec<Vec<&Line>> = Vec::new();
    for line in lines {
        match groups.iter_mut().find(|group| is_of_one_row(group[0], line)) {
            Some(group) => group.push(line),
            None => groups.push(vec![line]),
        }
    }
    groups.iter().map(|group| row(group)).collect()
}

fn is_of_one_row(a: &Line, b: &Line) -> bool {
    let key = |line: &Line| {
        let unit = line.unit.clone();
        let shards = unit.shards().1;
        let mode = (unit.mode, unit.bound, unit.states, unit.seed, unit.milliseconds);
        (unit.kernel, unit.machine, unit.scenario, unit.variant, mode, shards)
    };
    key(a) == key(b)
}

fn row(group: &[&Line]) -> Row {
    let unit = &group[0].unit;
    let shards: BTreeSet<_> = group.iter().map(|line| line.unit.shards().0).collect();
    let of = unit.shards().1;
    let complete = shards.len() == of as usize;
    let exhaustive = complete && group.iter().all(|line| line.exhaustive);
    let (verdict, token, good) = verdict(group, complete);
    let part = if complete { String::new() } else { format!(", {} of {of} parts", shards.len()) };
    let extent = match (unit.mode.as_str(), exhaustive) {
        _ if !token.is_empty() => "-".into(),
        ("dfs", true) => format!("yes, bound {}", unit.bound),
        ("dfs", false) => format!("no, bound {}{part}", unit.bound),
        (mode, _) => format!("no, {mode}{part}"),
    };
    Row {
        scenario: unit.scenario.clone(),
        variant: unit.variant.clone(),
        schedules: group.iter().map(|line| line.schedules).sum(),
        longest: group.iter().map(|line| line.longest).max().unwrap_or(0),
        exhaustive,
        extent,
        verdict,
        token,
        good,
    }
}

/// What it came to, the first token that lost, and whether that is right.
fn verdict(group: &[&Line], complete: bool) -> (String, String, Option<bool>) {
    let of = |wanted| group.iter().find(|line| line.verdict == wanted);
    let must_lose = group.iter().find(|line| !line.expect.is_empty()).map(|line| &line.expect);
    if let Some(line) = group.iter().find(|line| line.verdict == Verdict::Broken && !line.met) {
        return (line.why.clone(), String::new(), Some(false));
    }
    // As it must, in some part: what else another part lost by says nothing against that.
    let lost = group.iter().filter(|line| line.verdict == Verdict::Lost);
    if let Some(line) = lost.min_by_key(|line| (!line.met, line.unit.first)) {
        let met = line.met && must_lose.is_some();
        let (instead, good) = match must_lose {
            Some(expect) if !met => (format!(", not by \"{expect}\""), complete.then_some(false)),
            _ => (String::new(), Some(met)),
        };
        return (format!("lost: {}{instead}", line.rule), line.token.clone(), good);
    }
    if let Some(line) = of(Verdict::Broken) {
        return (line.why.clone(), String::new(), Some(true));
    }
    match (of(Verdict::Held), of(Verdict::Skipped), must_lose) {
        (None, Some(line), _) => (format!("skipped: {}", line.why), String::new(), None),
        (_, _, None) => ("held".into(), String::new(), Some(true)),
        // Another part may have the schedule.
        (_, _, Some(_)) if !complete => ("held so far".into(), String::new(), None),
        (_, _, Some(expect)) => {
            (format!("held, must lose by \"{expect}\""), String::new(), Some(false))
        }
    }
}

/// The table, with its closing line.
pub fn table(rows: &[Row]) -> String {
    let head = ["", "scenario", "variant", "schedules", "steps", "exhaustive", "verdict", "token"];
    let mut cells = vec![head.map(String::from)];
    cells.extend(rows.iter().map(|row| {
        let mark = match row.good {
            Some(true) => "ok",
            Some(false) => "FAIL",
            None => "-",
        };
        [
            mark.into(),
            row.scenario.clone(),
            row.variant.clone(),
            row.schedules.to_string(),
            row.longest.to_string(),
            row.extent.clone(),
            row.verdict.clone(),
            row.token.clone(),
        ]
    }));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 8] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in &cells {
        let padded = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            // Numbers stand right.
            if matches!(column, 3 | 4) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        text += &format!("{}\n", line.trim_end());
    }
    let count = |good| rows.iter().filter(|row| row.good == good).count();
    let schedules: u64 = rows.iter().map(|row| row.schedules).sum();
    let (right, wrong) = (count(Some(true)), count(Some(false)));
    let open = match count(None) {
        0 => String::new(),
        open => format!(", {open} open"),
    };
    text + &format!("{schedules} schedules: {right} as they must be, {wrong} not{open}\n")
}

/// The exit code that the rows ask for.
pub fn exit(rows: &[Row], is_part: bool) -> Exit {
    match rows {
        [] => Exit::NoVerdict,
        rows if rows.iter().any(|row| row.good == Some(false)) => Exit::Failed,
        rows if !is_part && rows.iter().all(|row| row.good.is_none()) => Exit::NoVerdict,
        _ => Exit::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::held;
    use super::*;

    fn lost(shard: &str, rule: &str, met: bool) -> Line {
        Line {
            expect: "valid-to-valid".into(),
            met,
            verdict: Verdict::Lost,
            rule: rule.into(),
            token: "a6b8a".into(),
            exhaustive: false,
            schedules: 3,
            ..held("plain-store", shard)
        }
    }

    fn must_lose(shard: &str) -> Line {
        Line { expect: "valid-to-valid".into(), met: false, ..held("plain-store", shard) }
    }

    #[test]
    fn parts_are_summed_and_exhaustive_together_only() {
        let rows_of = |lines: &[Line]| rows(lines).remove(0);
        let both = rows_of(&[held("default", "0/2"), held("default", "1/2")]);
        assert_eq!((both.schedules, both.exhaustive, both.good), (200, true, Some(true)));
        let one = rows_of(&[held("default", "1/2")]);
        assert_eq!((one.exhaustive, one.extent.as_str()), (false, "no, bound 2, 1 of 2 parts"));
        let unfinished = Line { exhaustive: false, ..held("default", "0/2") };
        assert!(!rows_of(&[unfinished, held("default", "1/2")]).exhaustive);
        let whole = rows(&[held("default", "0/1"), held("default", "0/2")]);
        assert_eq!(whole.len(), 2, "the whole and a part of it must not be summed");
    }

    #[test]
    fn a_variant_must_lose_in_some_part_and_by_its_rule() {
        let good = |lines: &[Line]| rows(lines)[0].good;
        assert_eq!(good(&[must_lose("0/2"), lost("1/2", "valid-to-valid", true)]), Some(true));
        assert_eq!(good(&[must_lose("0/2")]), None);
        assert_eq!(good(&[must_lose("0/2"), must_lose("1/2")]), Some(false));
        assert_eq!(good(&[lost("0/1", "leak", false)]), Some(false));
        assert_eq!(good(&[lost("0/2", "leak", false)]), None);
        let both = [lost("0/2", "leak", false), lost("1/2", "valid-to-valid", true)];
        assert_eq!(good(&both), Some(true));
        let default = Line { expect: String::new(), ..lost("0/1", "leak", false) };
        assert_eq!(good(&[default]), Some(false));
        let hung = Line { verdict: Verdict::Broken, met: false, ..must_lose("1/2") };
        assert_eq!(good(&[lost("0/2", "valid-to-valid", true), hung]), Some(false));
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_row() {
        let exit_of = |lines: &[Line]| exit(&rows(lines), false);
        let good = [held("default", "0/1"), lost("0/1", "valid-to-valid", true)];
        assert_eq!(exit_of(&good), Exit::Passed);
        assert_eq!(exit_of(&[held("default", "0/1"), must_lose("0/1")]), Exit::Failed);
        assert_eq!(exit_of(&[]), Exit::NoVerdict);
        let skipped = Line { verdict: Verdict::Skipped, ..held("default", "0/1") };
        assert_eq!(exit_of(&[skipped]), Exit::NoVerdict);
        let part = rows(&[must_lose("0/2")]);
        assert_eq!((exit(&part, true), exit(&part, false)), (Exit::Passed, Exit::NoVerdict));
    }

    #[test]
    fn the_table_says_what_came_of_each_and_of_all() {
        let text = table(&rows(&[held("default", "0/1"), lost("0/1", "valid-to-valid", true)]));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("ok  check-then-store  default"), "{text}");
        assert!(lines[1].ends_with("yes, bound 2  held"), "{text}");
        assert!(lines[2].ends_with("lost: valid-to-valid  a6b8a"), "{text}");
        assert_eq!(lines[3], "103 schedules: 2 as they must be, 0 not");
    }
}
