//! `irqs-on`: the lock leaves interrupts on.

use arena::hw::Irqs;
use arena::protocol::Protocol;

/// The arena's lock leaves IRQs on: a timer program that enters the arena on the holder's CPU
/// meets its own CPU's lock.
pub struct IrqsOn;

impl Protocol for IrqsOn {
    const NAME: &'static str = "irqs-on";
    const IRQS: Irqs = Irqs::Unchanged;
}
