//! The PTE protocol on the real MMU: what the slot says is what an access sees.

use core::sync::atomic::{AtomicU32, Ordering};

use arena::addr::{Frame, VirtAddr};
use arena::pte::{Attributes, Pte, Stamp, State};
use arena::slot::PteSlot;

use crate::arch::access::probe_read_u64;
use crate::arch::smp::{self, CpuSet};
use crate::arch::{alternative, atomic};
use crate::mem::machine::Machine;
use crate::mem::{frame, kmap};
use crate::prog::kfunc;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "try-set-is-seen-by-the-next-access",
    suite: "slot",
    about: "an address faults, is installed, reads, is cleared, and faults again",
    run: install_and_clear,
}

item! {
    name: "clear-without-tlbi-leaves-a-stale-translation",
    suite: "slot",
    about: "the negative control: without TLB maintenance the old page still answers",
    run: stale_without_tlbi,
}

item! {
    name: "replace-is-seen-by-every-cpu",
    suite: "slot",
    about: "after break-before-make no CPU reads the old page, though all had its translation",
    min_cpus: 2,
    run: replace_everywhere,
}

item! {
    name: "a-full-flush-reaches-every-cpu",
    suite: "slot",
    about: "after an unlinking and one flush of everything no CPU reads the page that all had read",
    min_cpus: 2,
    run: full_flush_everywhere,
}

item! {
    name: "atomics-follow-the-cpu",
    suite: "slot",
    about: "LSE where the CPU has it, LL/SC elsewhere, and both compare and exchange",
    run: atomics,
}

const FIRST: u64 = 0x1111;
const SECOND: u64 = 0x2222;

/// A slot with two pages to put into it.
struct Bench {
    va: VirtAddr,
    slot: &'static PteSlot,
    frames: [Frame; 2],
}

impl Bench {
    fn new() -> Result<Self, Failure> {
        let va = kmap::TEST_PAGE;
        let no_frame = || Failure::new("no frame".into());
        let frames = [frame::alloc().ok_or_else(no_frame)?, frame::alloc().ok_or_else(no_frame)?];
        for (frame, mark) in frames.iter().zip([FIRST, SECOND]) {
            kfunc::write_word(kmap::to_virt(frame.start()), mark);
        }
        Ok(Self { va, slot: kmap::walk_to(va).slot, frames })
    }

    fn page(&self, which: usize) -> Pte {
        Pte::page(self.frames[which], Attributes::KERNEL_DATA)
    }

    fn install(&self, which: usize) -> Outcome {
        let outcome = self.slot.try_set(&Machine, self.va, self.page(which));
        outcome.map_err(Failure::of("the slot holds"))
    }

    fn finish(self) -> Outcome {
        self.slot.clear(&Machine, self.va, stamp(999));
        self.frames.into_iter().for_each(frame::free);
        Ok(())
    }
}

fn stamp(number: u64) -> Stamp {
    Stamp::new(number).expect("a small number is a stamp")
}

fn install_and_clear(_: &Ctx) -> Outcome {
    let bench = Bench::new()?;
    claim!(probe_read_u64(bench.va).is_err(), "the address is mapped before");
    bench.install(0)?;
    claim!(probe_read_u64(bench.va) == Ok(FIRST), "the page is not seen");
    let lost = bench.slot.try_set(&Machine, bench.va, bench.page(1));
    claim!(lost == Err(bench.page(0)), "a second install gave {lost:?}");
    let old = bench.slot.clear(&Machine, bench.va, stamp(1));
    claim!(old == bench.page(0), "the clear gave {old}");
    claim!(probe_read_u64(bench.va).is_err(), "the page is still seen");
    let left = bench.slot.load(&Machine);
    claim!(left.state() == State::Empty, "the slot holds {left}");
    bench.finish()
}

fn stale_without_tlbi(_: &Ctx) -> Outcome {
    let bench = Bench::new()?;
    bench.install(0)?;
    claim!(probe_read_u64(bench.va) == Ok(FIRST), "the page is not seen");
    // `bury` alone: the maintenance that it owes is left out on purpose.
    let buried = bench.slot.bury(&Machine, stamp(2));
    let stale = probe_read_u64(bench.va);
    arena::slot::flush(&Machine, bench.va);
    let flushed = probe_read_u64(bench.va);
    bench.slot.retire(&Machine, buried.stamp);
    claim!(stale == Ok(FIRST), "this machine's TLB forgets by itself: the test proves nothing");
    claim!(flushed.is_err(), "the flush did not take");
    bench.finish()
}

fn replace_everywhere(_: &Ctx) -> Outcome {
    let bench = Bench::new()?;
    bench.install(0)?;
    let others = CpuSet::online();
    let (warm, stale) = (AtomicU32::new(0), AtomicU32::new(0));
    smp::on_each(others, |_| {
        if probe_read_u64(bench.va) == Ok(FIRST) {
            warm.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut next = 10;
    bench.slot.replace(&Machine, bench.va, bench.page(1), || {
        next += 1;
        stamp(next)
    });
    smp::on_each(others, |_| {
        if probe_read_u64(bench.va) != Ok(SECOND) {
            stale.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (warm, stale) = (warm.into_inner(), stale.into_inner());
    claim!(warm as usize == others.len(), "{warm} of {} CPUs saw the first page", others.len());
    claim!(stale == 0, "{stale} CPUs did not see the second page");
    bench.finish()
}

fn full_flush_everywhere(_: &Ctx) -> Outcome {
    let bench = Bench::new()?;
    bench.install(0)?;
    let cpus = CpuSet::online();
    let readers = || {
        let readers = AtomicU32::new(0);
        smp::on_each(cpus, |_| {
            let reads = u32::from(probe_read_u64(bench.va).is_ok());
            readers.fetch_add(reads, Ordering::Relaxed);
        });
        readers.into_inner()
    };
    let warm = readers();
    let buried = bench.slot.bury(&Machine, stamp(3));
    arena::map::flush_all(&Machine);
    let stale = readers();
    bench.slot.retire(&Machine, buried.stamp);
    claim!(warm as usize == cpus.len(), "{warm} of {} CPUs read the page", cpus.len());
    claim!(stale == 0, "{stale} CPUs still read it");
    bench.finish()
}

fn atomics(ctx: &Ctx) -> Outcome {
    use arena::sync::AtomicU64;
    let has_lse = crate::arch::features::CpuFeatures::current().lse;
    let (kernel, programs) = (alternative::has_lse(), atomic::uses_lse());
    claim!(
        (kernel, programs) == (has_lse, has_lse),
        "LSE in use by the kernel: {kernel}, by programs: {programs}, there: {has_lse}"
    );
    ctx.note(format_args!("atomics: {}", if has_lse { "LSE" } else { "LL/SC" }));
    for order in [Ordering::Relaxed, Ordering::Acquire, Ordering::Release, Ordering::AcqRel] {
        let word = AtomicU64::new(1);
        let won = atomic::compare_exchange(&word, 1, 2, order);
        let lost = atomic::compare_exchange(&word, 1, 3, order);
        let old = atomic::swap(&word, 4, order);
        let left = word.into_inner();
        claim!(
            (won, lost, old, left) == (Ok(1), Err(2), 2, 4),
            "{order:?}: {won:?}, {lost:?}, {old}, {left}"
        );
    }
    Ok(())
}
