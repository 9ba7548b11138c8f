//! The kernel's map: what the tables say, and what the MMU makes of them.

use core::fmt;

use aarch64_cpu::registers::{MAIR_EL1, Readable, SCTLR_EL1, TCR_EL1};
use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::map::Region;
use arena::pte::{Access, Attributes, Memory};

use crate::arch::access::{probe_read_u64, probe_write_u64};
use crate::arch::features::CpuFeatures;
use crate::arch::percpu::CpuId;
use crate::arch::{layout, mmu, stack};
use crate::mem::{frame, kmap};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "map-has-no-writable-and-executable-page",
    suite: "map",
    about: "every region of the dump has a permission of ours, none of which is write and execute",
    run: write_xor_execute,
}

item! {
    name: "map-shows-text-once-and-read-only",
    suite: "map",
    about: "text is executable, and no other address reaches its frames",
    run: text_once,
}

item! {
    name: "map-leaves-a-hole-below-every-stack",
    suite: "map",
    about: "guards are unmapped, stacks are writable",
    run: stack_holes,
}

item! {
    name: "mmu-agrees-with-the-walk",
    suite: "map",
    about: "address translation by instruction gives the walk's answer at every region's ends",
    run: mmu_agrees,
}

item! {
    name: "protect-makes-a-page-read-only-at-once",
    suite: "map",
    about: "a fault-safe write fails after protect, and succeeds before it",
    run: protect,
}

item! {
    name: "translation-registers-match-the-cpu",
    suite: "map",
    about: "SCTLR has MMU, caches, alignment and WXN; TCR a physical size that the CPU has",
    run: registers,
}

fn write_xor_execute(ctx: &Ctx) -> Outcome {
    let mut foreign = None;
    let mut regions = 0;
    kmap::dump(|region| {
        regions += 1;
        ctx.note(format_args!("{}", Shown(region)));
        if region.attributes.is_none() {
            foreign = Some(region);
        }
    });
    claim!(regions > 4, "{regions} regions");
    match foreign {
        Some(region) => Err(Failure::new(alloc::format!("{}", Shown(region)))),
        None => Ok(()),
    }
}

fn text_once(_: &Ctx) -> Outcome {
    let text = layout::text();
    let image = kmap::to_phys(VirtAddr::new(text.start));
    let bytes = text.end - text.start;
    let mut aliases = 0;
    let mut executable = 0;
    kmap::dump(|region| {
        let end = region.physical.offset(region.bytes);
        let overlaps = region.physical < image.offset(bytes) && image < end;
        let runs = region.attributes.is_some_and(|a| a.access == Access::KernelReadExecute);
        aliases += u32::from(overlaps && !runs);
        executable += u64::from(runs) * region.bytes;
    });
    claim!(aliases == 0, "{aliases} other regions reach text");
    claim!(executable == bytes, "{executable} executable bytes, {bytes} of text");
    Ok(())
}

fn stack_holes(_: &Ctx) -> Outcome {
    for cpu in CpuId::all() {
        for bounds in [stack::bounds(cpu), stack::emergency_bounds(cpu)] {
            let below = kmap::walk_to(VirtAddr::new(bounds.start - 8)).last();
            claim!(!below.is_valid(), "the guard of {cpu} is mapped: {below}");
            let named = [stack::guard_of(bounds.start - 8), stack::guard_of(bounds.start)];
            claim!(named == [Some(cpu), None], "guards of {cpu} are named {named:?}");
            for at in [bounds.start, bounds.end - 8] {
                let attributes = kmap::walk_to(VirtAddr::new(at)).last().attributes();
                claim!(attributes == Some(Attributes::KERNEL_DATA), "{at:#x}: {attributes:?}");
            }
        }
    }
    Ok(())
}

fn mmu_agrees(_: &Ctx) -> Outcome {
    let mut wrong = None;
    kmap::dump(|region| {
        for offset in [0, region.bytes - 1] {
            let (va, pa) = (region.start.offset(offset), region.physical.offset(offset));
            let seen = mmu::translate_read(va);
            if seen != Ok(pa) {
                wrong = Some((va, pa, seen));
            }
        }
    });
    claim!(wrong.is_none(), "walk and MMU differ: {wrong:?}");
    let hole = VirtAddr::new(stack::bounds(CpuId::BOOT).start - 8);
    claim!(mmu::translate_read(hole).is_err(), "the MMU translates a stack guard");
    let text = VirtAddr::new(layout::text().start);
    claim!(mmu::translate_write(text).is_err(), "the MMU lets text be written");
    let constant = VirtAddr::new("constant".as_ptr().addr() as u64);
    claim!(mmu::translate_read(constant).is_ok(), "a constant cannot be read");
    claim!(mmu::translate_write(constant).is_err(), "the MMU lets a constant be written");
    Ok(())
}

fn protect(_: &Ctx) -> Outcome {
    let va = kmap::TEST_PAGE;
    let write = |value| {
        // SAFETY: the page is this test's, and holds no Rust value.
        unsafe { probe_write_u64(va, value) }
    };
    let frame = frame::alloc().ok_or_else(|| Failure::new("no frame".into()))?;
    let read_only = Attributes { memory: Memory::Normal, access: Access::KernelRead };
    kmap::change(|map, _| map.map(va, frame.start(), PAGE_SIZE, Attributes::KERNEL_DATA))
        .map_err(Failure::of("map"))?;
    claim!(write(1).is_ok(), "the page is not writable");
    kmap::change(|map, stamps| map.protect(va, PAGE_SIZE, read_only, stamps))
        .map_err(Failure::of("protect"))?;
    claim!(write(2).is_err(), "the page is still writable");
    claim!(probe_read_u64(va) == Ok(1), "the page lost its contents");
    kmap::change(|map, stamps| map.unmap(va, PAGE_SIZE, stamps)).map_err(Failure::of("unmap"))?;
    claim!(probe_read_u64(va).is_err(), "the page is still mapped");
    frame::free(frame);
    Ok(())
}

fn registers(_: &Ctx) -> Outcome {
    let features = CpuFeatures::current();
    for (field, name) in [
        (SCTLR_EL1::M::SET, "M"),
        (SCTLR_EL1::C::SET, "C"),
        (SCTLR_EL1::I::SET, "I"),
        (SCTLR_EL1::A::SET, "A"),
        (SCTLR_EL1::WXN::SET, "WXN"),
    ] {
        claim!(SCTLR_EL1.matches_all(field), "SCTLR_EL1.{name} is clear");
    }
    claim!(MAIR_EL1.get() == arena::pte::MAIR_EL1, "MAIR_EL1 is {:#x}", MAIR_EL1.get());
    let (ips, range) = (TCR_EL1.read(TCR_EL1::IPS), features.pa_range as u64);
    claim!(ips <= range, "TCR_EL1.IPS is {ips}, the CPU has {range}");
    Ok(())
}

/// A region as one line.
struct Shown(Region);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Region { start, bytes, physical, attributes } = self.0;
        match attributes {
            Some(Attributes { memory, access }) => {
                write!(f, "{start} +{bytes:#x} -> {physical} {memory:?} {access:?}")
            }
            None => write!(f, "{start} +{bytes:#x} -> {physical} foreign attributes"),
        }
    }
}
