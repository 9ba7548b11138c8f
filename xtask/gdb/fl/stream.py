"""fl-streams: what programs said, and what the kernel said about them.

Records are laid out as the table at the head of kernel/arena/src/stream/record.rs says, and shown
in the words of its `Violation::render`.
"""

from fl import target
from fl.command import at_most_one, command
from fl.interface import program_name
from fl.target import Trouble

TEXT, VIOLATION = 1, 2
VIOLATION_WORDS = 18
# Words of return addresses; program frames follow, two a word.
CALLS = 8
TEXT_MAX = 256


@command("fl-streams")
def fl_streams(guest, arguments):
    """Faultline: show the streams of programs.

    Usage: fl-streams [running | NAME | NUMBER]

    For each listed program, those that run now, or the one with that name or number: the records
    on its stdout and stderr that no reader has taken yet, oldest first, as a reader would print
    them, and how many were dropped because they did not fit. Takes nothing off the streams.
    """
    guest.root()
    programs = _chosen(guest, at_most_one(arguments))
    if not programs:
        print("no program is loaded")
    for program in programs:
        for name in ("stdout", "stderr"):
            _show(program_name(program), name, getattr(program, name))
    if guest.unlisted():
        print(f"{guest.unlisted()} more programs are not listed")


def _chosen(guest, choice):
    programs = guest.programs()
    if choice is None:
        return programs
    if choice == "running":
        running = {p.address for cpu in guest.online() for p in guest.running(cpu)}
        programs = [program for program in programs if program.address in running]
        if not programs:
            raise Trouble("no listed program is running")
        return programs
    for program in programs:
        name = target.text(program.name, program.name_len)
        if choice.lstrip("#") in (name, str(program.id)):
            return [program]
    known = ", ".join(program_name(program) for program in programs) or "none"
    raise Trouble(f"no program {choice}; loaded: {known}")


def _show(owner, name, stream):
    head, tail = target.word(stream.head), target.word(stream.tail)
    records, end = _records(stream, tail, head)
    dropped, lost = target.word(stream.dropped_records), target.word(stream.dropped_bytes)
    used = f"{head - tail} of {stream.len} words"
    count = f"{len(records)} record{'' if len(records) == 1 else 's'}"
    print(f"{owner} {name}: {count} in {used}, {dropped} dropped ({lost} bytes)")
    for record in records:
        for line in record:
            print(f"  {line}")
    if end < head:
        print(f"  ({head - end} words reserved, not finished)")


def _records(stream, position, head):
    """The finished records from `position` on, each a list of lines, and where they end."""
    records = []
    # What cannot be a record ends the list: a stop inside a reader may show words that are zeroed
    # already behind a tail that has not moved yet.
    while position < head and stream.len:
        header = target.word(stream.words + 8 * (position % stream.len))
        kind, length = header & 0xFF, min(header >> 8 & 0xFFFF, TEXT_MAX)
        count = {TEXT: 1 + (length + 7) // 8, VIOLATION: VIOLATION_WORDS}.get(kind)
        if count is None:
            break
        words = [
            target.word(stream.words + 8 * ((position + n) % stream.len)) for n in range(count)
        ]
        records.append(_text(words, length) if kind == TEXT else _violation(words))
        position += count
    return records, position


def _text(words, length):
    text = b"".join(word.to_bytes(8, "little") for word in words[1:])[:length]
    return [_printable(line) for line in text.decode("utf-8", "replace").splitlines()] or [""]


def _printable(line):
    """Control characters could do anything to a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def _violation(words):
    header, address, pc, program, before, after, *rest = words
    calls, pairs = rest[:CALLS], rest[CALLS:]
    insns = [half for pair in pairs for half in (pair & 0xFFFFFFFF, pair >> 32)]
    frames = insns[: header >> 16 & 15]
    access = "WRITE" if header >> 8 & 1 else "READ"
    depth = header >> 12 & 15
    return [
        f"ERROR: Arena {access} access at unmapped address {address:#x}",
        f"CPU: {header >> 32} Program: {program}",
        f"Slot: {before:#x} -> {after:#x}",
        "Call trace:",
        *(f"  program insn {insn}" for insn in frames),
        f"  {target.code(pc)}",
        *(f"  {target.code(call, is_return=True)}" for call in calls[:depth]),
    ]
