//! The tests and their verdicts: `kernel/litmus/EXPECT`, and what herd7 prints.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

pub use litmus::expect::{Flag, Observed};

/// Where the tests are.
pub fn folder() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    Ok(root.join("kernel/litmus"))
}

/// A test and what must come of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Its name, which is that of its file.
    pub name: String,
    /// What must come of it.
    pub verdict: Verdict,
    /// What it shows.
    pub why: String,
}

/// What comes of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whether its condition can be observed.
    pub observed: Observed,
    /// What is wrong with the way that the descriptor changes.
    pub flag: Flag,
}

/// All tests, in the order of the file.
///
/// # Errors
/// The file cannot be read, has a line that is none, or does not list exactly the tests that are there.
pub fn all() -> Result<Vec<Expected>> {
    let folder = folder()?;
    let path = folder.join("EXPECT");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let tests = parse(&text)?;
    for entry in std::fs::read_dir(&folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|ending| ending == "litmus") {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if !tests.iter().any(|test| test.name == name) {
                bail!("{name} is a litmus test without a verdict in {}", path.display());
            }
        }
    }
    Ok(tests)
}

fn parse(text: &str) -> Result<Vec<Expected>> {
    let lines = litmus::expect::parse(text);
    lines.map(|line| line.map(Expected::from).map_err(|error| anyhow!("{error}"))).collect()
}

impl From<litmus::expect::Expected<'_>> for Expected {
    fn from(line: litmus::expect::Expected<'_>) -> Self {
        let verdict = Verdict { observed: line.observed, flag: line.flag };
        Self { name: line.name.into(), verdict, why: line.why.into() }
    }
}

impl Verdict {
    /// The verdict in what herd7 printed about one test; `None` if there is none.
    pub fn of_output(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("Observation "))?;
        let observed = Observed::named(line.split(' ').nth(1)?)?;
        let flagged = |name: &str| {
            text.lines().filter_map(|line| line.strip_prefix("Flag ")).any(|flag| flag == name)
        };
        // The worse first: a change from valid to valid lacks a TLBI as well.
        let flag = match () {
            () if flagged("BBM-valid-to-valid") => Flag::ValidToValid,
            () if flagged("BBM-no-TLBI") => Flag::NoTlbi,
            () => Flag::None,
        };
        Some(Self { observed, flag })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.observed)?;
        match self.flag {
            Flag::None => Ok(()),
            Flag::ValidToValid => f.write_str(" V2V"),
            Flag::NoTlbi => f.write_str(" NOTLBI"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_litmus_test_has_a_verdict_and_a_reason() {
        let tests = all().unwrap();
        assert!(tests.len() > 70, "{}", tests.len());
        let folder = folder().unwrap();
        for test in tests {
            assert!(folder.join(format!("{}.litmus", test.name)).exists(), "{}", test.name);
            assert!(!test.why.is_empty(), "{}", test.name);
        }
    }

    #[test]
    fn the_verdict_is_read_from_what_herd7_prints() {
        let text = "Test I2 Allowed\nStates 2\nWitnesses\nPositive: 2 Negative: 3\n\
                    Flag BBM-valid-to-valid\nFlag BBM-no-TLBI\nObservation I2 Sometimes 2 3\n";
        let sometimes = |flag| Verdict { observed: Observed::Sometimes, flag };
        assert_eq!(Verdict::of_output(text), Some(sometimes(Flag::ValidToValid)));
        let text = "Flag BBM-no-TLBI\nObservation I6 Sometimes 1 1\n";
        assert_eq!(Verdict::of_output(text), Some(sometimes(Flag::NoTlbi)));
        assert_eq!(Verdict::of_output("Observation I2 Often 2 3\n"), None);
        assert_eq!(Verdict::of_output("Warning: no such model\n"), None);
    }
}
