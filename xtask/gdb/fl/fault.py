"""fl-fault: the exception that a CPU is handling."""

import struct

from fl import cpu, esr, target
from fl.command import command, none
from fl.target import Trouble
from fl.walk import KERNEL_HALF, slot_line

# boot/src/vectors.S: the frame's layout, and the symbols that call into Rust with it.
FRAME = struct.Struct("<31Q5Q2Q")
RECORD_OFFSET = 288
VECTORS = ("boot_el1_", "boot_el0_", "boot_unexpected", "boot_stack_overflow")
# More frame records than any stack of the kernel's has room for.
MOST_RECORDS = 4096


@command("fl-fault")
def fl_fault(guest, arguments):
    """Faultline: show the exception that the selected CPU is handling.

    Usage: fl-fault

    Finds the saved state by the frame records of the innermost exception, so it works at the
    breakpoint on fault_entry and anywhere deeper. Prints the decoded syndrome, the faulting
    address and its slot, the instruction and where it stands, and who was running.
    """
    none(arguments)
    if not guest.is_selected:
        raise Trouble("the selected thread is a CPU that has not started")
    frame, vector = _frame()
    *x, sp, elr, spsr, syndrome, far, _, _ = FRAME.unpack(target.read(frame, FRAME.size))
    me = guest.cpu_of_thread(guest.thread)
    print(f"cpu{me}: {vector}, saved state at {frame:#x}")
    print(f"  ESR {syndrome:#010x}: {esr.text(syndrome)}")
    print(f"  ELR {target.code(elr)}")
    if esr.has_far(syndrome):
        print(f"  FAR {_far(guest, far)}")
    print(f"  SPSR {spsr:#x} ({_pstate(spsr)}), SP {sp:#x}, LR {target.code(x[30], True)}")
    if me is not None:
        print(f"  programs: {cpu.programs_text(guest, me)}; locks: {cpu.locks_text(guest, me)}")


def _frame():
    """Address of the innermost saved state, and the vector that saved it."""
    # Each turn: a frame record, and where the function that it belongs to returns to. The record
    # behind a saved state is the interrupted code's, and what called the handler is a vector.
    record, caller = target.register("x29"), target.register("x30")
    for _ in range(MOST_RECORDS):
        vector = _vector(caller)
        if record == 0 or record & 7:
            break
        try:
            if vector and _is_saved_state(record - RECORD_OFFSET):
                return record - RECORD_OFFSET, vector
            record, caller = target.words(record, 2)
        except Trouble:
            break
    raise Trouble("this CPU is handling no exception; `break fault_entry` stops at the next")


def _is_saved_state(frame):
    """x30 may still hold the way back to a vector when x29 has moved on: the state says x29 and
    ELR twice, which nothing else does."""
    state = FRAME.unpack(target.read(frame, FRAME.size))
    return (state[29], state[32]) == state[36:]


def _vector(pc):
    name = target.symbol_of(pc)
    return name if name.startswith(VECTORS) else ""


def _far(guest, far):
    if far & KERNEL_HALF != KERNEL_HALF:
        return f"{far:#x}, below the kernel's half"
    try:
        return slot_line(guest, far)
    except Trouble as trouble:
        return f"{far:#x} ({trouble})"


def _pstate(spsr):
    mode = {0: "EL0t", 4: "EL1t", 5: "EL1h", 8: "EL2t", 9: "EL2h"}.get(spsr & 31, "other mode")
    masked = "".join(name for bit, name in zip((9, 8, 7, 6), "DAIF") if spsr >> bit & 1)
    return f"{mode}, {masked or 'nothing'} masked"
