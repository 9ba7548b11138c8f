//! EXPECT: a line for each test, with its name, what may be observed, the break-before-make flag, and why;
//! tabs between them.

use core::fmt;

/// A line of EXPECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected<'a> {
    /// Name of the test, which is that of its file.
    pub name: &'a str,
    /// Whether its condition can be observed.
    pub observed: Observed,
    /// What is wrong with the way that the descriptor changes.
    pub flag: Flag,
    /// What it shows.
    pub why: &'a str,
}

/// How often a condition holds, over all executions that the model allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observed {
    /// In none.
    Never,
    /// In some.
    Sometimes,
    /// In all.
    Always,
}

/// Break-before-make, as `bbm-strict.cat` sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    /// Kept.
    None,
    /// A valid descriptor replaced another.
    ValidToValid,
    /// Valid again before the TLBI was complete.
    NoTlbi,
}

/// A line that is no verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoVerdict<'a>(pub &'a str);

/// Every line of `text` that is not blank.
pub fn parse(text: &str) -> impl Iterator<Item = Result<Expected<'_>, NoVerdict<'_>>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| of_line(line).ok_or(NoVerdict(line)))
}

fn of_line(line: &str) -> Option<Expected<'_>> {
    let mut fields = line.split('\t');
    let (name, observed, flag) = (fields.next()?, fields.next()?, fields.next()?);
    let observed = Observed::named(observed)?;
    let flag = match flag {
        "-" => Flag::None,
        "V2V" => Flag::ValidToValid,
        "NOTLBI" => Flag::NoTlbi,
        _ => return None,
    };
    Some(Expected { name, observed, flag, why: fields.next().unwrap_or_default() })
}

impl Observed {
    /// The one that herd7 and EXPECT call so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Never" => Some(Self::Never),
            "Sometimes" => Some(Self::Sometimes),
            "Always" => Some(Self::Always),
            _ => None,
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for NoVerdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no verdict: {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_its_verdict_and_a_reason() {
        let lines: alloc::vec::Vec<_> = parse(crate::EXPECT).map(Result::unwrap).collect();
        assert!(lines.len() > 70, "{}", lines.len());
        assert!(lines.iter().all(|line| !line.why.is_empty()));
        assert!(lines.iter().map(|line| line.name).eq(crate::texts().iter().map(|text| text.0)));
    }

    #[test]
    fn a_line_that_is_no_verdict_is_told() {
        assert!(parse("I1\tNever\t-\twhy\n\n").all(|line| line.is_ok()));
        for bad in ["I1", "I1\tOften\t-\twhy", "I1\tNever\tBBM\twhy"] {
            assert_eq!(parse(bad).next(), Some(Err(NoVerdict(bad))));
        }
    }
}
