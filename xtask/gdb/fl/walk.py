"""fl-walk and fl-slot: an address through the kernel's tables."""

import gdb

from fl import pte, target
from fl.command import command, one_address
from fl.target import Trouble

# Bits 63:48 of every address that TTBR1 translates.
KERNEL_HALF = 0xFFFF << 48


@command("fl-walk", gdb.COMPLETE_EXPRESSION)
def fl_walk(guest, arguments):
    """Faultline: walk a kernel address through the translation tables.

    Usage: fl-walk ADDRESS

    ADDRESS is any expression. Prints each descriptor from the kernel's root on, level 0 to the
    slot that decides, and for a mapped address the physical address, memory type, rights of kernel
    and user, access flag and shareability. The tables are read as they are in memory: what a TLB
    may still hold is not seen. $fl_slot becomes the deciding slot: `watch -l *$fl_slot`.
    """
    va = kernel_address(guest, arguments)
    steps = pte.walk(guest, va)
    place = guest.place(va)
    print(f"{va:#x}{f' ({place})' if place else ''}, from root {guest.root():#x}")
    ttbr1 = target.register("TTBR1_EL1") & pte.OUTPUT
    if ttbr1 != guest.root():
        print(f"  thread {guest.thread.num} still uses another root: TTBR1_EL1 is {ttbr1:#x}")
    for step in steps:
        print(f"  {pte.slot_text(step)}")
    print(f"  {_outcome(guest, va, steps[-1])}")
    _keep(guest, steps[-1])


@command("fl-slot", gdb.COMPLETE_EXPRESSION)
def fl_slot(guest, arguments):
    """Faultline: show the slot that decides about a kernel address.

    Usage: fl-slot ADDRESS

    One line: the slot's level, index and physical address, its word, its state (empty, valid, or
    tombstone with its stamp), and for a valid one what it maps; whether that is an arena's scratch
    page. $fl_slot becomes the slot: `watch -l *$fl_slot` stops at its next change.
    """
    va = kernel_address(guest, arguments)
    print(slot_line(guest, va))
    _keep(guest, pte.walk(guest, va)[-1])


def slot_line(guest, va):
    """The answer of fl-slot."""
    step = pte.walk(guest, va)[-1]
    parts = [pte.slot_text(step)]
    if pte.output(step) is not None:
        parts.append(pte.attributes_text(step.entry))
    parts += [part for part in (_scratch_of(guest, step), guest.place(va)) if part]
    return f"{va:#x}: {'; '.join(parts)}"


def kernel_address(guest, arguments):
    """The address that a person typed, if it is one that TTBR1 translates."""
    va = one_address(arguments)
    guest.root()
    if va & KERNEL_HALF == KERNEL_HALF:
        return va
    for arena in guest.arenas():
        if 0 <= va - arena.user_base < (arena.pages << 12) + guest.at.guard_bytes:
            there = f"in arena {arena.room} it is {va - arena.user_base + arena.base:#x}"
            raise Trouble(f"{va:#x} is a program's address; {there}")
    raise Trouble(f"{va:#x} is not an address of the kernel's half, {KERNEL_HALF:#x} and up")


def _outcome(guest, va, step):
    start = pte.output(step)
    if start is None:
        return f"not mapped: {pte.state(step.entry)}"
    pa = start + (va & (1 << pte.shift(step.level)) - 1)
    scratch = _scratch_of(guest, step)
    return f"pa {pa:#x}: {pte.attributes_text(step.entry)}" + (f"; {scratch}" if scratch else "")


def _keep(guest, step):
    """Makes $fl_slot the slot, where the direct map shows it."""
    slot = gdb.Value(guest.at.direct_base + step.at).cast(gdb.lookup_type("u64").pointer())
    gdb.set_convenience_variable("fl_slot", slot)


def _scratch_of(guest, step):
    start = pte.output(step)
    for arena in guest.arenas():
        if step.level == 3 and start == arena.scratch:
            return f"scratch of arena {arena.room}"
    return ""
