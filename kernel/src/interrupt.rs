//! An IRQ at EL1: taken, handled, ended, with interrupts masked throughout.

use core::sync::atomic::Ordering;

use crate::arch::percpu::PerCpu;
use crate::arch::timer;
use crate::arch::trap::TrapFrame;
use crate::dev::gic::{self, Source};
use crate::fault;
use crate::lab::engine;
use crate::mem::worker;
use crate::prog::policy::{self, Turn};
use crate::prog::tracepoint::SCHED_TICK;

/// Handles one interrupt. A tick fires its tracepoint here, in interrupt context: whatever code it
/// interrupted, that code holds no lock that masks IRQs.
pub fn irq(frame: &mut TrapFrame) {
    let Some((source, taken)) = gic::take() else { return };
    let this = PerCpu::this();
    // Relaxed: statistics.
    this.irqs.fetch_add(1, Ordering::Relaxed);
    match source {
        Source::Timer => {
            SCHED_TICK.fire(timer::tick());
            if policy::tick() == Turn::Over {
                this.turns.fetch_add(1, Ordering::Relaxed);
            }
            worker::work();
        }
        Source::Wake => {
            this.sgis.fetch_add(1, Ordering::Relaxed);
            // The lab raises its ticks itself, where the schedule says.
            engine::on_raised(|| SCHED_TICK.fire(0));
        }
        Source::Unknown(_) => fault::unexpected(frame, "interrupt that nobody enabled"),
    }
    gic::end(taken);
}
