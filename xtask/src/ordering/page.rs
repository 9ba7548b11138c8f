//! The page: its rows, and what counts as a reason.

use super::source::{ORDERINGS, Place};
use crate::command::litmus::expect::{Expected, Flag, Observed};

/// Shapes of the language's memory model: the reasons of its orderings that no litmus test of page
/// tables gives.
const SHAPES: [&str; 5] = ["MP", "LB", "S", "SB", "CoRR"];

/// What the machine demands beside the order of memory, and what may have it as a reason.
const DEMANDS: [(&str, &[&str]); 4] = [
    ("SYS", &["isb"]),
    ("TLB", &["tlbi", "dsb", "isb"]),
    ("CACHE", &["dc", "ic", "dsb", "isb"]),
    ("EVENT", &["dsb", "publish_event"]),
];

/// A line of the page.
pub struct Row {
    /// What it is about.
    pub place: Place,
    /// How often that is there, by its word.
    pub times: usize,
    /// What fails without it.
    pub why: String,
}

/// The rows of the page: `| file | function | what | times | fails without it |`.
pub fn rows(page: &str) -> Vec<Row> {
    let rows = page.lines().filter_map(|line| {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let cells: Vec<_> = line.splitn(5, " | ").map(str::to_string).collect();
        let [file, function, what, times, why] = <[String; 5]>::try_from(cells).ok()?;
        Some(Row { place: (file, function, what), times: times.parse().ok()?, why })
    });
    rows.collect()
}

/// Kinds of reasons that the page does not explain: each has a line `| kind | ...`.
pub fn unexplained(page: &str) -> Vec<&'static str> {
    let kinds = SHAPES.into_iter().chain(DEMANDS.map(|(kind, _)| kind));
    kinds.filter(|kind| !page.contains(&format!("\n| {kind} | "))).collect()
}

/// What is wrong with a reason: it names litmus tests in backquotes, all of which must show something
/// bad, or begins with a shape, if it is an ordering's, or with a demand that such an instruction meets.
pub fn bad_reason(what: &str, why: &str, tests: &[Expected]) -> Option<String> {
    let mut named = 0;
    for name in why.split('`').skip(1).step_by(2) {
        // By the part before the first hyphen, as comments in the source name them.
        let test = tests.iter().find(|test| test.name.split('-').next() == Some(name));
        let Some(test) = test else { return Some(format!("there is no litmus test {name}")) };
        if test.verdict.observed == Observed::Never && test.verdict.flag == Flag::None {
            return Some(format!("{name} shows nothing that fails: {}", test.why));
        }
        named += 1;
    }
    let kind = why.split_once(": ").map_or("", |(kind, _)| kind);
    let demand = DEMANDS.iter().find(|(name, _)| *name == kind);
    if named > 0 || SHAPES.contains(&kind) && ORDERINGS.contains(&what) {
        return None;
    }
    match demand {
        Some((_, meets)) if meets.iter().any(|start| what.starts_with(start)) => None,
        Some(_) => Some(format!("{kind} is no reason for this")),
        None if SHAPES.contains(&kind) => Some(format!("{kind} is a reason for an ordering")),
        None => Some("no litmus test and no kind of reason is named".into()),
    }
}
