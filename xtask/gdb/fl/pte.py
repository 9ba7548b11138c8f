"""Stage-1 descriptors: 4 KiB granule, 48-bit addresses (Arm ARM D8.3), and the protocol's states
of a slot (kernel/arena/src/pte.rs)."""

from collections import namedtuple

from fl import target

OUTPUT = 0x0000_FFFF_FFFF_F000
MEMORY = {0: "normal", 1: "device"}
SHAREABILITY = {0: "non-shareable", 2: "outer shareable", 3: "inner shareable"}
# Named where they are set, which is not often.
RARE = {11: "not global", 50: "guarded", 51: "DBM", 52: "contiguous"}

# One slot on the way: `at` is its physical address.
Step = namedtuple("Step", "level index at entry")


def walk(guest, va):
    """The slots that a walk for `va` meets, the deciding one last."""
    table, steps = guest.root(), []
    for level in range(4):
        index = va >> shift(level) & 511
        at = table + 8 * index
        entry = target.word(guest.at.direct_base + at)
        steps.append(Step(level, index, at, entry))
        if not is_table(level, entry):
            break
        table = entry & OUTPUT
    return steps


def shift(level):
    """log2 of the bytes that a slot of `level` covers."""
    return 12 + 9 * (3 - level)


def is_table(level, entry):
    """Whether a slot points to a table of the next level."""
    return level < 3 and entry & 3 == 3


def state(entry):
    """What a slot's word means to the protocol."""
    if entry == 0:
        return "empty"
    return "valid" if entry & 1 else f"tombstone #{entry >> 1}"


def output(step):
    """First physical address that a valid leaf maps; None for anything else."""
    if not step.entry & 1 or is_table(step.level, step.entry):
        return None
    return step.entry & OUTPUT & ~((1 << shift(step.level)) - 1)


def slot_text(step):
    """Where a slot is and what is in it."""
    head = f"L{step.level}[{step.index}] at {step.at:#x} = {step.entry:#018x}"
    if is_table(step.level, step.entry):
        return f"{head} table {step.entry & OUTPUT:#x}"
    start = output(step)
    if start is None:
        return f"{head} {state(step.entry)}"
    is_page = step.level == 3 and step.entry & 2
    is_block = step.level in (1, 2) and not step.entry & 2
    kind = "page" if is_page else "block" if is_block else "reserved encoding"
    return f"{head} valid, {kind} {start:#x}"


def attributes_text(entry):
    """Everything about a valid leaf but its output address."""
    index = entry >> 2 & 7
    memory = MEMORY.get(index, f"memory attribute {index}")
    sh = SHAREABILITY.get(entry >> 8 & 3, "reserved shareability")
    flags = [name for bit, name in RARE.items() if entry >> bit & 1]
    af = "AF set" if entry >> 10 & 1 else "AF clear"
    return ", ".join([memory, *_access(entry), af, sh, *flags])


def _access(entry):
    """Rights of EL1 and EL0. Hardware may take more away (WXN), which our kernel never needs."""
    read_only, user = entry >> 7 & 1, entry >> 6 & 1
    write = "-" if read_only else "w"
    kernel = "r" + write + ("-" if entry >> 53 & 1 else "x")
    el0 = ("r" + write if user else "--") + ("-" if entry >> 54 & 1 else "x")
    return [f"kernel {kernel}", f"user {el0}"]
