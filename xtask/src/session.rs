//! From a guest's log, as it comes, to what the boot came to. No input or output: lines in, facts
//! out.

use std::time::Duration;

use ktap::parse::{ErrorKind, Event, Parser, Status};

use crate::exit::Exit;
use crate::guest::{End, Next};

/// Lines of a log that are kept for the report of what went wrong.
const TAIL: usize = 200;

/// Why a boot in which nothing else is wrong has no verdict.
const ALL_SKIPPED: &str = "everything was skipped";

/// One boot, followed.
pub struct Session {
    parser: Parser,
    /// What was asked for, in the order in which the guest runs it: (suite, name).
    asked: Vec<(String, String)>,
    results: Vec<TestResult>,
    pending: Vec<String>,
    tail: Vec<String>,
    bail: Option<String>,
    doubts: Vec<String>,
    /// The first line behind the end.
    late: Option<String>,
    /// The report of a deadlock in which the last result ended.
    deadlock: Option<String>,
    /// The plan is out: the guest has read how it is to exit.
    planned: bool,
    through: bool,
}

/// The result of one test of a boot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestResult {
    /// Its suite.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// What the guest said.
    pub status: Status,
    /// Its diagnostics, without `# `.
    pub output: Vec<String>,
}

/// What a boot came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Results, in order.
    pub results: Vec<TestResult>,
    /// The test that was running when the boot ended badly: (suite, name).
    pub cut_short: Option<(String, String)>,
    /// The tests behind it, which never started.
    pub not_started: Vec<(String, String)>,
    /// The boot's own verdict, results included.
    pub exit: Exit,
    /// Why, in a sentence; empty if it passed.
    pub why: String,
    /// Nothing is wrong but that every test was skipped: each has its answer, the boot has none.
    pub only_skips: bool,
    /// What `Bail out!` said.
    pub bail: Option<String>,
    /// Lines since the last result.
    pub tail: Vec<String>,
}

impl Outcome {
    /// Whether any reader of the log must call it a success: it is complete, and nothing in it
    /// failed. `None` for a log of skips, on which readers differ: prove passes it, kunit.py does
    /// not, and we have no verdict.
    pub fn green(&self) -> Option<bool> {
        let skipped = |result: &TestResult| matches!(result.status, Status::Skip(_));
        if !self.results.is_empty() && self.results.iter().all(skipped) {
            return None;
        }
        let failed = |result: &TestResult| result.status == Status::NotOk;
        Some(
            self.bail.is_none()
                && self.cut_short.is_none()
                && self.not_started.is_empty()
                && !self.results.iter().any(failed),
        )
    }
}

impl Session {
    /// A session for a boot that was asked to run `asked`, (suite, name) in command-line order.
    pub fn new(asked: &[(String, String)]) -> Self {
        Self {
            parser: Parser::new(),
            asked: by_suite(asked),
            results: Vec::new(),
            pending: Vec::new(),
            tail: Vec::new(),
            bail: None,
            doubts: Vec::new(),
            late: None,
            deadlock: None,
            planned: false,
            through: false,
        }
    }

    /// Takes the next line of the log. Says whether the log is complete.
    pub fn line(&mut self, line: &[u8]) -> Next {
        self.remember(&String::from_utf8_lossy(line));
        for event in self.parser.feed_line(line) {
            self.event(event);
        }
        if self.through || self.bail.is_some() { Next::Through } else { Next::More }
    }

    /// Results so far.
    pub fn results(&self) -> &[TestResult] {
        &self.results
    }

    /// The test that runs now, as far as the log tells.
    pub fn running(&self) -> Option<&(String, String)> {
        self.asked.get(self.results.len())
    }

    /// The verdict, now that the guest has ended.
    pub fn finish(mut self, end: &End, complaints: &str) -> Outcome {
        let incomplete = self.parser.finish();
        let reasons = self.reasons(end, complaints, incomplete);
        let only_skips = matches!(&reasons[..], [(_, why)] if why == ALL_SKIPPED);
        // The highest code that applies, with the first of its reasons: what is told first explains
        // the rest, as a kill does a line that is cut.
        let worst = reasons.into_iter().rev().max_by_key(|(exit, _)| *exit);
        let (exit, why) = worst.unwrap_or((Exit::Passed, String::new()));
        let broke_off = !self.through && self.ended_itself(end).is_none();
        let done = self.results.len().min(self.asked.len());
        let mut rest = self.asked.split_off(done);
        let cut_short = (broke_off && !rest.is_empty()).then(|| rest.remove(0));
        Outcome {
            results: self.results,
            cut_short,
            not_started: rest,
            exit,
            why,
            only_skips,
            bail: self.bail,
            tail: self.tail,
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Item { suite, name, status, .. } => {
                let expected = self.asked.get(self.results.len());
                if expected != Some(&(suite.clone(), name.clone())) {
                    self.doubts.push(format!("the guest reports {name}, which was not next"));
                }
                let output = std::mem::take(&mut self.pending);
                self.deadlock = (status == Status::NotOk)
                    .then(|| output.iter().find(|line| line.starts_with("deadlock: ")).cloned())
                    .flatten();
                self.tail.clear();
                self.results.push(TestResult { suite, name, status, output });
            }
            Event::Diagnostic { text, .. } => self.pending.push(text),
            Event::BailOut(text) => self.bail = Some(text),
            Event::End => self.through = true,
            Event::Error(error) if error.kind == ErrorKind::AfterTheEnd => {
                self.late.get_or_insert(error.to_string());
            }
            // A guest in a deadlock cannot run the rest of the suite; it closes it and exits.
            Event::Error(error) if error.kind == ErrorKind::TooFew && self.deadlock.is_some() => {}
            Event::Error(error) => self.doubts.push(error.to_string()),
            Event::Plan(_) => self.planned = true,
            Event::Header | Event::Suite { .. } | Event::SuiteResult { .. } => {}
        }
    }

    fn remember(&mut self, line: &str) {
        if self.tail.len() == TAIL {
            self.tail.remove(0);
        }
        self.tail.push(line.to_string());
    }

    /// Everything that speaks against the boot, and the exit that each asks for.
    fn reasons(
        &self,
        end: &End,
        complaints: &str,
        incomplete: Option<String>,
    ) -> Vec<(Exit, String)> {
        let running = self.running().map_or("no test".into(), |(_, name)| name.clone());
        let mut reasons: Vec<(Exit, String)> = Vec::new();
        if let Some(bail) = &self.bail {
            reasons.push((exit_of(bail), format!("the guest gave up: {bail}")));
        }
        reasons.extend(judge_end(end, &running, complaints));
        // A crash, a hang or a kill explains why the rest is missing.
        let ended_itself = self.ended_itself(end).is_some();
        if let Some(place) = incomplete.filter(|_| reasons.is_empty() && !ended_itself) {
            reasons.push((Exit::NoVerdict, format!("the log is cut: {place}; {running} was next")));
        }
        // A crash also explains what comes behind the last result: its own report.
        let late = self.late.as_ref().filter(|_| !self.bail.as_deref().is_some_and(is_crash));
        if let Some(doubt) = self.doubts.first().or(late) {
            reasons.push((Exit::NoVerdict, format!("the log cannot be believed: {doubt}")));
        }
        reasons.extend(self.judge_results(end));
        reasons.extend(self.judge_code(end));
        // Whatever else is wrong says more.
        if reasons.is_empty() {
            reasons.extend(self.judge_skips());
        }
        reasons
    }

    /// What the results themselves ask for.
    fn judge_results(&self, end: &End) -> Vec<(Exit, String)> {
        let mut reasons = Vec::new();
        let failed = self.failed();
        if failed > 0 {
            let deadlock = self.ended_itself(end).map_or(String::new(), |why| format!(": {why}"));
            let text = format!("{failed} of {} failed{deadlock}", self.results.len());
            reasons.push((Exit::Failed, text));
        }
        let left = self.asked.get(self.results.len()..).unwrap_or_default();
        let all_due = self.through && self.ended_itself(end).is_none();
        if let (true, [(_, first), ..]) = (all_due, left) {
            let (left, all) = (left.len(), self.asked.len());
            reasons.push((Exit::NoVerdict, format!("{left} of {all} tests never ran: {first}")));
        }
        reasons
    }

    /// Whether anything ran.
    fn judge_skips(&self) -> Option<(Exit, String)> {
        let is_skip = |result: &TestResult| matches!(result.status, Status::Skip(_));
        let why = if self.results.is_empty() { "nothing ran" } else { ALL_SKIPPED };
        self.results.iter().all(is_skip).then(|| (Exit::NoVerdict, why.into()))
    }

    /// Whether the exit code is the one that the log promises.
    fn judge_code(&self, end: &End) -> Option<(Exit, String)> {
        let &End::Exited(code) = end else { return None };
        let failed = self.failed();
        let (promised, says) = match &self.bail {
            Some(bail) if self.planned => {
                let code = exit_of(bail) as i32;
                (code, format!("and its last words ask for {code}"))
            }
            None if self.through => {
                (i32::from(failed > 0), format!("its log says {failed} failed"))
            }
            _ => return None,
        };
        let text = format!("the guest exited with {code}, {says}");
        (code != promised).then_some((Exit::NoVerdict, text))
    }

    /// The deadlock by which the guest ended itself: reported, its suite closed, exit code 1. What
    /// it was still to run can be run in another boot.
    fn ended_itself(&self, end: &End) -> Option<&str> {
        self.deadlock.as_deref().filter(|_| *end == End::Exited(1))
    }

    fn failed(&self) -> usize {
        self.results.iter().filter(|result| result.status == Status::NotOk).count()
    }
}

/// What a `Bail out!` asks for. The guest's own exit codes are the same.
fn exit_of(bail: &str) -> Exit {
    if is_crash(bail) { Exit::Crashed } else { Exit::Usage }
}

/// Whether a `Bail out!` is the kernel's own fault, not its environment's.
fn is_crash(bail: &str) -> bool {
    bail.starts_with("oops:") || bail.starts_with("panic:")
}

/// What the way in which QEMU ended asks for.
fn judge_end(end: &End, running: &str, complaints: &str) -> Option<(Exit, String)> {
    let seconds = |duration: &Duration| duration.as_secs_f32();
    let said = complaints.trim().lines().last().unwrap_or_default();
    Some(match end {
        End::Exited(_) => return None,
        End::Killed(signal) => (
            Exit::NoVerdict,
            format!("QEMU was killed by signal {signal} while {running} ran {said}"),
        ),
        End::Silent(limit) => (
            Exit::Hung,
            format!("the guest printed nothing for {:.1} s while {running} ran", seconds(limit)),
        ),
        End::Overdue(limit) => (
            Exit::Hung,
            format!("the guest took more than {:.0} s; {running} was running", seconds(limit)),
        ),
        End::Lingered => {
            (Exit::Hung, "the guest did not end after its log was complete".to_string())
        }
        End::Flood => (
            Exit::NoVerdict,
            format!("the guest printed more than any log can be while {running} ran"),
        ),
        End::Interrupted => (Exit::NoVerdict, format!("interrupted while {running} ran")),
    })
}

/// The order in which the guest runs what it was asked: suites as they are first named.
fn by_suite(asked: &[(String, String)]) -> Vec<(String, String)> {
    let mut suites: Vec<&str> = Vec::new();
    for (suite, _) in asked {
        if !suites.contains(&suite.as_str()) {
            suites.push(suite);
        }
    }
    suites
        .iter()
        .flat_map(|suite| asked.iter().filter(move |(other, _)| other == suite).cloned())
        .collect()
}

#[cfg(test)]
mod test;
