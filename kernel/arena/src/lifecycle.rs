//! The life of a program, and who may still be inside it.
//!
//! ```text
//! loaded -> running -> faulted -> aborted -> torn down
//!        \        \-> unloaded --------------^
//!         \-> unloaded or aborted -----------^
//! ```
//!
//! One atomic word holds flags and the number of CPUs inside. A flag, once set, stays: each step
//! is taken once, and a step skipped is simply a flag not set. Because entering, aborting and
//! tearing down all change the *same* word by read-modify-write, they stand in one order that all
//! CPUs agree on: an entry either comes before the abort and is counted, or comes after it and is
//! refused. No barrier between a flag and a counter could be forgotten, as there are not two.
//!
//! What it answers to: Linux frees a program after an RCU grace period, and so waits for all CPUs;
//! here the teardown waits for those that are inside, and the lab can step it.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The state of one program.
pub struct Lifecycle {
    word: AtomicU64,
}

/// One CPU inside a program, until it is dropped. While it lives nothing of the program is freed.
#[must_use]
pub struct Inside<'a> {
    lifecycle: &'a Lifecycle,
}

/// How far a program has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// Nobody has entered it.
    Loaded,
    /// It has been entered; somebody may be inside.
    Running,
    /// It has made a wild access, and may still run.
    Faulted,
    /// Closed to entries, without a fault.
    Unloaded,
    /// Closed to entries by an abort; somebody may still be inside.
    Aborted,
    /// Its resources belong to whoever tore it down.
    TornDown,
}

/// Why an entry was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The program is closed; this is its state.
    Closed(State),
    /// As many are inside as can be counted.
    Full,
}

/// Why a program was not torn down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotDown {
    /// It is closed, but so many CPUs are still inside. Try again.
    Busy {
        /// CPUs inside, at least one.
        inside: u32,
    },
    /// Another call has torn it down.
    AlreadyDown,
    /// It is neither aborted nor cleanly unloaded.
    StillLoaded,
}

/// Why a program was not unloaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotUnloaded {
    /// It has faulted: abort it.
    Faulted,
    /// It is closed already; this is its state.
    Closed(State),
}

/// CPUs inside: the low half. [`MOST_INSIDE`] is the highest count.
const INSIDE: u64 = 0xffff_ffff;
const MOST_INSIDE: u64 = INSIDE;
const ENTERED: u64 = 1 << 32;
const FAULTED: u64 = 1 << 33;
const UNLOADED: u64 = 1 << 34;
const ABORTED: u64 = 1 << 35;
const DOWN: u64 = 1 << 36;
const CLOSED: u64 = UNLOADED | ABORTED | DOWN;

impl Lifecycle {
    /// A program that is loaded and was never entered.
    #[expect(clippy::new_without_default, reason = "a program is loaded, never defaulted")]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// Counts this CPU in. Any context; nests, each entry with a guard of its own.
    ///
    /// # Errors
    /// [`Refused`]; the program is not entered and nothing has changed.
    pub fn enter(&self) -> Result<Inside<'_>, Refused> {
        let enter = |word: u64| {
            let open = word & CLOSED == 0 && word & INSIDE < MOST_INSIDE;
            open.then(|| (word | ENTERED) + 1)
        };
        // Relaxed: the order of changes to this word alone decides between an entry and an abort,
        // and what the program is made of was published by whoever handed out the reference to
        // it. Acquire for the read: who is refused also sees what led to it (see `abort`).
        match self.word.fetch_update(Ordering::Relaxed, Ordering::Acquire, enter) {
            Ok(_) => Ok(Inside { lifecycle: self }),
            Err(word) if word & CLOSED != 0 => Err(Refused::Closed(state(word))),
            Err(_) => Err(Refused::Full),
        }
    }

    /// Notes a wild access of the program, which somebody is inside of. Callable from the abort
    /// handler: one read-modify-write, no waiting. Returns whether it is the first.
    pub fn mark_faulted(&self) -> bool {
        // Release: whoever sees the fault by an acquiring read finds its record on the stream.
        // Relaxed, an abort that answers the fault may find the stream empty (shape MP).
        self.word.fetch_or(FAULTED, Ordering::Release) & FAULTED == 0
    }

    /// Closes the program: no entry succeeds after this returns, and those inside are asked to
    /// leave. Any CPU, any context, any number of times. Returns whether this is the call that
    /// aborted it; never, once it is torn down.
    pub fn abort(&self) -> bool {
        // Release: whoever is refused or sees the state finds what the aborter wrote before it,
        // such as the reason (shape MP). It learns nothing from the word itself: to answer a
        // fault, ask `has_faulted`.
        self.word.fetch_or(ABORTED, Ordering::Release) & (ABORTED | DOWN) == 0
    }

    /// Closes a program that never faulted, as [`Self::abort`] does one that did. A fault of a CPU
    /// that is still inside afterwards makes an abort necessary all the same.
    ///
    /// # Errors
    /// [`NotUnloaded`]; nothing has changed.
    pub fn unload(&self) -> Result<(), NotUnloaded> {
        let unload = |word: u64| (word & (FAULTED | CLOSED) == 0).then_some(word | UNLOADED);
        // Release: as in `abort`. Acquire for the read: as in `enter`.
        match self.word.fetch_update(Ordering::Release, Ordering::Acquire, unload) {
            Ok(_) => Ok(()),
            Err(word) if word & CLOSED != 0 => Err(NotUnloaded::Closed(state(word))),
            Err(_) => Err(NotUnloaded::Faulted),
        }
    }

    /// Takes the program down if it is closed and nobody is inside. Exactly one call ever returns
    /// `Ok`: its caller now owns what the program had, and frees it.
    ///
    /// # Errors
    /// [`NotDown`]; nothing has changed.
    pub fn try_teardown(&self) -> Result<(), NotDown> {
        let take_down = |word: u64| refusal(word).is_none().then_some(word | DOWN);
        // Acquire, with the Release of every exit: all that was done inside is over and visible
        // before anything is freed. Relaxed, a CPU may still read what is freed (shape LB), or its
        // last store may land in it (shape S). The word changes by read-modify-write only, so that
        // the last exit passes on what the earlier ones released. Of the two orderings either
        // would do; nobody need know which.
        match self.word.fetch_update(Ordering::Acquire, Ordering::Acquire, take_down) {
            Ok(_) => Ok(()),
            // A word that was refused has a reason.
            Err(word) => Err(refusal(word).unwrap_or(NotDown::AlreadyDown)),
        }
    }

    /// How far the program has come.
    pub fn state(&self) -> State {
        // Acquire: see `mark_faulted` and `abort`.
        state(self.word.load(Ordering::Acquire))
    }

    /// Whether the program ever made a wild access, whatever became of it since.
    pub fn has_faulted(&self) -> bool {
        // Acquire: see `mark_faulted`.
        self.word.load(Ordering::Acquire) & FAULTED != 0
    }

    /// Whether it is closed by an abort: asked by a run again and again, which then ends.
    pub fn is_aborted(&self) -> bool {
        // Relaxed: the run ends a little later; it learns nothing else from the word.
        self.word.load(Ordering::Relaxed) & ABORTED != 0
    }

    /// The word itself, for debuggers: CPUs inside in bits 0 to 31, then a flag each for entered,
    /// faulted, unloaded, aborted and torn down.
    pub fn word(&self) -> &AtomicU64 {
        &self.word
    }

    /// CPUs inside at this moment, nested entries counted each.
    pub fn inside(&self) -> u32 {
        // Relaxed: for reports; nothing may be freed on the strength of it.
        inside(self.word.load(Ordering::Relaxed))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release: see `try_teardown`. The count is not zero: this guard is one of it.
        self.lifecycle.word.fetch_sub(1, Ordering::Release);
    }
}

fn state(word: u64) -> State {
    match word {
        _ if word & DOWN != 0 => State::TornDown,
        _ if word & ABORTED != 0 => State::Aborted,
        _ if word & FAULTED != 0 => State::Faulted,
        _ if word & UNLOADED != 0 => State::Unloaded,
        _ if word & ENTERED != 0 => State::Running,
        _ => State::Loaded,
    }
}

/// Why a program in this state may not be torn down.
fn refusal(word: u64) -> Option<NotDown> {
    let clean = word & (UNLOADED | FAULTED) == UNLOADED;
    match inside(word) {
        _ if word & DOWN != 0 => Some(NotDown::AlreadyDown),
        _ if word & ABORTED == 0 && !clean => Some(NotDown::StillLoaded),
        0 => None,
        inside => Some(NotDown::Busy { inside }),
    }
}

fn inside(word: u64) -> u32 {
    (word & INSIDE) as u32
}

/// Owners of something, beginning with one. At its highest value it stays for ever: what is
/// counted is then never freed, which is the lesser evil. Linux `refcount_t` does the same.
pub struct RefCount {
    count: AtomicU32,
}

/// The last owner is gone: there is nothing left to get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

/// What giving up a reference has led to.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// Others remain.
    Kept,
    /// It was the last: the caller frees.
    Last,
    /// There was none to give up: a bug of the caller's. Nothing has changed.
    Underflow,
}

impl RefCount {
    const SATURATED: u32 = u32::MAX;

    /// One owner.
    #[expect(clippy::new_without_default, reason = "a count without an owner is no default")]
    pub fn new() -> Self {
        Self { count: AtomicU32::new(1) }
    }

    /// Adds an owner.
    ///
    /// # Errors
    /// [`Gone`] if there is none: a count that has reached zero never rises again.
    pub fn get(&self) -> Result<(), Gone> {
        let add = |count: u32| (count != 0).then(|| count.saturating_add(1));
        // Relaxed: whoever adds an owner got at the object through one that holds it in place.
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map(drop).or(Err(Gone))
    }

    /// Removes an owner.
    pub fn put(&self) -> Put {
        let remove = |count: u32| (count != 0 && count != Self::SATURATED).then(|| count - 1);
        // Release: what this owner did with the object is over before it gives it up. Acquire:
        // the last one frees only after it has seen that of all others.
        match self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, remove) {
            Ok(1) => Put::Last,
            Ok(_) | Err(Self::SATURATED) => Put::Kept,
            Err(_) => Put::Underflow,
        }
    }
}

#[cfg(test)]
mod tests;
