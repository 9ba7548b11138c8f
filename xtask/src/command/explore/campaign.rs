//! A campaign: the pieces that have no result yet, as many boots at once as there are cores.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::boot::{Bed, Played};
use super::log::Counts;
use super::result::{Book, Line, Verdict};
use super::unit::Piece;
use crate::interrupt;

/// The live line.
const LIVE: &str = "[{pos}/{len}] {elapsed} gone  {wide_msg}";

/// What a campaign left.
pub struct Ended {
    /// A result for each piece that has one, in the order of the pieces.
    pub lines: Vec<Line>,
    /// What was booted now, in the same order.
    pub played: Vec<Played>,
}

/// Runs `pieces`, but those that `known` has a result of; adds every result to `book` at once.
/// Behind a loss of a race under a variant its further pieces are left out: they can say no more.
///
/// # Errors
/// QEMU cannot be started, or a result cannot be kept. Results until then are in the book.
pub fn run(bed: Bed<'_>, pieces: &[Piece<'_>], known: &[Line], book: Book) -> Result<Ended> {
    let mut lines: Vec<Option<Line>> = pieces
        .iter()
        .map(|piece| known.iter().find(|line| line.unit == piece.unit).cloned())
        .collect();
    let due: Vec<usize> = (0..pieces.len()).filter(|index| lines[*index].is_none()).collect();
    let lost = (0..pieces.len()).filter(|index| lines[*index].as_ref().is_some_and(is_lost));
    let lost = lost.map(|index| (pair(&pieces[index]), index)).collect();
    let state = Mutex::new(State { live: Live::new(due.len()), lost, book, played: Vec::new() });
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let work = || {
            while let Some(&index) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
                if interrupt::requested() {
                    break;
                }
                one(bed, &pieces[index], index, &state)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(()))).collect()
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.live.bar.finish_and_clear();
    outcomes.into_iter().collect::<Result<()>>()?;
    let mut played = state.played;
    played.sort_by_key(|(index, _)| *index);
    for (index, played) in &played {
        lines[*index] = Some(played.line.clone());
    }
    let played = played.into_iter().map(|(_, played)| played).collect();
    Ok(Ended { lines: lines.into_iter().flatten().collect(), played })
}

/// What the workers share.
struct State {
    live: Live,
    /// Which piece lost, by race and variant.
    lost: HashMap<(String, String), usize>,
    book: Book,
    played: Vec<(usize, Played)>,
}

fn pair(piece: &Piece<'_>) -> (String, String) {
    (piece.unit.scenario.clone(), piece.unit.variant.clone())
}

fn is_lost(line: &Line) -> bool {
    line.verdict == Verdict::Lost
}

fn one(bed: Bed<'_>, piece: &Piece<'_>, index: usize, state: &Mutex<State>) -> Result<()> {
    if lock(state).lost.get(&pair(piece)).is_some_and(|lost| *lost < index) {
        lock(state).live.left_out();
        return Ok(());
    }
    let progress = |counts| lock(state).live.progress(index, piece, counts);
    let Some(played) = bed.play(piece, piece.unit.words(), progress)? else { return Ok(()) };
    let mut state = lock(state);
    state.live.ended(index, &played.line);
    if is_lost(&played.line) {
        let first = state.lost.entry(pair(piece)).or_insert(index);
        *first = index.min(*first);
    }
    state.book.add(&played.line)?;
    state.played.push((index, played));
    Ok(())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The live line: only where a person looks.
struct Live {
    bar: ProgressBar,
    began: Instant,
    /// Of the pieces that run.
    running: HashMap<usize, Counts>,
    schedules: u64,
    deepest: u64,
    held: u64,
    lost: u64,
    wrong: u64,
}

impl Live {
    fn new(total: usize) -> Self {
        let is_watched = std::io::stdout().is_terminal() && std::env::var_os("CI").is_none();
        let bar = if is_watched {
            let target = ProgressDrawTarget::stdout();
            let bar = ProgressBar::with_draw_target(Some(total as u64), target);
            bar.enable_steady_tick(Duration::from_millis(500));
            let style = ProgressStyle::with_template(LIVE);
            bar.with_style(style.unwrap_or(ProgressStyle::default_bar()))
        } else {
            ProgressBar::hidden()
        };
        let (began, running) = (Instant::now(), HashMap::new());
        Self { bar, began, running, schedules: 0, deepest: 0, held: 0, lost: 0, wrong: 0 }
    }

    fn progress(&mut self, index: usize, piece: &Piece<'_>, counts: Counts) {
        self.running.insert(index, counts);
        self.deepest = self.deepest.max(counts.longest);
        self.show(&format!("{}@{}", piece.unit.scenario, piece.unit.variant));
    }

    fn ended(&mut self, index: usize, line: &Line) {
        self.running.remove(&index);
        self.schedules += line.schedules;
        self.deepest = self.deepest.max(line.longest);
        match line.verdict {
            Verdict::Held => self.held += 1,
            Verdict::Lost => self.lost += 1,
            Verdict::Skipped | Verdict::Broken => {}
        }
        self.wrong += u64::from(!line.met && line.verdict != Verdict::Skipped);
        self.bar.inc(1);
        self.show("");
    }

    fn left_out(&self) {
        self.bar.inc(1);
    }

    fn show(&self, what: &str) {
        self.bar.set_message(format!("{} {what}", self.text(self.began.elapsed())));
    }

    fn text(&self, gone: Duration) -> String {
        let running: u64 = self.running.values().map(|counts| counts.schedules).sum();
        let schedules = self.schedules + running;
        let rate = schedules as f64 / gone.as_secs_f64().max(0.001);
        let Self { deepest, held, lost, wrong, .. } = self;
        format!(
            "{schedules} schedules, {rate:.0}/s, deepest {deepest}; \
             {held} held, {lost} lost, {wrong} wrong"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::held;
    use super::super::unit::{pieces, tests as unit};
    use super::*;

    #[test]
    fn the_live_line_sums_what_runs_and_what_ran() {
        let race = unit::race();
        let piece = pieces(&unit::options(""), &[&race], "k").remove(0);
        let mut live = Live::new(2);
        live.progress(1, &piece, Counts { schedules: 300, longest: 40, ..Counts::default() });
        live.ended(0, &held("default", "0/1"));
        let text = live.text(Duration::from_secs(2));
        assert_eq!(text, "400 schedules, 200/s, deepest 40; 1 held, 0 lost, 0 wrong");
        live.ended(1, &Line { verdict: Verdict::Broken, met: false, ..held("default", "0/1") });
        let text = live.text(Duration::from_secs(2));
        assert_eq!(text, "200 schedules, 100/s, deepest 40; 1 held, 0 lost, 1 wrong");
    }

    #[test]
    fn a_result_that_is_known_is_not_made_again() {
        let race = unit::race();
        let pieces = pieces(&unit::options("--variant default"), &[&race], "k");
        let known = [held("default", "0/1")];
        let path = std::env::temp_dir().join(format!("faultline-known-{}", std::process::id()));
        let qemu =
            crate::machine::Qemu { path: "/nowhere".into(), version: (7, 2), name: String::new() };
        let kernel = crate::run::Kernel::nowhere();
        let bed = Bed { qemu: &qemu, kernel: &kernel, items: &[] };
        let book = || Book::open(&path).unwrap();
        let ended = run(bed, &pieces, &known, book()).unwrap();
        assert_eq!((ended.lines.as_slice(), ended.played.len()), (&known[..], 0));
        let other = [Line { schedules: 1, ..held("plain-store", "0/1") }];
        assert!(run(bed, &pieces, &other, book()).is_err(), "what is not known is booted");
        std::fs::remove_file(&path).unwrap();
    }
}
