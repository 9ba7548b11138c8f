//! Which tests a run is of, by name and by facts.

use anyhow::{Context, Result, ensure};
use ktap::item::{Expect, Item};
use serde_json::Value;

use crate::cli::Test as Options;
use crate::machine::nearest;
use crate::run::output_folder;

/// What the command line selects; by default everything.
#[derive(Clone, Default, Debug)]
pub struct Selection {
    /// Part of a name, or all of it.
    pub filter: Option<String>,
    /// The filter is a whole name.
    pub exact: bool,
    /// Only this suite.
    pub suite: Option<String>,
    /// Only this machine.
    pub machine: Option<String>,
    /// Only this kind.
    pub label: Option<String>,
    /// Only these paths: what failed in the last run.
    pub failed: Option<Vec<String>>,
}

impl Selection {
    /// Reads the last report where `--failed` needs it.
    ///
    /// # Errors
    /// There is no last report, or nothing failed in it.
    pub fn new(options: &Options) -> Result<Self> {
        let Options { filter, exact, suite, machine, label, .. } = options.clone();
        let failed = if options.failed { Some(last_failures()?) } else { None };
        Ok(Self { filter, exact, suite, machine, label, failed })
    }

    /// Whether all tests are selected, those of the host included.
    pub fn is_all(&self) -> bool {
        let Self { filter, suite, machine, label, failed, .. } = self;
        [filter, suite, machine, label].iter().all(|part| part.is_none()) && failed.is_none()
    }

    /// The tests of the host that failed in the last run and are to be repeated.
    pub fn host_failures(&self) -> Vec<String> {
        let failed = self.failed.iter().flatten();
        failed
            .filter_map(|path| Some(path.strip_prefix("host/")?.split_once('/')?.1.to_string()))
            .collect()
    }

    /// Whether the test at `path` (machine/suite/test) with `labels` is selected.
    pub fn wants(&self, path: &str, labels: &[&str]) -> bool {
        let Self { filter, suite, machine, label, exact, .. } = self;
        let mut parts = path.splitn(3, '/');
        let is = |wanted: &Option<String>, part: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| part == Some(wanted))
        };
        let of_machine = is(machine, parts.next());
        let of_suite = is(suite, parts.next());
        let name = parts.next().unwrap_or_default();
        let named = filter.as_deref().is_none_or(|filter| {
            if *exact { filter == path || filter == name } else { path.contains(filter) }
        });
        let labelled = label.as_deref().is_none_or(|label| labels.contains(&label));
        let again = self.failed.as_ref().is_none_or(|failed| failed.iter().any(|one| one == path));
        of_machine && of_suite && named && labelled && again
    }

    /// The nearest of what there is to what selected nothing.
    pub fn near<'b>(&self, paths: impl Iterator<Item = &'b str> + Clone) -> Option<&'b str> {
        let Self { filter, suite, machine, .. } = self;
        let near = |wanted: &Option<String>, place: usize| {
            let wanted = wanted.as_deref()?;
            nearest(wanted, paths.clone().filter_map(|path| path.splitn(3, '/').nth(place)))
        };
        near(filter, 2).or_else(|| near(suite, 1)).or_else(|| near(machine, 0))
    }
}

/// The labels of a guest test, derived from what its record says.
pub fn labels<'a>(item: &'a Item, variant: bool, expect: &Expect) -> Vec<&'a str> {
    let mut labels = vec!["guest"];
    let facts = [
        (item.suite == "scenario", "scenario"),
        (variant, "variant"),
        (matches!(expect, Expect::Oops(_)), "oops"),
        (matches!(expect, Expect::Deadlock(_)), "deadlock"),
        (item.min_cpus > 1, "smp"),
    ];
    labels.extend(facts.iter().filter(|(holds, _)| *holds).map(|(_, label)| *label));
    labels
}

fn last_failures() -> Result<Vec<String>> {
    let path = output_folder().join("report.json");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("--failed needs the report of a run; {} cannot be read", path.display())
    })?;
    let failed = failures(&text).with_context(|| format!("{} is no report", path.display()))?;
    ensure!(!failed.is_empty(), "nothing failed in the last run; --failed has nothing to repeat");
    Ok(failed)
}

fn failures(report: &str) -> Result<Vec<String>> {
    let records: Vec<Value> = serde_json::from_str(report)?;
    let part = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_string();
    Ok(records
        .iter()
        .filter(|record| {
            !matches!(part(&record["status"], "status").as_str(), "passed" | "skipped")
        })
        .map(|record| ["machine", "suite", "name"].map(|key| part(record, key)).join("/"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_and_passes_are_not_repeated() {
        let record = |name: &str, status: &str| {
            format!(
                r#"{{"machine":"m","suite":"s","name":"{name}","status":{{"status":"{status}"}}}}"#
            )
        };
        let report = format!(
            "[{},{},{}]",
            record("good", "passed"),
            record("away", "skipped"),
            record("bad", "hung")
        );
        assert_eq!(failures(&report).unwrap(), ["m/s/bad"]);
        assert!(failures("hello").is_err());
    }

    fn wants(selection: &Selection, path: &str) -> bool {
        selection.wants(path, &["guest", "smp"])
    }

    #[test]
    fn every_part_of_a_selection_must_hold() {
        let text = |text: &str| Some(text.to_string());
        let all = Selection::default();
        assert!(all.is_all() && wants(&all, "m/s/a"));
        for (selection, expected) in [
            (Selection { filter: text("s/a"), ..all.clone() }, [true, true, false, false]),
            (
                Selection { filter: text("a"), exact: true, ..all.clone() },
                [true, false, false, true],
            ),
            (
                Selection { filter: text("m/s/a"), exact: true, ..all.clone() },
                [true, false, false, false],
            ),
            (Selection { suite: text("t"), ..all.clone() }, [false, false, true, true]),
            (Selection { machine: text("n"), ..all.clone() }, [false, false, false, true]),
            (Selection { label: text("smp"), ..all.clone() }, [true; 4]),
            (Selection { label: text("oops"), ..all.clone() }, [false; 4]),
            (
                Selection { suite: text("t"), machine: text("m"), ..all.clone() },
                [false, false, true, false],
            ),
            (
                Selection { failed: Some(vec!["m/s/ab".into()]), ..all.clone() },
                [false, true, false, false],
            ),
        ] {
            let seen = ["m/s/a", "m/s/ab", "m/t/b", "n/t/a"].map(|path| wants(&selection, path));
            assert_eq!(seen, expected, "{selection:?}");
            assert!(!selection.is_all());
        }
    }

    #[test]
    fn a_selection_of_nothing_names_what_was_meant() {
        let paths = ["m/lock/aa-fault", "m/frame/zeroes"];
        let near = |selection: Selection| {
            selection.near(paths.iter().copied()).map(String::from).unwrap_or_default()
        };
        let filter = Some("aa-falt".to_string());
        assert_eq!(near(Selection { filter, ..Selection::default() }), "aa-fault");
        let suite = Some("frames".to_string());
        assert_eq!(near(Selection { suite, ..Selection::default() }), "frame");
    }

    #[test]
    fn host_tests_that_failed_are_repeated_by_their_names() {
        let failed = Some(vec!["m/s/a".to_string(), "host/slot/slot::test::one".to_string()]);
        let selection = Selection { failed, ..Selection::default() };
        assert_eq!(selection.host_failures(), ["slot::test::one"]);
    }
}
