//! Benchmarks: what an operation costs in guest instructions.
//!
//! `cargo xtask bench` boots an image without the lab under QEMU's `-icount`, with a counter that counts
//! one for each instruction (`shift=0`, CNTFRQ_EL0 of 1 GHz); elsewhere the figures are times and mean
//! little. Each figure is the median of [`ROUNDS`] brackets of `isb; mrs` around the operation, less an
//! empty bracket; how far the rounds lie apart is told beside it. The tick is off and IRQs are masked
//! meanwhile. The host knows the budgets (`xtask/src/command/bench/budget.rs`).

mod arena;
mod baseline;
mod boot;
mod contended;
mod fault;
mod memory;
mod prog;
mod range;
mod task;

pub use boot::{note_first_item, note_first_line};

use alloc::vec::Vec;
use core::hint::black_box;

use crate::arch::irq::IrqGuard;
use crate::arch::timer;
use crate::runner::{self, Failure, Outcome};

/// Brackets of a figure.
pub const ROUNDS: usize = 15;
/// Brackets before, which are not counted: first touches of tables, frames and lines of the heap.
const WARM: usize = 2;

/// Calls `figures` with the tick off.
pub fn quietly(figures: impl FnOnce() -> Outcome) -> Outcome {
    timer::stop_tick();
    let outcome = figures();
    timer::start_tick();
    outcome
}

/// Measures `act` on what `prepare` makes for each round, and prints the figure. `size` is what the
/// operation is proportional to, or 1.
///
/// # Errors
/// `prepare`'s.
pub fn figure<T, R>(
    name: &str,
    size: u64,
    prepare: impl FnMut() -> Result<T, Failure>,
    act: impl FnMut(&mut T) -> R,
) -> Outcome {
    measured(prepare, act)?.print(name, size);
    Ok(())
}

/// The same for what needs nothing prepared.
///
/// # Errors
/// None.
pub fn plain<R>(name: &str, mut act: impl FnMut() -> R) -> Outcome {
    figure(name, 1, || Ok(()), |()| act())
}

/// What the rounds of one operation came to.
pub struct Measured {
    /// The median.
    pub count: u64,
    /// How far the rounds lie apart.
    pub spread: u64,
}

impl Measured {
    /// What the rounds' `counts`, of which there are some, came to.
    fn of(mut counts: Vec<u64>) -> Self {
        counts.sort_unstable();
        let spread = counts[counts.len() - 1] - counts[0];
        Self { count: counts[counts.len() / 2], spread }
    }

    /// Prints it as a figure.
    pub fn print(&self, name: &str, size: u64) {
        let Self { count, spread } = self;
        runner::diagnose(format_args!("bench: {name} size={size} count={count} spread={spread}"));
    }

    /// The `n`th part of what this costs more than `less`, which does the same without something `n` times.
    pub fn beyond(&self, less: &Self, n: u64) -> Self {
        let count = self.count.saturating_sub(less.count) / n;
        Self { count, spread: (self.spread + less.spread) / n }
    }
}

/// Measures as [`figure`] does, and prints nothing.
///
/// # Errors
/// `prepare`'s.
pub fn measured<T, R>(
    mut prepare: impl FnMut() -> Result<T, Failure>,
    mut act: impl FnMut(&mut T) -> R,
) -> Result<Measured, Failure> {
    let empty = bracket(&mut (), |()| ());
    let mut counts = Vec::with_capacity(ROUNDS);
    for round in 0..WARM + ROUNDS {
        let mut with = prepare()?;
        let count = bracket(&mut with, &mut act);
        if round >= WARM {
            counts.push(count.saturating_sub(empty));
        }
    }
    Ok(Measured::of(counts))
}

#[inline(never)]
fn bracket<T, R>(with: &mut T, mut act: impl FnMut(&mut T) -> R) -> u64 {
    let masked = IrqGuard::new();
    let before = timer::counter();
    let result = act(with);
    let after = timer::counter();
    drop(masked);
    black_box(result);
    after - before
}
