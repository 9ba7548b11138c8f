//! EL0 from the machine's side: a task's registers, going there and coming back, and the lower half
//! of the address space, which is there only while a task runs or the kernel reads from it.

use core::arch::asm;

use aarch64_cpu::registers::{
    CNTKCTL_EL1, ReadWriteable, Readable, TCR_EL1, TPIDR_EL0, TTBR0_EL1, Writeable,
};
use arena::addr::{Frame, VirtAddr};

use super::access;
use super::barrier;
use super::irq::IrqGuard;
use super::trap::TrapFrame;

/// TTBR0_EL1.ASID.
const ASID_SHIFT: u32 = 48;
/// CPACR_EL1.FPEN: FP and SIMD trap from EL0 alone; SVE and SME (other fields, 0) from both.
const CPACR_FP_FOR_EL1: u64 = 0b01 << 20;

/// A task's registers while it does not run. `boot_run_user` knows the layout.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Context {
    frame: TrapFrame,
    /// The kernel's stack pointer while the task runs.
    kernel_sp: u64,
    /// TPIDR_EL0, which is the task's to use.
    thread: u64,
}

/// Why a task stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By itself: a system call or a fault; the frame has the syndrome.
    Sync,
    /// By an interrupt, which is taken as soon as IRQs are unmasked.
    Irq,
    /// By a fast interrupt, of which this machine has none.
    Fiq,
    /// By an asynchronous abort.
    SError,
}

/// The lower half is a task's on this CPU, with IRQs masked; dropping it takes the half away again
/// and restores DAIF.
#[must_use = "the lower half is gone when this is dropped"]
#[derive(Debug)]
pub struct LowerHalf {
    // Dropped after the half is gone.
    _masked: IrqGuard,
}

const _: () = assert!(core::mem::offset_of!(Context, kernel_sp) == boot::TRAP_FRAME_SIZE);

impl Context {
    /// A task about to start at `pc`, x0 and x1 as given.
    pub const fn new(pc: VirtAddr, sp: VirtAddr, arguments: [u64; 2]) -> Self {
        let mut frame = TrapFrame::at_el0(pc.get(), sp.get());
        [frame.x[0], frame.x[1]] = arguments;
        Self { frame, kernel_sp: 0, thread: 0 }
    }

    /// The registers as the task left them.
    pub fn frame(&self) -> &TrapFrame {
        &self.frame
    }

    /// What the task finds in x0.
    pub fn set_result(&mut self, value: u64) {
        self.frame.x[0] = value;
    }
}

impl LowerHalf {
    /// Gives the half to the tables under `root`, tagged `asid`.
    ///
    /// The ISB between the two registers: with walks on first, a speculative one could use the old
    /// root. (TCR_EL1.EPD0 may be cached in a TLB when it is 0 only, so nothing is flushed: Arm ARM
    /// D24.2, TCR_EL1.)
    ///
    /// # Panics
    /// If the half is given away already.
    pub fn give(root: Frame, asid: u16) -> Self {
        let masked = IrqGuard::new();
        let tcr = TCR_EL1.get();
        assert!(tcr & boot::TCR_EPD0 != 0, "the lower half is in use");
        TTBR0_EL1.set(root.start().get() | u64::from(asid) << ASID_SHIFT);
        barrier::isb();
        TCR_EL1.set(tcr & !boot::TCR_EPD0);
        barrier::isb();
        Self { _masked: masked }
    }

    /// Runs the task until something stops it.
    pub fn run(&self, context: &mut Context) -> Exit {
        TPIDR_EL0.set(context.thread);
        // SAFETY: the context is a frame and a word, 16-byte aligned, exclusively borrowed; its SPSR
        // is of EL0: it was 0 and is changed by exceptions from EL0 only.
        let kind = unsafe { boot::boot_run_user((&raw mut *context).cast()) };
        context.thread = TPIDR_EL0.get();
        match kind {
            0 => Exit::Sync,
            1 => Exit::Irq,
            2 => Exit::Fiq,
            _ => Exit::SError,
        }
    }

    /// Reads from `at` on with EL0's rights; returns how many bytes came before the first that a
    /// task could not read.
    pub fn read(&self, at: VirtAddr, into: &mut [u8]) -> usize {
        for (n, byte) in into.iter_mut().enumerate() {
            match access::user_read_u8(VirtAddr::new(at.get().wrapping_add(n as u64))) {
                Ok(value) => *byte = value,
                Err(access::Faulted) => return n,
            }
        }
        into.len()
    }
}

impl Drop for LowerHalf {
    /// Walks off first; then an ASID that no task has, so that what the TLB still holds of the task
    /// is out of reach as well, and a root that maps nothing.
    fn drop(&mut self) {
        TCR_EL1.set(TCR_EL1.get() | boot::TCR_EPD0);
        barrier::isb();
        TTBR0_EL1.set((&raw const boot::boot_empty_l0).addr() as u64 - boot::DIRECT_BASE);
        barrier::isb();
    }
}

/// Lets EL0 on this CPU read the virtual counter, or forbids it again. For benchmarks, which count a
/// task's access from the task's side.
pub fn let_el0_count(may: bool) {
    CNTKCTL_EL1.modify(if may { CNTKCTL_EL1::EL0VCTEN::SET } else { CNTKCTL_EL1::EL0VCTEN::CLEAR });
    barrier::isb();
}

/// Closes to EL0 what a reset may leave open: FP registers, which are not saved here; the timers and
/// counters, since the tick is the kernel's; the PMU. Once on each CPU.
pub fn close_to_el0() {
    let dfr0: u64;
    // SAFETY: traps of EL0 alone; TPIDRRO_EL0 is EL0's to read and the vectors' as scratch.
    unsafe {
        asm!(
            "msr cpacr_el1, {cpacr}",
            "msr cntkctl_el1, xzr",
            "msr tpidrro_el0, xzr",
            "mrs {dfr0}, id_aa64dfr0_el1",
            cpacr = in(reg) CPACR_FP_FOR_EL1,
            dfr0 = out(reg) dfr0,
            options(nomem, nostack, preserves_flags)
        );
    }
    // 0 and 0xf: no PMU of the architecture, and no such register.
    let pmu_version = dfr0 >> 8 & 0xf;
    if (1..0xf).contains(&pmu_version) {
        // SAFETY: as above.
        unsafe { asm!("msr pmuserenr_el0, xzr", options(nomem, nostack, preserves_flags)) }
    }
    barrier::isb();
}
