//! What belongs to one CPU, and data indexed by CPU.
//!
//! TPIDR_EL1 points to this CPU's [`PerCpu`] from before the first Rust instruction. Nothing
//! migrates in this kernel: code stays on its CPU, so a reference to this CPU's data stays right.

use core::arch::asm;
use core::fmt;
use core::ops::Index;
use core::sync::atomic::{AtomicU64, Ordering};

pub use boot::MAX_CPUS;

use super::irq::IrqGuard;

/// Index of a CPU: 0 is the one that booted, the others follow the device tree's order.
/// Always below [`MAX_CPUS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CpuId(u8);

/// One CPU's block. The first two fields are read by `vectors.S`, those up to `sgis` by debuggers
/// (see [`crate::debug`]).
#[repr(C, align(64))]
pub struct PerCpu {
    cpu: u64,
    emergency_top: EmergencyTop,
    mpidr: AtomicU64,
    /// Ticks of this CPU's timer since its start.
    pub ticks: AtomicU64,
    /// Interrupts taken by this CPU.
    pub irqs: AtomicU64,
    /// Wake-up SGIs taken by this CPU.
    pub sgis: AtomicU64,
    /// Entries to the stack overflow handler: more than one is the end.
    pub overflows: AtomicU64,
    /// Bit of this CPU in GICv2 target lists; 0 with a GICv3.
    pub gic_target: AtomicU64,
    /// Ticks that ended the turn of whatever task ran.
    pub turns: AtomicU64,
    reserved: [u64; 55],
}

/// One `T` for each CPU, each in cache lines of its own.
#[derive(Debug)]
#[repr(transparent)]
pub struct CpuLocal<T>([Padded<T>; MAX_CPUS]);

#[repr(C, align(64))]
#[derive(Debug)]
struct Padded<T>(T);

#[repr(transparent)]
struct EmergencyTop(*const u8);

// SAFETY: an address that only the vectors use, and only on the CPU that owns the block.
unsafe impl Sync for EmergencyTop {}

/// The blocks, in the order of [`CpuId`]. `boot` finds them by this name.
#[unsafe(no_mangle)]
static kernel_percpu: [PerCpu; MAX_CPUS] = {
    const fn block(cpu: usize) -> PerCpu {
        PerCpu::new(cpu)
    }
    [block(0), block(1), block(2), block(3), block(4), block(5), block(6), block(7)]
};

const _: () = {
    assert!(size_of::<PerCpu>() == boot::PERCPU_STRIDE);
    assert!(core::mem::offset_of!(PerCpu, emergency_top) == boot::PERCPU_EMERGENCY_TOP);
    assert!(core::mem::offset_of!(PerCpu, mpidr) == 16);
    assert!(core::mem::offset_of!(PerCpu, sgis) == 40);
};

impl PerCpu {
    const fn new(cpu: usize) -> Self {
        // `&raw const` of an extern static only forms its address.
        let stacks = &raw const boot::boot_emergency_stacks;
        let top = stacks.cast::<u8>().wrapping_add((cpu + 1) * boot::EMERGENCY_SLOT);
        Self {
            cpu: cpu as u64,
            emergency_top: EmergencyTop(top),
            mpidr: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            irqs: AtomicU64::new(0),
            sgis: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
            gic_target: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            reserved: [0; 55],
        }
    }

    /// The blocks of all CPUs, for [`crate::debug`].
    pub const fn blocks() -> &'static [Self; MAX_CPUS] {
        &kernel_percpu
    }

    /// The block of `cpu`.
    pub fn of(cpu: CpuId) -> &'static Self {
        &kernel_percpu[cpu.index()]
    }

    /// This CPU's block.
    // Two instructions on the paths that are budgeted.
    #[inline(always)]
    pub fn this() -> &'static Self {
        let block: *const Self;
        // SAFETY: reads a register.
        unsafe {
            asm!("mrs {}, tpidr_el1", out(reg) block, options(nomem, nostack, preserves_flags))
        };
        // SAFETY: boot sets TPIDR_EL1 to an element of `kernel_percpu` before Rust runs, and
        // nothing writes it afterwards.
        unsafe { &*block }
    }

    /// The CPU that owns this block.
    #[inline(always)]
    pub fn id(&self) -> CpuId {
        CpuId(self.cpu as u8)
    }

    /// MPIDR_EL1 affinity of the CPU, as the device tree has it.
    pub fn mpidr(&self) -> u64 {
        // Relaxed: written before the CPU is started, constant afterwards.
        self.mpidr.load(Ordering::Relaxed)
    }

    /// Notes the affinity of a CPU, before it is started.
    pub fn set_mpidr(&self, mpidr: u64) {
        // Relaxed: see `mpidr`.
        self.mpidr.store(mpidr, Ordering::Relaxed);
    }
}

impl CpuId {
    /// The CPU that booted.
    pub const BOOT: Self = Self(0);

    /// The CPU with this index; `None` from [`MAX_CPUS`] on.
    pub const fn new(index: usize) -> Option<Self> {
        if index < MAX_CPUS { Some(Self(index as u8)) } else { None }
    }

    /// Every CPU that has a block, present or not.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MAX_CPUS).filter_map(Self::new)
    }

    /// The CPU that executes this.
    #[inline(always)]
    pub fn current() -> Self {
        PerCpu::this().id()
    }

    /// Its index, below [`MAX_CPUS`].
    #[inline(always)]
    pub const fn index(self) -> usize {
        let index = self.0 as usize;
        // SAFETY: `new` refuses every other index, and `id` reads one of `kernel_percpu`'s, which
        // has no more elements. Spares each access to a CPU's own data a comparison.
        unsafe { core::hint::assert_unchecked(index < MAX_CPUS) };
        index
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// SAFETY: `get` and `[]` share a `T` only if it is `Sync`; `local` gives a CPU its own `T` only,
// so that a `T` is never reached from two CPUs through it.
unsafe impl<T: Send> Sync for CpuLocal<T> {}

impl<T> CpuLocal<T> {
    /// Distance of two CPUs' values in bytes; the first is at the address of the whole.
    pub const STRIDE: usize = size_of::<Padded<T>>();

    /// The same constructor for each CPU: `CpuLocal::new([const { T::new() }; MAX_CPUS])`.
    pub const fn new(values: [T; MAX_CPUS]) -> Self {
        let values = core::mem::ManuallyDrop::new(values);
        // SAFETY: each element is moved out of `values` once, and `values` is never dropped.
        let source =
            unsafe { &*(&raw const values).cast::<[core::mem::MaybeUninit<T>; MAX_CPUS]>() };
        let mut padded = [const { core::mem::MaybeUninit::<Padded<T>>::uninit() }; MAX_CPUS];
        let mut cpu = 0;
        while cpu < MAX_CPUS {
            // SAFETY: as above.
            padded[cpu].write(Padded(unsafe { source[cpu].assume_init_read() }));
            cpu += 1;
        }
        // SAFETY: all elements were written.
        Self(unsafe { core::mem::transmute_copy(&padded) })
    }

    /// This CPU's value. The guard keeps interrupts of this CPU out; exceptions that it causes
    /// itself are not kept out, so hold no borrow across an access that may fault.
    #[inline(always)]
    pub fn local<'a>(&'a self, _masked: &'a IrqGuard) -> &'a T {
        &self.0[CpuId::current().index()].0
    }
}

impl<T: Sync> CpuLocal<T> {
    /// This CPU's value.
    #[inline(always)]
    pub fn get(&self) -> &T {
        &self[CpuId::current()]
    }
}

impl<T: Sync> Index<CpuId> for CpuLocal<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, cpu: CpuId) -> &T {
        &self.0[cpu.index()].0
    }
}
