//! The interrupt controller: GICv2 or v3, as the device tree says.
//!
//! Two interrupts exist: the virtual timer's PPI and one SGI that wakes a CPU from WFI. Taking and
//! ending an interrupt and sending an SGI use this CPU's own registers and no lock.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use aarch64_cpu::registers::{ID_AA64PFR0_EL1, Readable};
use arm_gic::gicv2::{GicV2, SgiTarget as V2Target, SgiTargetListFilter, registers as v2};
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicV3, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use spin::{Mutex, Once};
use tree::Gic as Description;

use super::fdt::Machine;
use super::{Region, direct_ptr};
use crate::arch::irq::IrqGuard;
use crate::arch::percpu::{CpuId, PerCpu};
use crate::arch::{barrier, exit, smp};

/// Where an interrupt comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// This CPU's virtual timer.
    Timer,
    /// Another CPU, by [`wake`].
    Wake,
    /// An interrupt that nobody enabled, by its number.
    Unknown(u32),
}

/// An interrupt that was taken and not ended yet.
#[must_use = "an interrupt that is not ended blocks all others"]
pub struct Taken(IntId);

/// The SGI that wakes a CPU.
const WAKE: IntId = IntId::sgi(0);
/// Lets every priority through.
const LOWEST_PRIORITY: u8 = 0xff;
/// Priority of both interrupts: one level, so that none preempts the other.
const PRIORITY: u8 = 0x80;
/// GICC_IAR: interrupt number; above it the sender of an SGI.
const INTERRUPT_NUMBER: u32 = 0x3ff;

static GIC: Once<Gic> = Once::new();

struct Gic {
    version: Version,
    timer: IntId,
}

enum Version {
    V2 {
        distributor: *mut v2::Gicd,
        cpu_interface: *mut v2::Gicc,
    },
    /// The lock guards set-up, not interrupts.
    V3(Mutex<GicV3<'static>>),
}

// SAFETY: the pointers are device registers that every CPU may use; see `Gic::v2`.
unsafe impl Send for Gic {}
// SAFETY: as above.
unsafe impl Sync for Gic {}

/// Sets up the distributor, then this CPU as [`init_cpu`]. Once, on the boot CPU.
pub fn init(machine: &Machine) {
    PerCpu::this().set_mpidr(smp::affinity());
    let version = match machine.gic {
        Description::V2 { distributor, cpu_interface } => Version::V2 {
            distributor: direct_ptr(distributor.base),
            cpu_interface: direct_ptr(cpu_interface.base),
        },
        Description::V3 { distributor, redistributors } => {
            Version::V3(Mutex::new(v3(distributor, redistributors, machine.cpus.len())))
        }
    };
    GIC.call_once(|| Gic { version, timer: IntId::ppi(machine.timer_ppi) });
    init_cpu();
}

/// Lets this CPU take its timer's interrupt and wake-ups. Once on each CPU, interrupts masked.
pub fn init_cpu() {
    let gic = gic();
    match &gic.version {
        Version::V2 { .. } => gic.init_cpu_v2(),
        Version::V3(driver) => init_cpu_v3(&mut driver.lock(), gic.timer),
    }
}

/// Makes `cpu` leave WFI. Everything written before is seen by what it does then.
pub fn wake(cpu: CpuId) {
    let _masked = IrqGuard::new();
    let target = PerCpu::of(cpu);
    let gic = gic();
    // The SGI must not overtake the stores that it announces.
    barrier::dsb_ishst();
    match &gic.version {
        Version::V2 { .. } => gic.v2().send_sgi(
            WAKE,
            V2Target::List {
                target_list_filter: SgiTargetListFilter::CPUTargetList,
                // Relaxed: set by `cpu` before it came online.
                target_list: target.gic_target.load(Ordering::Relaxed) as u16,
            },
        ),
        Version::V3(_) => {
            let [a0, a1, a2, _, a3, ..] = target.mpidr().to_le_bytes();
            let target = SgiTarget::List {
                affinity3: a3,
                affinity2: a2,
                affinity1: a1,
                target_list: 1 << (a0 & 0xf),
            };
            // The number is an SGI, so this cannot fail.
            let _ = GicCpuInterface::send_sgi(WAKE, target, SgiTargetGroup::CurrentGroup1);
            barrier::isb();
        }
    }
}

/// Takes the pending interrupt of the highest priority; `None` if it is gone by now. The caller
/// owes an [`end`]. Interrupts are masked.
pub fn take() -> Option<(Source, Taken)> {
    let gic = gic();
    let taken = gic.acknowledge()?;
    let number = u32::from(taken) & INTERRUPT_NUMBER;
    let source = if number == u32::from(gic.timer) {
        Source::Timer
    } else if number == u32::from(WAKE) {
        Source::Wake
    } else {
        Source::Unknown(number)
    };
    Some((source, Taken(taken)))
}

/// Ends an interrupt: the next of its kind can come.
pub fn end(taken: Taken) {
    gic().end(taken.0);
}

fn gic() -> &'static Gic {
    GIC.get().expect("gic::init comes first")
}

impl Gic {
    fn acknowledge(&self) -> Option<IntId> {
        let taken = match &self.version {
            Version::V2 { .. } => self.v2().get_and_acknowledge_interrupt(InterruptGroup::Group0),
            Version::V3(_) => {
                GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1)
            }
        };
        // The acknowledgement takes effect, and the stores that an SGI announces are seen, before
        // anything below.
        barrier::dsb_sy();
        taken
    }

    fn end(&self, taken: IntId) {
        match &self.version {
            Version::V2 { .. } => self.v2().end_interrupt(taken, InterruptGroup::Group0),
            Version::V3(_) => GicCpuInterface::end_interrupt(taken, InterruptGroup::Group1),
        }
    }

    /// The driver of a GICv2, for one call. GICv2 in `virt` has no security extensions, so that
    /// group 0 is the only one and arrives as IRQ.
    fn v2(&self) -> GicV2<'static> {
        let Version::V2 { distributor, cpu_interface } = self.version else {
            unreachable!("asked a GICv3 for its GICv2");
        };
        // SAFETY: the device tree says that the registers are there and the direct map covers them
        // as device memory. Several CPUs hold such a driver at a time; what they use together is
        // either banked by CPU (GICC, the first words of GICD) or write-only (GICD_SGIR).
        unsafe { GicV2::new(distributor, cpu_interface) }
    }

    fn init_cpu_v2(&self) {
        let Version::V2 { distributor, .. } = self.version else { return };
        let mut driver = self.v2();
        // Enables the distributor, again on each CPU: the same values each time.
        driver.setup();
        driver.set_priority_mask(LOWEST_PRIORITY);
        for id in [self.timer, WAKE] {
            driver.set_interrupt_priority(id, PRIORITY);
            // SGIs are always enabled on some controllers; a timer that cannot be is never heard.
            let _ = driver.enable_interrupt(id, true);
        }
        // SAFETY: GICD_ITARGETSR0 is banked: it reads this CPU's own bit in each byte.
        let targets = unsafe { (&raw const (*distributor).itargetsr[0]).read_volatile() };
        let bit = u64::from(targets & 0xff);
        // Relaxed: published with the CPU's coming online. A single CPU's controller reads 0.
        PerCpu::this().gic_target.store(bit.max(1), Ordering::Relaxed);
    }
}

fn v3(distributor: Region, redistributors: Region, cpus: usize) -> GicV3<'static> {
    // ID_AA64PFR0_EL1.GIC, bits 27:24.
    if ID_AA64PFR0_EL1.get() >> 24 & 0xf == 0 {
        exit::bail_out(format_args!("the device tree has a GICv3, this CPU no interface to it"));
    }
    let pointers = NonNull::new(direct_ptr::<Gicd>(distributor.base))
        .zip(NonNull::new(direct_ptr::<GicrSgi>(redistributors.base)));
    let Some((distributor, redistributors)) = pointers else {
        exit::bail_out(format_args!("the device tree has a GICv3 without an address"));
    };
    // SAFETY: the device tree says that the registers are there, the direct map covers them as
    // device memory, and this is the only driver.
    let driver = unsafe { GicV3::new(UniqueMmioPointer::new(distributor), redistributors, cpus) };
    match driver {
        Ok(mut driver) => {
            let index = redistributor_of(&mut driver, smp::affinity());
            driver.setup(index);
            driver
        }
        Err(error) => exit::bail_out(format_args!("GICv3: {error}")),
    }
}

fn init_cpu_v3(driver: &mut GicV3<'static>, timer: IntId) {
    let index = redistributor_of(driver, smp::affinity());
    driver.init_cpu(index);
    GicCpuInterface::set_priority_mask(LOWEST_PRIORITY);
    for id in [timer, WAKE] {
        let done = driver
            .set_interrupt_priority(id, Some(index), PRIORITY)
            .and_then(|()| driver.enable_interrupt(id, Some(index), true));
        if let Err(error) = done {
            exit::bail_out(format_args!("GICv3: {error}"));
        }
    }
    GicCpuInterface::enable_group1(true);
    barrier::isb();
}

/// Index of the redistributor that says it belongs to the CPU with this affinity.
fn redistributor_of(driver: &mut GicV3<'static>, affinity: u64) -> usize {
    let mut index = 0;
    while let Ok(typer) = driver.gicr_typer(index) {
        if typer.core_mpidr() & 0xff_00ff_ffff == affinity {
            return index;
        }
        index += 1;
    }
    exit::bail_out(format_args!("GICv3: no redistributor for CPU {affinity:#x}"))
}
