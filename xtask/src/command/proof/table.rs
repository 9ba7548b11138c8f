//! The table of bugs: what finds each, and by which execution.

/// What stands between a bug's name and the execution that found it.
const CAUGHT: &str = ": caught by execution ";
/// The searches, each with what the line of its finding says.
const WAYS: [(&str, &str); 3] =
    [("loom", "(executions, "), ("random", "(random "), ("PCT", "(schedules of PCT")];

/// One bug in one scenario.
struct Row<'a> {
    bug: &'a str,
    scenario: &'a str,
    /// By which execution, as [`WAYS`].
    found: [Option<&'a str>; WAYS.len()],
}

/// The table of what `lines` tell, headed; nothing if they tell of no bug.
pub fn of(lines: &[String]) -> Vec<String> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (bug, scenario, way, execution) in lines.iter().filter_map(|line| finding(line)) {
        let same = |row: &&mut Row<'_>| (row.bug, row.scenario) == (bug, scenario);
        match rows.iter_mut().find(same) {
            Some(row) => row.found[way] = Some(execution),
            None => {
                let mut found = [None; WAYS.len()];
                found[way] = Some(execution);
                rows.push(Row { bug, scenario, found });
            }
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let line = |bug: &str, scenario: &str, found: [&str; WAYS.len()]| {
        let [loom, random, pct] = found;
        format!("{bug:<52} {scenario:<26} {loom:>6} {random:>6} {pct:>6}")
    };
    let head = line("bug", "scenario", WAYS.map(|(name, _)| name));
    let what = "what found each bug, by which execution (-: not asked, or what it cannot see)";
    [what.into(), head]
        .into_iter()
        .chain(
            rows.iter().map(|row| line(row.bug, row.scenario, row.found.map(|n| n.unwrap_or("-")))),
        )
        .collect()
}

/// Bug, scenario, which way, and execution, if `line` tells of a finding.
fn finding(line: &str) -> Option<(&str, &str, usize, &str)> {
    let (what, found) = line.split_once(CAUGHT)?;
    let (_, what) = what.split_once(": ")?;
    // The last part is when stores are seen.
    let (what, _) = what.rsplit_once(", ")?;
    let (bug, scenario) = what.rsplit_once(", ")?;
    let way = WAYS.iter().position(|(_, says)| found.contains(says))?;
    Some((bug, scenario.trim_start_matches("arena: "), way, found.split(':').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_one_row_whoever_found_it() {
        let lines = [
            "loom: set, then go, a_vs_b, stores at once: caught by execution 5: why (executions, all)",
            "loom: a_vs_b, stores at once: holds in 7 executions, all there are",
            "shuttle: set, then go, a_vs_b, stores late: caught by execution 17: x: y (random schedules, a sample)",
            "shuttle: other, arena: c vs d, stores late: caught by execution 2: x (schedules of PCT, depth 3, a sample)",
        ];
        let table = of(&lines.map(String::from));
        let words = |n: usize| table[n].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(table.len(), 4);
        assert_eq!(words(2), "set, then go a_vs_b 5 17 -");
        assert_eq!(words(3), "other c vs d - - 2");
        assert!(of(&lines[1..2].iter().map(|l| l.to_string()).collect::<Vec<_>>()).is_empty());
    }
}
