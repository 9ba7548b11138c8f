//! How long a silent guest may be waited for on this machine, as it is now.
//!
//! A constant is wrong on any machine but the one on which it was found: too short where ten other
//! jobs run, too long where nothing does. So the limit is a multiple of what one boot of the same
//! virtual machine takes, and the boot is made when a guest is already silent: under the load that
//! the guest has.

use std::time::Duration;

use ktap::item::Item;

use crate::guest::{Deadline, Next};
use crate::machine::{Machine, Qemu};
use crate::run::{Boot, Kernel};

/// Silence that needs no measurement: no test is silent for so long on an idle machine.
pub const UNMEASURED: Duration = Duration::from_secs(3);

/// Boots that fit into the silence of a guest that is not hung.
pub const BOOTS: u32 = 60;

/// What is booted: the shortest test that there is.
const SHORTEST: &str = "atomics-follow-the-cpu";

/// When a calibration boot is hopeless. The one limit that no measurement stands behind.
const HOPELESS: Duration = Duration::from_secs(60);

/// The limit of silence for guests of `machine` running `kernel`, by a boot made now. A machine or
/// a kernel that cannot do even that gets the longest limit.
pub fn limit(qemu: &Qemu, machine: &Machine, kernel: &Kernel, items: &[Item]) -> Duration {
    boot(qemu, machine, kernel, items).unwrap_or(HOPELESS) * BOOTS
}

/// From the start of QEMU to the verdict of the smallest boot.
fn boot(qemu: &Qemu, machine: &Machine, kernel: &Kernel, items: &[Item]) -> Option<Duration> {
    let item = items.iter().find(|item| item.name == SHORTEST).or(items.first())?;
    let boot = Boot {
        qemu,
        machine,
        kernel,
        items: vec![item],
        variant: "default",
        words: Vec::new(),
        qemu_args: Vec::new(),
        deadline: Deadline::fixed(HOPELESS),
        log: "calibration".into(),
    };
    boot.run(|_, _| Next::More).ok()?.times.verdict
}
