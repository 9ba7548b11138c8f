//! Figures as JSON, and what became worse since.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::boot;
use super::counts::Count;
use super::schedules::Row;

/// All figures of a run.
#[derive(Serialize, Deserialize, Default, Debug)]
pub struct Figures {
    /// Guest instructions by CPU model.
    pub counts: BTreeMap<String, Vec<Count>>,
    /// Nanoseconds of this host, of the first model.
    #[serde(default)]
    pub wall_ns: Vec<Count>,
    /// The boot.
    #[serde(default)]
    pub boot: Option<boot::Figures>,
    /// Schedules a second of this host.
    #[serde(default)]
    pub schedules: Vec<Row>,
}

impl Figures {
    /// Adds those of a CPU model.
    pub fn add(&mut self, model: &str, counts: impl Iterator<Item = Count>) {
        self.counts.insert(model.into(), counts.collect());
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.boot.is_none() && self.schedules.is_empty() && self.counts.values().all(Vec::is_empty)
    }
}

/// Reads a file that `--json` wrote.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read(path: &Path) -> Result<Figures> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the baseline {} cannot be read", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no file of `cargo xtask bench --json`", path.display()))
}

/// A line for each count that is more than `percent` above the baseline's. What is the host's is
/// left out.
pub fn regressions(baseline: &Figures, now: &Figures, percent: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for (model, counts) in &now.counts {
        let before = baseline.counts.get(model).map(Vec::as_slice).unwrap_or_default();
        for count in counts {
            let same = |old: &&Count| (&old.name, old.size) == (&count.name, count.size);
            let Some(old) = before.iter().find(same) else { continue };
            if count.count * 100 > old.count * (100 + percent) {
                let Count { name, size, count, .. } = count;
                lines.push(format!(
                    "{name} size {size} on {model}: {count} instructions, {} before",
                    old.count
                ));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(count: u64) -> Figures {
        let mut figures = Figures::default();
        let count = Count { name: "irq-spinlock".into(), size: 1, count, spread: 0 };
        figures.add("neoverse-n1", [count].into_iter());
        figures
    }

    #[test]
    fn what_costs_more_than_it_may_is_told() {
        assert!(regressions(&figures(100), &figures(102), 2).is_empty());
        assert!(regressions(&figures(100), &figures(1), 0).is_empty());
        assert!(regressions(&Figures::default(), &figures(102), 0).is_empty());
        let worse = regressions(&figures(100), &figures(103), 2);
        assert_eq!(worse, ["irq-spinlock size 1 on neoverse-n1: 103 instructions, 100 before"]);
    }

    #[test]
    fn figures_survive_their_file() {
        let json = serde_json::to_string(&figures(7)).unwrap();
        let back: Figures = serde_json::from_str(&json).unwrap();
        assert_eq!(back.counts, figures(7).counts);
        assert!(serde_json::from_str::<Figures>("{}").is_err());
    }
}
