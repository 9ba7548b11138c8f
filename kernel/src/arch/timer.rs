//! Time: the virtual counter, and a tick on each CPU from the virtual timer.
//!
//! The tick only counts. It is there so that code runs under real interrupts; nothing decides by
//! it. Under QEMU's `-icount` with a counter of 1 GHz a nanosecond is one guest instruction.

use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0, Readable, Writeable,
};

use super::barrier;
use super::exit;
use super::percpu::PerCpu;

/// Distance of two ticks in nanoseconds.
pub const TICK_NS: u64 = 10_000_000;

/// CNTV_CTL_EL0: ENABLE.
const ENABLE: u64 = 1;
/// CNTV_CTL_EL0: ISTATUS, the condition is met.
const STATUS: u64 = 1 << 2;
const NS_PER_S: u64 = 1_000_000_000;
/// Fraction bits of [`SCALE`].
const SCALE_SHIFT: u32 = 32;

/// Nanoseconds per count, with [`SCALE_SHIFT`] fraction bits.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// A point in time that can be waited for.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(u64);

/// Learns the counter's frequency. Once, before other CPUs run.
pub fn init() {
    let frequency = CNTFRQ_EL0.get();
    if frequency == 0 {
        exit::bail_out(format_args!("timer: CNTFRQ_EL0 is 0"));
    }
    // Relaxed: other CPUs start later. At 1 MHz and above the quotient fits.
    SCALE.store(
        ((NS_PER_S as u128) << SCALE_SHIFT).div_ceil(frequency as u128) as u64,
        Ordering::Relaxed,
    );
}

/// Counts of the virtual counter, not earlier than all instructions before.
// Brackets measured code: ISB and MRS, nothing else.
#[inline(always)]
pub fn counter() -> u64 {
    barrier::isb();
    CNTVCT_EL0.get()
}

/// A hundred instructions that do nothing: what they count is what an instruction counts.
#[inline(always)]
pub fn hundred_nops() {
    // SAFETY: does nothing.
    unsafe { core::arch::asm!(".rept 100", "nop", ".endr", options(nomem, nostack)) }
}

/// Nanoseconds of the virtual counter.
pub fn now_ns() -> u64 {
    // Relaxed: constant after `init`.
    let scale = SCALE.load(Ordering::Relaxed);
    ((u128::from(counter()) * u128::from(scale)) >> SCALE_SHIFT) as u64
}

impl Deadline {
    /// `ns` nanoseconds from now.
    pub fn after_ns(ns: u64) -> Self {
        Self(now_ns().saturating_add(ns))
    }

    /// Whether it has come.
    pub fn has_passed(self) -> bool {
        now_ns() >= self.0
    }
}

/// Starts this CPU's tick. The interrupt must be enabled at the controller.
pub fn start_tick() {
    CNTV_CVAL_EL0.set(counter().wrapping_add(counts(TICK_NS)));
    CNTV_CTL_EL0.set(ENABLE);
    barrier::isb();
}

/// Stops this CPU's tick, until [`start_tick`].
pub fn stop_tick() {
    CNTV_CTL_EL0.set(0);
    barrier::isb();
}

/// Whether this CPU's tick is due, taken or not: a masked interrupt waits in this state.
pub fn is_pending() -> bool {
    CNTV_CTL_EL0.get() & STATUS != 0
}

/// The timer's interrupt: counts, and asks for the next. Returns the tick's number on this CPU.
pub fn tick() -> u64 {
    // Relaxed: a statistic.
    let number = PerCpu::this().ticks.fetch_add(1, Ordering::Relaxed);
    // From now, not from the last: a guest that was held up is not flooded.
    start_tick();
    number
}

fn counts(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(CNTFRQ_EL0.get()) / u128::from(NS_PER_S)) as u64
}
