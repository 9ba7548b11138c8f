//! The other CPUs: started by PSCI, then given jobs.
//!
//! An idle CPU waits in WFI with its mailbox empty. A job is a closure on the caller's stack: the
//! caller puts its address in the mailboxes, sends SGIs, takes part if it is in the set, and
//! returns only when every CPU has finished, which it learns by an SGI, not by time. (WFE would
//! do, but QEMU runs it as a no-op on several host threads: idle CPUs would eat the working ones.)

use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use arena::addr::PhysAddr;

use super::features::{self, CpuFeatures};
use super::irq::{self, IrqGuard};
use super::percpu::{CpuId, CpuLocal, MAX_CPUS, PerCpu};
use super::timer::{self, Deadline};
use super::{barrier, exit, mmu, trap};
use crate::dev::{fdt::Machine, gic, psci};

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CpuSet(u8);

/// A closure for some CPUs, and how many of them have not finished it.
struct Job {
    run: unsafe fn(*const (), CpuId),
    closure: *const (),
    left: AtomicUsize,
    /// Whom to wake when `left` reaches 0.
    owner: CpuId,
}

/// CPUs that reached their idle loop, as [`CpuSet`] bits.
static ONLINE: AtomicU8 = AtomicU8::new(1);
/// The job of each CPU; null when it is idle.
static MAILBOX: CpuLocal<AtomicPtr<Job>> =
    CpuLocal::new([const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS]);

/// The byte with a bit for each CPU that is online, for [`crate::debug`].
pub const fn online_word() -> &'static AtomicU8 {
    &ONLINE
}

impl CpuSet {
    /// The CPUs that run.
    pub fn online() -> Self {
        // Acquire: what a CPU did before it came online is seen.
        Self(ONLINE.load(Ordering::Acquire))
    }

    /// Nobody.
    pub const NONE: Self = Self(0);

    /// This set with `cpu`.
    #[must_use]
    pub const fn with(self, cpu: CpuId) -> Self {
        Self(self.0 | 1 << cpu.index())
    }

    /// This set without `cpu`.
    #[must_use]
    pub const fn without(self, cpu: CpuId) -> Self {
        Self(self.0 & !(1 << cpu.index()))
    }

    /// Whether `cpu` is in it.
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & 1 << cpu.index() != 0
    }

    /// How many.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The CPUs, in order.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        CpuId::all().filter(move |cpu| self.contains(*cpu))
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(CpuId::index)).finish()
    }
}

/// Time for one CPU to come up, in nanoseconds. This CPU's tick ends the wait.
const START_NS: u64 = 5_000_000_000;

/// Starts every other CPU of the machine, with this CPU's map, and waits until all are idle.
/// On the boot CPU, after [`gic::init`], [`timer::start_tick`] and, best,
/// [`mmu::switch`].
///
/// Ends the run with a sentence if the firmware refuses.
pub fn start(machine: &Machine) {
    let config = &raw mut boot::boot_secondary_config;
    // SAFETY: only this CPU runs, and it alone writes here.
    unsafe { config.write(mmu::secondary_config()) };
    mmu::clean_to_memory(config);
    let entry = (boot::boot_secondary_entry as *const ()).addr() as u64 - boot::DIRECT_BASE;
    let boot_cpu = PerCpu::this();
    boot_cpu.set_mpidr(affinity());
    let others = machine.cpus.iter().filter(|mpidr| *mpidr != boot_cpu.mpidr());
    for (index, mpidr) in (1..).zip(others) {
        let Some(cpu) = CpuId::new(index) else { break };
        PerCpu::of(cpu).set_mpidr(mpidr);
        if let Err(error) = psci::cpu_on(mpidr, PhysAddr::new(entry), index as u64) {
            exit::bail_out(format_args!("PSCI CPU_ON of CPU {index} ({mpidr:#x}): {error}"));
        }
        let deadline = Deadline::after_ns(START_NS);
        wait_until(|| CpuSet::online().contains(cpu) || deadline.has_passed());
        if !CpuSet::online().contains(cpu) {
            exit::bail_out(format_args!("CPU {index} ({mpidr:#x}) was started and never came"));
        }
    }
}

/// Runs `job` on every CPU of `cpus` at once, and returns when all have finished. The caller takes
/// part if it is in the set. Interrupts: any state, kept.
///
/// # Panics
/// If a CPU of the set is not online or has a job already: jobs do not nest.
pub fn on_each<F: Fn(CpuId) + Sync>(cpus: CpuSet, job: F) {
    let me = CpuId::current();
    let others = cpus.without(me);
    let work = Job {
        run: call::<F>,
        closure: (&raw const job).cast(),
        left: AtomicUsize::new(others.len()),
        owner: me,
    };
    for cpu in others.iter() {
        assert!(CpuSet::online().contains(cpu), "CPU {cpu} is not online");
        let mailbox = &MAILBOX[cpu];
        // Release: the job is complete before it is seen. Acquire of the failure is not used.
        let given = mailbox.compare_exchange(
            core::ptr::null_mut(),
            (&raw const work).cast_mut(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        assert!(given.is_ok(), "CPU {cpu} has a job already");
        gic::wake(cpu);
    }
    if cpus.contains(me) {
        job(me);
    }
    // Acquire: what the jobs wrote is seen; pairs with the release in `run_mailbox`.
    wait_until(|| work.left.load(Ordering::Acquire) == 0);
}

/// # Safety
/// `closure` points to a live `F`.
unsafe fn call<F: Fn(CpuId) + Sync>(closure: *const (), cpu: CpuId) {
    // SAFETY: by contract.
    unsafe { (*closure.cast::<F>())(cpu) }
}

/// Where a started CPU enters Rust; `boot` states what holds.
#[unsafe(no_mangle)]
extern "C" fn secondary_entry(_cpu: u64) -> ! {
    trap::unmask_serror();
    let features = CpuFeatures::current();
    assert!(
        features.agrees_with(features::system()),
        "this CPU ({features}) differs from the boot CPU ({})",
        features::system()
    );
    mmu::enable_protections(&features);
    gic::init_cpu();
    timer::start_tick();
    let me = CpuId::current();
    // Release: all of the above is seen by whoever sees this CPU online.
    ONLINE.fetch_or(1 << me.index(), Ordering::Release);
    gic::wake(CpuId::BOOT);
    irq::unmask();
    loop {
        wait_until(|| !MAILBOX[me].load(Ordering::Relaxed).is_null());
        run_mailbox(me);
    }
}

fn run_mailbox(me: CpuId) {
    // Acquire: pairs with the release that filled the mailbox.
    let job = MAILBOX[me].load(Ordering::Acquire);
    // SAFETY: the owner keeps the job alive until `left` is 0, which it cannot be before this
    // CPU's decrement below.
    let work = unsafe { &*job };
    // SAFETY: `run` and `closure` were made for each other by `on_each`.
    unsafe { (work.run)(work.closure, me) };
    let owner = work.owner;
    // Relaxed: the next job comes by a compare-exchange of this very word, after `left` is 0.
    MAILBOX[me].store(core::ptr::null_mut(), Ordering::Relaxed);
    // Release: what the job wrote, and the empty mailbox, are seen by the owner.
    work.left.fetch_sub(1, Ordering::Release);
    // From here on the job may be gone.
    gic::wake(owner);
}

/// Sleeps in WFI until `done`. Whoever makes it true sends this CPU an SGI afterwards.
fn wait_until(done: impl Fn() -> bool) {
    loop {
        // Masked between the check and WFI: an SGI in between must not be taken, but wake it.
        let _masked = IrqGuard::new();
        if done() {
            return;
        }
        barrier::wfi();
    }
}

/// MPIDR_EL1 reduced to the affinity fields, as the device tree writes them.
pub fn affinity() -> u64 {
    use aarch64_cpu::registers::{MPIDR_EL1, Readable};
    MPIDR_EL1.get() & 0xff_00ff_ffff
}
