//! The strict parser: lines in, events out.
//!
//! It keeps nothing but where it stands, so a flood costs no memory, and it reports what is wrong
//! without giving up: a log with a wrong line still tells which test ran last.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::write::{HEADER, INDENT};

/// Longest line that is read; the rest of a longer one is garbage by definition.
const LINE: usize = 4096;
/// Errors that are reported; more say nothing new.
pub const ERRORS: usize = 20;

/// What a line, or the sum of the lines so far, says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The version line of the log.
    Header,
    /// The plan of the log: its number of suites.
    Plan(usize),
    /// A suite begins.
    Suite {
        /// Its name.
        name: String,
        /// Its number of tests.
        tests: usize,
    },
    /// A test of the suite has a result.
    Item {
        /// The suite.
        suite: String,
        /// Its number in the suite, from 1.
        number: usize,
        /// The test.
        name: String,
        /// The result.
        status: Status,
    },
    /// A suite has a result.
    SuiteResult {
        /// Its name.
        name: String,
        /// Whether all of it passed.
        ok: bool,
    },
    /// A diagnostic line, its `# ` and indentation removed.
    Diagnostic {
        /// 0 for the log's own, 1 for one inside a suite.
        depth: u8,
        /// The text.
        text: String,
    },
    /// The guest gave up.
    BailOut(String),
    /// The last planned result has come: the log is complete.
    End,
    /// A line that must not be where it is.
    Error(Error),
}

/// The result of a test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// `ok`
    Ok,
    /// `not ok`
    NotOk,
    /// `ok` and `# SKIP`, with the reason.
    Skip(String),
}

/// A line that breaks the dialect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub kind: ErrorKind,
    /// The line, as far as it can be shown.
    pub text: String,
}

/// What can be wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// The log does not begin with the version line.
    NoHeader,
    /// A second version line at the top: the guest booted again.
    SecondHeader,
    /// Something else than the plan behind a version line.
    NoPlan,
    /// A second plan, or one out of place.
    StrayPlan,
    /// A result whose number is not the next.
    Number,
    /// More results than planned.
    TooMany,
    /// A suite's result before all of its tests have one.
    TooFew,
    /// A suite's result under another name.
    OtherName,
    /// A suite that is `ok` with a test that is not, or the reverse.
    Contradiction,
    /// A directive other than a test's SKIP: whatever it means, it is no plain `ok`.
    Directive,
    /// A line after the last planned result.
    AfterTheEnd,
    /// A line that is no KTAP, or with the wrong indentation.
    Unknown,
    /// Bytes that are no text.
    NotText,
}

/// Where the parser stands in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Start,
    Plan,
    Top,
    SuiteName,
    SuitePlan(String),
    Suite { name: String, tests: usize, done: usize, ok: bool },
    End,
}

/// The parser.
#[derive(Debug)]
pub struct Parser {
    place: Place,
    suites: usize,
    done: usize,
    line: usize,
    errors: usize,
    bailed: bool,
    /// A line that stood where a plan or a suite's head had to: an error unless the guest gives up
    /// next, since a dying CPU reports wherever it is.
    early: Option<Error>,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// At the start of a log.
    pub fn new() -> Self {
        Self {
            place: Place::Start,
            suites: 0,
            done: 0,
            line: 0,
            errors: 0,
            bailed: false,
            early: None,
        }
    }

    /// Takes the next line, without its newline.
    pub fn feed_line(&mut self, line: &[u8]) -> Vec<Event> {
        self.line += 1;
        let shown = &line[..line.len().min(LINE)];
        let Ok(text) = core::str::from_utf8(shown) else {
            return self.error(ErrorKind::NotText, &String::from_utf8_lossy(shown));
        };
        if line.len() > LINE || text.contains(|c: char| c.is_control() && c != '\t') {
            return self.error(ErrorKind::NotText, text);
        }
        self.text(text)
    }

    /// Where an incomplete log stops; `None` for a complete one, and for one that bailed out.
    pub fn finish(&self) -> Option<String> {
        let of = |done, all| alloc::format!("{done} of {all}");
        match &self.place {
            _ if self.bailed => None,
            Place::End => None,
            Place::Start => Some("it is empty".to_string()),
            Place::Plan => Some("it has no plan".to_string()),
            Place::Top => Some(alloc::format!("after suite {}", of(self.done, self.suites))),
            Place::SuiteName | Place::SuitePlan(_) => {
                Some(alloc::format!("at the beginning of suite {}", self.done + 1))
            }
            Place::Suite { name, tests, done, .. } => {
                Some(alloc::format!("after test {} of suite {name}", of(*done, *tests)))
            }
        }
    }

    fn text(&mut self, text: &str) -> Vec<Event> {
        if let Some(reason) = text.strip_prefix("Bail out!") {
            self.bailed = true;
            return [Event::BailOut(reason.trim().to_string())].into();
        }
        if text.is_empty() && self.place != Place::End {
            // Ends the line that a dying CPU broke into.
            return Vec::new();
        }
        if let (Place::Plan | Place::SuiteName | Place::SuitePlan(_), Some(comment)) =
            (&self.place, text.strip_prefix("# "))
        {
            let kind = ErrorKind::NoPlan;
            let error = Error { line: self.line, kind, text: text.chars().take(120).collect() };
            self.early.get_or_insert(error);
            return [Event::Diagnostic { depth: 0, text: comment.to_string() }].into();
        }
        let early = self.early.take();
        let mut events = early.map_or_else(Vec::new, |error| self.report(error));
        events.extend(self.in_place(text));
        events
    }

    fn in_place(&mut self, text: &str) -> Vec<Event> {
        let (depth, rest) = match text.strip_prefix(INDENT) {
            Some(rest) => (1, rest),
            None => (0, text),
        };
        match self.place.clone() {
            Place::Start if text == HEADER => self.go(Place::Plan, Event::Header),
            Place::Start => self.error(ErrorKind::NoHeader, text),
            Place::Plan => match plan(text) {
                Some(suites) => self.begin(suites),
                None => self.error(ErrorKind::NoPlan, text),
            },
            Place::End => self.error(ErrorKind::AfterTheEnd, text),
            _ if depth == 0 && text == HEADER => self.error(ErrorKind::SecondHeader, text),
            Place::SuiteName => match rest.strip_prefix("# Subtest: ") {
                Some(name) if depth == 1 => {
                    self.place = Place::SuitePlan(name.to_string());
                    Vec::new()
                }
                _ => self.error(ErrorKind::Unknown, text),
            },
            Place::SuitePlan(name) => match plan(rest) {
                Some(tests) if depth == 1 => {
                    let event = Event::Suite { name: name.clone(), tests };
                    self.go(Place::Suite { name, tests, done: 0, ok: true }, event)
                }
                _ => self.error(ErrorKind::NoPlan, text),
            },
            Place::Top | Place::Suite { .. } => self.body(depth, rest, text),
        }
    }

    /// A line where diagnostics, results and suites may come.
    fn body(&mut self, depth: u8, rest: &str, text: &str) -> Vec<Event> {
        if let Some(text) = rest.strip_prefix('#') {
            let text = text.strip_prefix(' ').unwrap_or(text).to_string();
            return [Event::Diagnostic { depth, text }].into();
        }
        if plan(rest).is_some() {
            return self.error(ErrorKind::StrayPlan, text);
        }
        if depth == 1 && rest == HEADER && self.place == Place::Top {
            if self.done == self.suites {
                return self.error(ErrorKind::TooMany, text);
            }
            self.place = Place::SuiteName;
            return Vec::new();
        }
        match result(rest) {
            Ok((number, name, status)) if depth == 1 => self.item(number, name, status, text),
            Ok((number, name, status)) => self.suite(number, name, &status, text),
            Err(kind) => self.error(kind, text),
        }
    }

    fn begin(&mut self, suites: usize) -> Vec<Event> {
        self.suites = suites;
        let mut events = self.go(Place::Top, Event::Plan(suites));
        events.extend(self.end_if_done());
        events
    }

    fn item(&mut self, number: usize, name: &str, status: Status, text: &str) -> Vec<Event> {
        let Place::Suite { name: suite, tests, done, ok } = &mut self.place else {
            return self.error(ErrorKind::Unknown, text);
        };
        if *done == *tests {
            return self.error(ErrorKind::TooMany, text);
        }
        *done += 1;
        *ok &= status != Status::NotOk;
        let wrong = number != *done;
        let event =
            Event::Item { suite: suite.clone(), number: *done, name: name.to_string(), status };
        let mut events = alloc::vec![event];
        if wrong {
            events.extend(self.error(ErrorKind::Number, text));
        }
        events
    }

    fn suite(&mut self, number: usize, name: &str, status: &Status, text: &str) -> Vec<Event> {
        let ok = *status != Status::NotOk;
        let skipped = matches!(status, Status::Skip(_));
        let Place::Suite { name: suite, tests, done, ok: all_ok } = self.place.clone() else {
            return self.error(ErrorKind::Unknown, text);
        };
        self.done += 1;
        self.place = Place::Top;
        let mut events = alloc::vec![Event::SuiteResult { name: name.to_string(), ok }];
        for (wrong, kind) in [
            (number != self.done, ErrorKind::Number),
            (suite != name, ErrorKind::OtherName),
            (done < tests, ErrorKind::TooFew),
            (ok != all_ok, ErrorKind::Contradiction),
            // Its tests have results: whatever the directive hides, it is no plain `ok`.
            (skipped, ErrorKind::Directive),
        ] {
            if wrong {
                events.extend(self.error(kind, text));
            }
        }
        events.extend(self.end_if_done());
        events
    }

    fn end_if_done(&mut self) -> Option<Event> {
        (self.done == self.suites).then(|| {
            self.place = Place::End;
            Event::End
        })
    }

    fn go(&mut self, place: Place, event: Event) -> Vec<Event> {
        self.place = place;
        alloc::vec![event]
    }

    fn error(&mut self, kind: ErrorKind, text: &str) -> Vec<Event> {
        self.report(Error { line: self.line, kind, text: text.chars().take(120).collect() })
    }

    fn report(&mut self, error: Error) -> Vec<Event> {
        self.errors += 1;
        if self.errors > ERRORS { Vec::new() } else { alloc::vec![Event::Error(error)] }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::NoHeader => "the log does not begin with \"KTAP version 1\"",
            ErrorKind::SecondHeader => "a second \"KTAP version 1\": the guest booted again",
            ErrorKind::NoPlan => "no plan behind the version line",
            ErrorKind::StrayPlan => "a plan where none may be",
            ErrorKind::Number => "a result out of order",
            ErrorKind::TooMany => "more than was planned",
            ErrorKind::TooFew => "a suite's result before those of all its tests",
            ErrorKind::OtherName => "a suite's result under another name",
            ErrorKind::Contradiction => "a suite's result that contradicts its tests",
            ErrorKind::Directive => "a directive other than SKIP",
            ErrorKind::AfterTheEnd => "output after the last result",
            ErrorKind::Unknown => "no KTAP, or wrongly indented",
            ErrorKind::NotText => "bytes that are no text, or too long a line",
        };
        write!(f, "line {}: {what}: {:?}", self.line, self.text)
    }
}

/// The count in a plan line.
fn plan(text: &str) -> Option<usize> {
    number(text.strip_prefix("1..")?)
}

/// A number as KTAP writes it: digits and nothing else, where `parse` alone would take a sign, and
/// none of them a zero in front.
fn number(text: &str) -> Option<usize> {
    if text.len() > 1 && text.starts_with('0') {
        return None;
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Number, name and status of a result line. The optional `- ` of TAP is passed over.
fn result(text: &str) -> Result<(usize, &str, Status), ErrorKind> {
    let (ok, rest) = match text.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok ").ok_or(ErrorKind::Unknown)?),
    };
    let (count, rest) = rest.split_once(' ').ok_or(ErrorKind::Unknown)?;
    let count = number(count).ok_or(ErrorKind::Unknown)?;
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, directive) = match rest.split_once(" # ") {
        Some((name, directive)) => (name, Some(directive)),
        None => (rest, None),
    };
    if name.is_empty() || name.contains('#') {
        return Err(ErrorKind::Unknown);
    }
    let why = match directive.map(|directive| directive.split_once(' ').unwrap_or((directive, "")))
    {
        None => None,
        Some(("SKIP", why)) => Some(why.trim().to_string()),
        Some(_) => return Err(ErrorKind::Directive),
    };
    let status = match (ok, why) {
        (true, Some(why)) => Status::Skip(why),
        (true, None) => Status::Ok,
        (false, _) => Status::NotOk,
    };
    Ok((count, name, status))
}

#[cfg(test)]
mod test;
