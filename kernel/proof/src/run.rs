//! Running a scenario: how far it was followed, and what was seen.

use std::any::Any;
use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

use crate::machine::Timing;

thread_local! {
    /// What this thread follows, and how many executions of it there were.
    static FOLLOWED: RefCell<Option<(String, Arc<AtomicUsize>)>> = const { RefCell::new(None) };
}

static TELLS: Once = Once::new();

/// What is run: by as many CPUs as it says itself.
pub type Scenario = fn(Timing);

/// Preemptions of an execution in the search for what is wrong: each known bug needs fewer.
const MUTANT_BOUND: usize = 3;

/// Which search for what is wrong a process of its own is for.
const CASE: &str = "FAULTLINE_PROOF_CASE";
/// What such a process says before what it has found.
const CAUGHT: &str = "caught by execution ";

/// Follows `scenario` on machines of both timings; none may find anything wrong.
pub fn holds(name: &str, scenario: Scenario) {
    holds_within(name, None, scenario);
}

/// The same where the executions would take minutes: with at most so many preemptions, or as
/// `FAULTLINE_LOOM_BOUND` says (0: any number).
pub fn holds_within(name: &str, most: Option<usize>, scenario: Scenario) {
    let most = bound(most);
    for timing in [Timing::Prompt, Timing::Lagging] {
        holds_on(name, most, timing, scenario);
    }
}

/// Follows `scenario`, in which there are no tables and so no timing.
#[cfg(loom)]
pub fn every(name: &str, scenario: Scenario) {
    every_within(name, None, scenario);
}

/// The same with at most so many preemptions, as [`holds_within`].
#[cfg(loom)]
pub fn every_within(name: &str, most: Option<usize>, scenario: Scenario) {
    holds_on(name, bound(most), Timing::Prompt, scenario);
}

/// The same with at most so many preemptions, whatever the environment says: of three threads, which take
/// twenty times as long for each more.
#[cfg(loom)]
pub fn every_at_most(name: &str, most: usize, scenario: Scenario) {
    holds_on(name, Some(most), Timing::Prompt, scenario);
}

/// What the environment makes of a bound.
fn bound(most: Option<usize>) -> Option<usize> {
    match (most?, given("FAULTLINE_LOOM_BOUND")) {
        (_, Some(0)) => None,
        (most, given) => Some(given.unwrap_or(most)),
    }
}

fn holds_on(name: &str, most: Option<usize>, timing: Timing, scenario: Scenario) {
    for way in checker::WAYS {
        let how = checker::how(way, most);
        let started = Instant::now();
        let (executions, outcome) = followed(name, way, most, timing, scenario);
        let (when, seconds) = (word(timing), started.elapsed().as_secs_f64());
        if let Err(why) = outcome {
            panic!("{name}, {when}: execution {executions} of {how}: {why}");
        }
        assert!(executions > 0, "{name}, {when}: nothing was followed");
        println!("{}: {name}, {when}: holds in {executions} {how} ({seconds:.2} s)", checker::NAME);
    }
}

/// Follows `scenario`, in which something is wrong: on machines of one of the timings every way of
/// following it must find that. Prints by which execution.
///
/// Each search is a process of its own: what it finds is a panic in the middle of a model, and those do
/// not all survive their unwinding.
pub fn fails(name: &str, scenario: Scenario) {
    if let Ok(case) = std::env::var(CASE) {
        return search(&case, name, scenario);
    }
    for timing in [Timing::Prompt, Timing::Lagging] {
        let found: Option<Vec<_>> = checker::WAYS
            .iter()
            .map(|way| Some((way, searched(&case(name, timing, way))?)))
            .collect();
        for (way, found) in found.iter().flatten() {
            let how = checker::how(way, Some(MUTANT_BOUND));
            println!("{}: {name}, {}: {CAUGHT}{found} ({how})", checker::NAME, word(timing));
        }
        if found.is_some() {
            return;
        }
    }
    panic!("{name}: not caught");
}

fn case(name: &str, timing: Timing, way: &str) -> String {
    format!("{name}/{timing:?}/{way}")
}

/// What a process of its own finds in `case`.
fn searched(case: &str) -> Option<String> {
    let this = std::thread::current();
    let output = Command::new(std::env::current_exe().expect("a test has a file"))
        .args(["--exact", this.name().expect("a test has a name"), "--nocapture"])
        .env(CASE, case)
        .output()
        .expect("a test can be run again");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix(CAUGHT).map(str::to_string))
}

/// Searches if `wanted` is a case of `name`, and ends the process with what is found.
fn search(wanted: &str, name: &str, scenario: Scenario) {
    let ways = checker::WAYS.iter().flat_map(|way| {
        [Timing::Prompt, Timing::Lagging].map(|timing| (case(name, timing, way), timing, way))
    });
    for (_, timing, way) in ways.filter(|(case, ..)| case == wanted) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        std::panic::set_hook(Box::new(move |panic| {
            let why = text(panic.payload());
            let why = why.lines().next().unwrap_or_default().to_string();
            let number = counted.load(Ordering::Relaxed);
            // Past the capture of the harness.
            let _gone = writeln!(std::io::stdout(), "\n{CAUGHT}{number}: {why}");
            std::process::exit(0);
        }));
        checker::follow(way, Some(MUTANT_BOUND), model(count, timing, scenario));
    }
}

fn word(timing: Timing) -> &'static str {
    match timing {
        Timing::Prompt => "stores at once",
        Timing::Lagging => "stores late",
    }
}

type Model = Arc<dyn Fn() + Send + Sync>;

/// The scenario, counting its executions.
fn model(count: Arc<AtomicUsize>, timing: Timing, scenario: Scenario) -> Model {
    Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        scenario(timing);
    })
}

/// Executions that were followed, and how the last ended.
fn followed(
    name: &str,
    way: &str,
    most: Option<usize>,
    timing: Timing,
    scenario: Scenario,
) -> (usize, Result<(), String>) {
    let count = Arc::new(AtomicUsize::new(0));
    FOLLOWED.set(Some((format!("{name}, {}", word(timing)), Arc::clone(&count))));
    TELLS.call_once(tell_before_unwinding);
    let model = model(Arc::clone(&count), timing, scenario);
    let outcome = catch_unwind(AssertUnwindSafe(|| checker::follow(way, most, model)));
    FOLLOWED.set(None);
    (count.load(Ordering::Relaxed), outcome.map_err(|payload| text(&*payload)))
}

/// Prints what is wrong when it is seen: the unwinding of a model may end the process, and with it every
/// other word.
fn tell_before_unwinding() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        FOLLOWED.with_borrow(|followed| {
            let Some((name, count)) = followed else { return };
            let (number, why) = (count.load(Ordering::Relaxed), text(panic.payload()));
            // Past the capture of the harness.
            let _gone =
                writeln!(std::io::stdout(), "\n{name}: broken in execution {number}: {why}");
        });
        usual(panic);
    }));
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_string()
}

/// A number that the environment gives.
fn given(name: &str) -> Option<usize> {
    let given = std::env::var(name).ok()?;
    Some(given.parse().unwrap_or_else(|_| panic!("{name} is a number, not {given:?}")))
}

#[cfg(loom)]
mod checker {
    use super::Model;

    pub const NAME: &str = "loom";
    pub const WAYS: [&str; 1] = ["all"];

    pub fn how(_: &str, most: Option<usize>) -> String {
        match most {
            None => "executions, all there are: complete for this scenario".into(),
            Some(bound) => format!("executions, all with at most {bound} preemptions"),
        }
    }

    /// Follows every execution.
    pub fn follow(_: &str, most: Option<usize>, model: Model) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = most;
        builder.check(move || model());
    }
}

#[cfg(shuttle)]
mod checker {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    use shuttle::{Config, FailurePersistence, Runner};

    use super::{Model, given};

    pub const NAME: &str = "shuttle";
    pub const WAYS: [&str; 2] = ["random", "pct"];

    /// Schedules of each kind, unless `FAULTLINE_SHUTTLE_SCHEDULES` says otherwise.
    const SCHEDULES: usize = 2000;
    /// Priority changes of a PCT schedule.
    const DEPTH: usize = 3;

    pub fn how(way: &str, _: Option<usize>) -> String {
        match way {
            "random" => "random schedules, a sample".into(),
            _ => format!("schedules of PCT, depth {DEPTH}, a sample"),
        }
    }

    /// Follows random schedules, or random ones with few changes of priority (PCT).
    pub fn follow(way: &str, _: Option<usize>, model: Model) {
        let schedules = given("FAULTLINE_SHUTTLE_SCHEDULES").unwrap_or(SCHEDULES);
        let mut config = Config::new();
        config.failure_persistence = FailurePersistence::None;
        if way == "random" {
            let scheduler = RandomScheduler::new_from_seed(1, schedules);
            Runner::new(scheduler, config).run(move || model());
        } else {
            let scheduler = PctScheduler::new_from_seed(1, DEPTH, schedules);
            Runner::new(scheduler, config).run(move || model());
        }
    }
}
