//! `not-ours`: faults in the window that are no translation fault of a running program's kfunc.
//!
//! Right: each is an oops, decoded. None installs scratch.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::{Frame, PhysAddr, VirtAddr};
use arena::pte::{Access, Attributes, Memory, Pte};

use super::{load, new_arena, page};
use crate::arch::mmu;
use crate::mem::arena::KernelArena;
use crate::mem::kmap;
use crate::mem::machine::Machine;
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::runner::{Ctx, Failure, Outcome, item, skip};

item! {
    name: "not-ours.permission",
    suite: "scenario",
    about: "a write to a read-only page of the window",
    expect: "oops: data abort, same EL; permission fault, level 3; write at 0xffff800100000000, on page 0 of arena 0",
    run: permission,
}

item! {
    name: "not-ours.alignment",
    suite: "scenario",
    about: "an unaligned read of a mapped page of the window",
    expect: "oops: data abort, same EL; alignment fault; read at 0xffff800100000001, on page 0 of arena 0",
    run: alignment,
}

item! {
    name: "not-ours.access-flag",
    suite: "scenario",
    about: "a read of a page of the window whose access flag is clear",
    expect: "oops: data abort, same EL; access flag fault, level 3; read at 0xffff800100000000, on page 0 of arena 0",
    run: access_flag,
}

item! {
    name: "not-ours.external",
    suite: "scenario",
    about: "a page of the window maps an address where nothing answers",
    expect: "oops: data abort, same EL; external abort; read at 0xffff800100000000, on page 0 of arena 0",
    run: external,
}

item! {
    name: "not-ours.instruction",
    suite: "scenario",
    about: "a jump into the window",
    expect: "oops: instruction abort, same EL; permission fault, level 3 at 0xffff800100000000, on page 0 of arena 0",
    run: instruction,
}

item! {
    name: "not-ours.no-program",
    suite: "scenario",
    about: "a translation fault in the window with no program running",
    expect: "oops: data abort, same EL; translation fault, level 3; read at 0xffff800100002000, on page 2 of arena 0",
    run: no_program,
}

item! {
    name: "not-ours.no-arena",
    suite: "scenario",
    about: "a program without an arena sends a kfunc into another's window",
    expect: "oops: data abort, same EL; translation fault, level 3; read at 0xffff800100002000, on page 2 of arena 0",
    run: no_arena,
}

/// What the program does with the address.
struct Wild {
    at: AtomicU64,
}

const READ: u64 = 0;
const WRITE: u64 = 1;
const JUMP: u64 = 2;

static CODE: Wild = Wild { at: AtomicU64::new(0) };

impl Code for Wild {
    fn run(&self, _: &Program, what: u64) -> u64 {
        let at = VirtAddr::new(self.at.load(Ordering::Relaxed));
        match what {
            WRITE => kfunc::write_word(at, 1),
            JUMP => kfunc::call(at),
            _ => return kfunc::read_word(at),
        }
        0
    }
}

fn permission(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let at = arena.alloc(None, 1).map_err(Failure::of("alloc"))?;
    remap(at, |frame| {
        Pte::page(frame, Attributes { memory: Memory::Normal, access: Access::KernelRead })
    })?;
    survive(&arena, at, WRITE)
}

fn alignment(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let at = arena.alloc(None, 1).map_err(Failure::of("alloc"))?;
    survive(&arena, at.offset(1), READ)
}

fn access_flag(ctx: &Ctx) -> Outcome {
    if mmu::hardware_sets_access_flag() {
        skip!("hardware sets the access flag on this CPU");
    }
    let arena = new_arena(ctx)?;
    let at = arena.alloc(None, 1).map_err(Failure::of("alloc"))?;
    const ACCESS_FLAG: u64 = 1 << 10;
    remap(at, |frame| {
        Pte::from_bits(Pte::page(frame, Attributes::KERNEL_DATA).bits() & !ACCESS_FLAG)
    })?;
    survive(&arena, at, READ)
}

fn external(ctx: &Ctx) -> Outcome {
    /// A gap in the memory map of QEMU's `virt` machine.
    const NOTHING: Frame = Frame::containing(PhysAddr::new(0x0b00_0000));
    let arena = new_arena(ctx)?;
    let at = arena.alloc(None, 1).map_err(Failure::of("alloc"))?;
    remap(at, |_| Pte::page(NOTHING, Attributes::DEVICE))?;
    survive(&arena, at, READ)
}

fn instruction(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let at = arena.alloc(None, 1).map_err(Failure::of("alloc"))?;
    survive(&arena, at, JUMP)
}

fn no_program(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let value = kfunc::read_word(page(&arena, 2));
    Err(Failure::new(alloc::format!("read {value:#x} without an oops")))
}

fn no_arena(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    CODE.at.store(page(&arena, 2).get(), Ordering::Relaxed);
    let program = Program::load("no-arena", &CODE, None).map_err(Failure::of_debug("program"))?;
    program.run(READ).map_err(Failure::of_debug("run"))?;
    Err(Failure::new("read without an oops".into()))
}

/// Replaces the entry of a mapped page by one that the arena would never make.
fn remap(at: VirtAddr, entry: impl FnOnce(Frame) -> Pte) -> Outcome {
    let walk = kmap::walk_to(at);
    let frame = walk.last().frame().ok_or_else(|| Failure::new("not mapped".into()))?;
    kmap::change(|_, stamps| walk.slot.replace(&Machine, at, entry(frame), stamps));
    Ok(())
}

fn survive(arena: &Arc<KernelArena>, at: VirtAddr, what: u64) -> Outcome {
    CODE.at.store(at.get(), Ordering::Relaxed);
    let program = load("wild", &CODE, arena)?;
    program.run(what).map_err(Failure::of_debug("run"))?;
    Err(Failure::new(alloc::format!("{at} was used without an oops")))
}
