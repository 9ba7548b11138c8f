//! What the kernel claims of its tables, told to the host, which asks QEMU's own walker about every
//! page. Not an item: the guest waits for the host, which ends it. See `inject=walk`.

use core::fmt;
use core::ops::Range;

use arena::addr::{PAGE_SIZE, VirtAddr};
use arena::arena::AnyArena;
use arena::window::GUARD_BYTES;

use crate::arch::barrier;
use crate::arch::percpu::CpuId;
use crate::arch::stack;
use crate::mem::arena::KernelArena;
use crate::mem::kmap;
use crate::runner::{self, Failure, Outcome, claim};

/// Pages that the arena may give out.
const PAGES: u32 = 64;
/// Pages that are allocated.
const ALLOCATED: u32 = 12;
/// Of those, the ones that are freed again.
const FREED: Range<u32> = 4..9;
/// Of the freed, the ones that a wild access then meets.
const FREED_AND_WILD: Range<u32> = 6..8;
/// Free pages that a wild access meets.
const WILD: Range<u32> = 30..34;
/// Free pages that are reserved.
const RESERVED: Range<u32> = 40..44;
/// Pages of either guard.
const GUARD_PAGES: u32 = (GUARD_BYTES / PAGE_SIZE) as u32;
/// Pages of the upper guard that a wild access meets.
const GUARD_WILD: u32 = 2;

/// Tells everything, then waits to be ended.
pub fn tell_and_wait() -> ! {
    if let Err(Failure::Claim(why)) = tell() {
        runner::diagnose(format_args!("walk: failed {why}"));
    }
    runner::diagnose(format_args!("walk: end"));
    loop {
        barrier::wfi();
    }
}

/// The lines, one an entry: `walk: map ADDRESS BYTES PHYSICAL WHAT` or `walk: unmapped ADDRESS
/// WHAT`; `walk: end` behind the last, from where on nothing changes.
fn tell() -> Outcome {
    let arena = KernelArena::create(PAGES).map_err(Failure::of("arena"))?;
    let first = arena.alloc(None, ALLOCATED).map_err(Failure::of("alloc"))?;
    let window = arena.window();
    claim!(first == window.base(), "the first allocation is at {first}");
    arena.free(window.page(FREED.start), FREED.len() as u32).map_err(Failure::of("free"))?;
    arena
        .reserve(window.page(RESERVED.start), RESERVED.len() as u32)
        .map_err(Failure::of("reserve"))?;
    let guard = window.pages()..window.pages() + GUARD_WILD;
    for index in FREED_AND_WILD.chain(WILD).chain(guard) {
        // What it came to is seen in the slot, and told.
        let _ = arena.recover(window.page(index));
    }
    kmap::dump(|region| {
        let claim = format_args!("{:#x} {} dump", region.bytes, region.physical);
        runner::diagnose(format_args!("walk: map {} {claim}", region.start));
    });
    tell_window(&**arena)?;
    for cpu in CpuId::all() {
        for bounds in [stack::bounds(cpu), stack::emergency_bounds(cpu)] {
            unmapped(VirtAddr::new(bounds.start - PAGE_SIZE), "stack-guard");
        }
    }
    // Everything that was told must stay so until the host has asked.
    core::mem::forget(arena);
    Ok(())
}

/// Each page of the guards, of what can be given out, and of the window's end, by what the arena's
/// own book says.
fn tell_window(arena: &dyn AnyArena) -> Outcome {
    let window = arena.window();
    for index in 1..=u64::from(GUARD_PAGES) {
        unmapped(VirtAddr::new(window.base().get() - index * PAGE_SIZE), "guard");
    }
    let end = window.pages();
    for index in (0..PAGES).chain(end - GUARD_PAGES..end + GUARD_PAGES) {
        let va = window.page(index);
        match kind(index, end) {
            what @ "scratch" => mapped(va, arena.scratch().start(), what),
            what @ "allocated" => {
                let frame = arena.entry(va).and_then(|entry| entry.frame());
                let frame = frame.ok_or_else(|| Failure::new(alloc::format!("{va} is lost")))?;
                claim!(frame != arena.scratch(), "{va} was given out as scratch");
                mapped(va, frame.start(), what);
            }
            what => unmapped(va, what),
        }
    }
    Ok(())
}

/// What page `index` of the arena must be, by what was done to it.
fn kind(index: u32, end: u32) -> &'static str {
    match index {
        _ if FREED_AND_WILD.contains(&index) || WILD.contains(&index) => "scratch",
        _ if (end..end + GUARD_WILD).contains(&index) => "scratch",
        _ if FREED.contains(&index) => "freed",
        _ if index < ALLOCATED => "allocated",
        _ if RESERVED.contains(&index) => "reserved",
        _ if index >= end => "guard",
        _ => "empty",
    }
}

fn mapped(va: VirtAddr, pa: impl fmt::Display, what: &str) {
    runner::diagnose(format_args!("walk: map {va} {PAGE_SIZE:#x} {pa} {what}"));
}

fn unmapped(va: VirtAddr, what: &str) {
    runner::diagnose(format_args!("walk: unmapped {va} {what}"));
}
