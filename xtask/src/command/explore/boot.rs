//! One unit, booted: what the guest says becomes a result.

use std::time::{Duration, Instant};

use anyhow::Result;
use ktap::item::{Expect, Item};

use super::log::{Counts, Fact, fact};
use super::result::{Line, Verdict, text_of};
use super::unit::Piece;
use crate::calibrate;
use crate::exit::Exit;
use crate::guest::{Deadline, End, Next};
use crate::judge::judge;
use crate::machine::Qemu;
use crate::run::{Boot, Booted, Kernel};

/// What every boot needs.
#[derive(Clone, Copy)]
pub struct Bed<'a> {
    /// The QEMU.
    pub qemu: &'a Qemu,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// All items of the kernel.
    pub items: &'a [Item],
}

/// What came of a boot.
#[derive(Clone, Debug)]
pub struct Played {
    /// The result.
    pub line: Line,
    /// The schedule that was told step by step, if one was.
    pub lab: Vec<String>,
    /// What the oracles said.
    pub oracle: Vec<String>,
    /// The raw serial log.
    pub log: String,
    /// CPUs of the machine.
    pub smp: u8,
}

/// What a log said of the exploration.
#[derive(Default)]
struct Said {
    counts: Counts,
    explored: bool,
    lost: Option<(String, String, u64)>,
    lab: Vec<String>,
    oracle: Vec<String>,
}

impl Bed<'_> {
    /// Boots a piece with `words` in place of its own, and calls `progress` as the guest goes on.
    /// `None` if the person ended it.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn play(
        &self,
        piece: &Piece<'_>,
        words: Vec<String>,
        mut progress: impl FnMut(Counts),
    ) -> Result<Option<Played>> {
        let Self { qemu, kernel, items } = *self;
        let measured = || calibrate::limit(qemu, &piece.machine, kernel, items);
        let boot = Boot {
            qemu,
            machine: &piece.machine,
            kernel,
            items: vec![piece.item],
            variant: &piece.unit.variant,
            words,
            qemu_args: Vec::new(),
            deadline: Deadline {
                again: Some(&measured),
                unlimited: true,
                ..Deadline::fixed(silence())
            },
            log: log_name(piece),
        };
        let mut said = Said::default();
        let started = Instant::now();
        let booted = boot.run(|line, _| {
            if said.take(line) {
                progress(said.counts);
            }
            Next::More
        })?;
        if booted.finished.end == End::Interrupted {
            return Ok(None);
        }
        let line = said.line(piece, &booted, started.elapsed());
        let log = booted.log.display().to_string();
        Ok(Some(Played { line, lab: said.lab, oracle: said.oracle, log, smp: piece.machine.smp }))
    }
}

/// A guest that explores prints twice a second.
fn silence() -> Duration {
    calibrate::UNMEASURED
}

fn log_name(piece: &Piece<'_>) -> String {
    let unit = &piece.unit;
    let part = format!("{}-{}-{}", unit.mode, unit.first, unit.shard);
    format!("explore-{}@{}-{part}", unit.scenario, unit.variant)
}

impl Said {
    /// Takes a line; whether it said how far the exploration is.
    fn take(&mut self, line: &str) -> bool {
        match fact(line) {
            Some(Fact::Progress(counts)) => self.counts = counts,
            Some(Fact::Explored(counts)) => (self.counts, self.explored) = (counts, true),
            Some(Fact::Lost { rule, token, schedules }) => {
                self.lost = Some((rule, token, schedules));
            }
            Some(Fact::Oracle(text)) => self.oracle.push(text),
            Some(Fact::Lab(text)) => self.lab.push(text),
            None => return false,
        }
        true
    }

    fn line(&self, piece: &Piece<'_>, booted: &Booted, wall: Duration) -> Line {
        let outcome = &booted.outcome;
        let judged = judge(&piece.expect, outcome);
        let claim = outcome.results.iter().flat_map(|result| &result.output);
        let claim = claim.filter_map(|line| line.strip_prefix("FAIL: ")).next();
        let (verdict, why) = match (&self.lost, outcome.exit) {
            (Some(_), Exit::Failed) if !self.oracle.is_empty() => {
                (Verdict::Lost, self.oracle.join("; "))
            }
            // A bad end of another kind, in a schedule that is known.
            (Some(_), Exit::Failed | Exit::Crashed) => (Verdict::Lost, outcome.why.clone()),
            (None, Exit::Passed) if self.explored => (Verdict::Held, String::new()),
            (None, Exit::Passed) => (Verdict::Broken, "passed, and explored nothing".into()),
            _ if outcome.only_skips => (Verdict::Skipped, outcome.why.clone()),
            (None, Exit::Failed) if claim.is_some() => {
                (Verdict::Broken, format!("failed: {}", claim.unwrap_or_default()))
            }
            (_, exit) => (Verdict::Broken, format!("{exit}: {}", outcome.why)),
        };
        let (rule, token, ran) = self.lost.clone().unwrap_or_default();
        Line {
            unit: piece.unit.clone(),
            expect: text_of(&piece.expect),
            met: match verdict {
                Verdict::Skipped => false,
                Verdict::Broken if piece.expect == Expect::Pass => false,
                _ => judged.is_ok(),
            },
            verdict,
            rule,
            why,
            schedules: ran.max(self.counts.schedules),
            pruned: self.counts.pruned,
            longest: self.counts.longest.max(steps(&token)),
            exhaustive: self.explored && self.counts.exhaustive,
            us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            token,
        }
    }
}

/// Steps of the schedule that a token stands for.
fn steps(token: &str) -> u64 {
    explore::schedule::Schedule::parse(token).map_or(0, |schedule| schedule.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::unit::{pieces, tests as unit};
    use super::*;
    use crate::guest::Finished;
    use crate::run::Times;
    use crate::session::Session;

    /// What a log of the race of [`unit::race`] under `variant` comes to.
    fn came_to(variant: &str, log: &str, code: i32) -> Line {
        let race = unit::race();
        let options = unit::options(&format!("--variant {variant}"));
        let piece = pieces(&options, &[&race], "k").remove(0);
        let head = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: scenario\n    1..1";
        let mut session = Session::new(&[("scenario".into(), race.name.clone())]);
        let mut said = Said::default();
        for line in head.lines().chain(log.lines()) {
            session.line(line.as_bytes());
            said.take(line);
        }
        let end = End::Exited(code);
        let outcome = session.finish(&end, "");
        let finished = Finished { end, wall: Duration::ZERO, complaints: String::new() };
        let booted = Booted { outcome, finished, times: Times::default(), log: "the.log".into() };
        said.line(&piece, &booted, Duration::from_millis(2))
    }

    const HELD: &str = "    # explored: variant=default cpus=2 mode=dfs bound=2 schedules=114 \
                        pruned=50 longest=31 exhaustive=1 us=10520
    ok 1 check-then-store
ok 1 scenario";
    const LOST: &str = "    # lost: rule=valid-to-valid token=a6b8a schedules=3
    # oracle: valid-to-valid: a valid entry was overwritten by another
    # FAIL: valid-to-valid
    not ok 1 check-then-store
not ok 1 scenario";

    #[test]
    fn a_race_that_no_schedule_lost_held() {
        let line = came_to("default", HELD, 0);
        assert_eq!((line.verdict, line.met, line.exhaustive), (Verdict::Held, true, true));
        assert_eq!((line.schedules, line.longest, line.us), (114, 31, 2000));
        let line = came_to("plain-store", HELD, 0);
        assert_eq!((line.verdict, line.met), (Verdict::Held, false));
        assert_eq!(line.expect, "valid-to-valid");
    }

    #[test]
    fn a_race_that_lost_says_by_which_rule_and_schedule() {
        let line = came_to("plain-store", LOST, 1);
        assert_eq!((line.verdict, line.met), (Verdict::Lost, true));
        assert_eq!((line.rule.as_str(), line.token.as_str()), ("valid-to-valid", "a6b8a"));
        assert_eq!((line.schedules, line.longest, line.exhaustive), (3, 15, false));
        assert!(!came_to("default", LOST, 1).met);
    }

    #[test]
    fn a_crash_in_a_schedule_is_a_loss_with_a_token() {
        let log = "# lost: rule=oops token=a3b schedules=9\nBail out! oops: near null";
        let line = came_to("default", log, 3);
        assert_eq!((line.verdict, line.met), (Verdict::Lost, false));
        assert_eq!((line.rule.as_str(), line.token.as_str()), ("oops", "a3b"));
        assert!(line.why.contains("near null"), "{}", line.why);
    }

    #[test]
    fn whatever_else_a_guest_does_is_neither() {
        for (log, code) in [
            ("    ok 1 check-then-store\nok 1 scenario", 0),
            (LOST, 0),
            ("Bail out! oops: x", 3),
            ("    # FAIL: free: x\n    not ok 1 check-then-store\nnot ok 1 scenario", 1),
            ("", 0),
        ] {
            let line = came_to("default", log, code);
            assert_eq!((line.verdict, line.met), (Verdict::Broken, false), "{log}");
            assert!(!line.why.is_empty(), "{log}");
        }
        let skip = "    ok 1 check-then-store # SKIP needs more CPUs\nok 1 scenario";
        let line = came_to("default", skip, 0);
        assert_eq!((line.verdict, line.met), (Verdict::Skipped, false));
    }
}
