//! PSCI calls to the firmware (DEN0022), through the conduit that the device tree names.

use core::sync::atomic::{AtomicBool, Ordering};

use arena::addr::PhysAddr;
use smccc::{Hvc, Smc, psci};
use tree::Conduit;

static USE_SMC: AtomicBool = AtomicBool::new(false);

/// Until the device tree is read: QEMU `virt` answers SMC if it entered the image at EL2, HVC
/// otherwise.
pub fn guess_conduit(entry_el: u64) {
    set_conduit(if entry_el == 2 { Conduit::Smc } else { Conduit::Hvc });
}

/// What the device tree says. Before other CPUs run.
pub fn set_conduit(conduit: Conduit) {
    // Relaxed: other CPUs start later.
    USE_SMC.store(conduit == Conduit::Smc, Ordering::Relaxed);
}

/// Starts the CPU with this affinity at `entry`, MMU off, x0 = `context`.
///
/// # Errors
/// What the firmware answers.
pub fn cpu_on(mpidr: u64, entry: PhysAddr, context: u64) -> Result<(), psci::Error> {
    match conduit() {
        Conduit::Hvc => psci::cpu_on::<Hvc>(mpidr, entry.get(), context),
        Conduit::Smc => psci::cpu_on::<Smc>(mpidr, entry.get(), context),
    }
}

/// Switches the machine off. Returns only if the firmware refuses.
pub fn system_off() {
    system_off_by(conduit());
}

/// The same through the conduit that neither the device tree named nor the guess: the last resort.
pub fn system_off_otherwise() {
    system_off_by(match conduit() {
        Conduit::Hvc => Conduit::Smc,
        Conduit::Smc => Conduit::Hvc,
    });
}

fn system_off_by(conduit: Conduit) {
    let _ = match conduit {
        Conduit::Hvc => psci::system_off::<Hvc>(),
        Conduit::Smc => psci::system_off::<Smc>(),
    };
}

fn conduit() -> Conduit {
    // Relaxed: see `set_conduit`.
    if USE_SMC.load(Ordering::Relaxed) { Conduit::Smc } else { Conduit::Hvc }
}
