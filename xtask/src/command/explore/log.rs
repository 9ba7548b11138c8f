//! What a guest that explores says, line by line.

/// A line that says something of the exploration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// How far it is.
    Progress(Counts),
    /// It is through, and nothing was lost.
    Explored(Counts),
    /// A schedule lost.
    Lost {
        /// The rule that was broken.
        rule: String,
        /// The schedule.
        token: String,
        /// How many ran, this one included.
        schedules: u64,
    },
    /// Why, in a sentence.
    Oracle(String),
    /// A line of a timeline.
    Lab(String),
}

/// Figures of an exploration.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Schedules that ran.
    pub schedules: u64,
    /// Schedules cut short, as what was to come was known.
    pub pruned: u64,
    /// Steps of the longest.
    pub longest: u64,
    /// Whether no schedule within the bound is left.
    pub exhaustive: bool,
    /// Microseconds of the guest's time.
    pub us: u64,
}

/// Reads a line of a log, with or without its indentation and `# `.
pub fn fact(line: &str) -> Option<Fact> {
    let line = line.trim_start();
    let (what, rest) = line.strip_prefix("# ").unwrap_or(line).split_once(": ")?;
    match what {
        "exploring" => Some(Fact::Progress(counts(rest)?)),
        "explored" => Some(Fact::Explored(counts(rest)?)),
        "lost" => Some(Fact::Lost {
            rule: field(rest, "rule")?.into(),
            token: field(rest, "token")?.into(),
            schedules: number(rest, "schedules").unwrap_or(0),
        }),
        "oracle" => Some(Fact::Oracle(rest.into())),
        "lab" => Some(Fact::Lab(rest.into())),
        _ => None,
    }
}

/// The value of `key=` in a line.
pub fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// A value that is a number, decimal or 0x.
pub fn number(line: &str, key: &str) -> Option<u64> {
    let text = field(line, key)?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn counts(line: &str) -> Option<Counts> {
    Some(Counts {
        schedules: number(line, "schedules")?,
        pruned: number(line, "pruned").unwrap_or(0),
        longest: number(line, "longest").unwrap_or(0),
        exhaustive: number(line, "exhaustive") == Some(1),
        us: number(line, "us").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_guest_is_read_with_and_without_its_indentation() {
        let line = "    # explored: variant=default cpus=2 mode=dfs bound=2 schedules=114 \
                    pruned=50 longest=31 exhaustive=1 us=10520";
        let counts =
            Counts { schedules: 114, pruned: 50, longest: 31, exhaustive: true, us: 10520 };
        assert_eq!(fact(line), Some(Fact::Explored(counts)));
        let line = "exploring: schedules=7 pruned=1 longest=9 exhaustive=0 us=3";
        let counts = Counts { schedules: 7, pruned: 1, longest: 9, exhaustive: false, us: 3 };
        assert_eq!(fact(line), Some(Fact::Progress(counts)));
        let lost = fact("# lost: rule=valid-to-valid token=a6b8a schedules=3");
        let (rule, token) = ("valid-to-valid".to_string(), "a6b8a".to_string());
        assert_eq!(lost, Some(Fact::Lost { rule, token, schedules: 3 }));
        assert_eq!(fact("oracle: a: b"), Some(Fact::Oracle("a: b".into())));
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in ["", "ok 1 x", "# boot: cpus=2", "# lost: rule=x", "# explored: pruned=3"] {
            assert_eq!(fact(line), None, "{line}");
        }
        assert_eq!(number("a=0x1f b=7 c=x", "a"), Some(31));
        assert_eq!(number("a=0x1f b=7 c=x", "b"), Some(7));
        assert_eq!(number("a=0x1f b=7 c=x", "c"), None);
        assert_eq!(field("ab=1 b=2", "b"), Some("2"));
    }
}
