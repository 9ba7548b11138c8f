"""The guest as GDB shows it: memory, registers, CPUs, symbols."""

import contextlib
import re
import struct

import gdb

WORD = (1 << 64) - 1


class Trouble(Exception):
    """Why a command cannot answer, as one line for the person who typed it."""


def read(address, count):
    """`count` bytes at a virtual address, through the tables of the selected CPU."""
    try:
        return gdb.selected_inferior().read_memory(address & WORD, count).tobytes()
    except (gdb.error, OverflowError):
        raise Trouble(f"the guest has no memory at {address & WORD:#x}") from None


def words(address, count):
    """`count` 64-bit words."""
    return struct.unpack(f"<{count}Q", read(address, 8 * count))


def word(address):
    """One 64-bit word."""
    return words(address, 1)[0]


def word32(address):
    """One 32-bit word."""
    return struct.unpack("<I", read(address, 4))[0]


def text(address, length):
    """A text of the kernel's own; a length that no name has means that it is none."""
    if length > 256:
        return f"<no text at {address:#x}>"
    return read(address, length).decode("utf-8", "replace")


def symbol(name):
    """Address of a symbol, or None."""
    match = re.search(r"0x[0-9a-f]+", _quietly(f"info address {name}") or "")
    return int(match[0], 16) if match else None


def register(name):
    """A register of the selected CPU, system registers included."""
    try:
        return int(gdb.newest_frame().read_register(name)) & WORD
    except (gdb.error, ValueError):
        raise Trouble(f"QEMU's GDB stub does not show register {name}") from None


def argument(expression):
    """The address that a person typed: a number, a register, any expression with one value."""
    with contextlib.suppress(ValueError):
        number = int(expression, 0)
        if not -(1 << 63) <= number <= WORD:
            raise Trouble(f"{expression} does not fit 64 bits")
        return number & WORD
    try:
        value = gdb.parse_and_eval(expression)
        # VirtAddr and its like: one field around a number.
        while value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT:
            (field,) = value.type.fields()
            value = value[field]
        return int(value) & WORD
    except (gdb.error, ValueError, TypeError) as error:
        raise Trouble(f"{expression} is not an address: {one_line(error)}") from None


def code(pc, is_return=False):
    """A code address, with function and line where symbols know them; of a return address, those
    of the call before it."""
    at = pc - 1 if is_return and pc else pc
    place = _functions(at) or _symbol_before(at)
    line = gdb.find_pc_line(at)
    where = f" ({line.symtab.filename}:{line.line})" if line.symtab and line.line else ""
    return f"{pc:#018x}" + (f" {place}" if place else "") + where


def symbol_of(pc):
    """Name of the symbol that holds `pc`, without the offset; "" if none does."""
    return _symbol_before(pc).split(" + ")[0]


def threads():
    """GDB's threads, one a CPU, in their order."""
    return sorted(gdb.selected_inferior().threads(), key=lambda thread: thread.num)


@contextlib.contextmanager
def selected(thread):
    """Within, GDB looks through the eyes of `thread`; afterwards as before."""
    before = gdb.selected_thread()
    if before is not None and before.num == thread.num:
        yield
        return
    frame = _selected_frame()
    thread.switch()
    try:
        yield
    finally:
        if before is not None:
            before.switch()
            with contextlib.suppress(gdb.error):
                if frame is not None and frame.is_valid():
                    frame.select()


def one_line(error):
    """An error's text without line breaks or a final full stop."""
    return " ".join(str(error).split()).rstrip(".")


def _selected_frame():
    try:
        return gdb.selected_frame()
    except gdb.error:
        return None


def _functions(pc):
    """The function at `pc`; of inlined ones the innermost and the one that holds it."""
    try:
        block = gdb.block_for_pc(pc)
    except (gdb.error, RuntimeError):
        return ""
    names = []
    while block is not None and not block.is_static and not block.is_global:
        if block.function is not None:
            names.append(_without_generics(block.function.name))
        block = block.superblock
    if not names:
        return ""
    return names[0] if len(names) == 1 else f"{names[0]} in {names[-1]}"


def _without_generics(name):
    """Types of a few hundred characters tell a person less than the path alone."""
    depth, kept = 0, []
    for char in name.replace("->", ""):
        depth += char == "<"
        if depth == 0:
            kept.append(char)
        depth -= char == ">"
    return "".join(kept)


def _symbol_before(pc):
    answer = _quietly(f"info symbol {pc:#x}") or ""
    if " in section " not in answer:
        return ""
    # Crates' hashes say nothing to a person.
    return re.sub(r"\[[0-9a-f]+\]", "", answer.split(" in section ")[0])


def _quietly(command):
    try:
        return gdb.execute(command, to_string=True)
    except gdb.error:
        return None
