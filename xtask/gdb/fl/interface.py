"""The guest as the kernel describes it: the static `faultline_debug` and what it points to.

The layout is that of kernel/src/debug.rs; the names here are the names there.
"""

import contextlib
import struct
from collections import namedtuple

import gdb

from fl import target
from fl.target import Trouble

MAGIC = b"faultlin"
VERSION = 1
LISTED = 1
NONE = (1 << 64) - 1
NOBODY = (1 << 32) - 1

Interface = namedtuple(
    "Interface",
    "lab root direct_base guard_bytes online"
    " cpus cpus_stride cpus_len"
    " held held_stride held_len held_depth"
    " running running_stride running_len running_depth"
    " arenas arenas_stride arenas_len"
    " programs programs_stride programs_len unlisted",
)
Arena = namedtuple(
    "Arena",
    "room base pages user_base max_pages scratch protocol protocol_len mapped peak free owner"
    " scratch_installs lost_installs spurious_faults lock_failures destroyed",
)
Program = namedtuple("Program", "address id name name_len room missed life stdout stderr")
Stream = namedtuple("Stream", "words len head tail dropped_records dropped_bytes")


class Guest:
    """What the kernel says of itself now."""

    def __init__(self, address, thread, is_selected):
        # The thread whose tables memory is read through, and whether a person chose it.
        self.thread, self.is_selected = thread, is_selected
        magic, version = target.read(address, 8), target.word(address + 8)
        if magic != MAGIC:
            raise Trouble("the guest does not run the image whose symbols are loaded")
        if version != VERSION:
            raise Trouble(
                f"the image has version {version} of the interface to debuggers and these commands"
                f" version {VERSION}: take both from one checkout"
            )
        self.at = Interface._make(target.words(address + 16, len(Interface._fields)))

    def root(self):
        """Physical address of the kernel's root table."""
        root = target.word(self.at.root)
        if root == 0:
            raise Trouble("too early: the kernel has not built its map yet (kmap::build)")
        return root

    def online(self):
        """Indices of the CPUs that run."""
        bits = target.read(self.at.online, 1)[0]
        return [cpu for cpu in range(self.at.cpus_len) if bits >> cpu & 1]

    def cpu_block(self, cpu):
        """MPIDR, ticks, IRQs and SGIs of a CPU."""
        return target.words(self.at.cpus + cpu * self.at.cpus_stride, 6)[2:]

    def cpu_of_thread(self, thread):
        """Index of the CPU that is GDB's `thread`; None before the kernel has started it."""
        with target.selected(thread):
            offset = target.register("TPIDR_EL1") - self.at.cpus
        cpu, rest = divmod(offset, self.at.cpus_stride)
        return cpu if rest == 0 and 0 <= cpu < self.at.cpus_len else None

    def held(self, cpu):
        """Names of the locks that a CPU holds, first taken first."""
        if not self.at.lab:
            raise Trouble("this image records no locks: it was built without the feature `lab`")
        record = self.at.held + cpu * self.at.held_stride
        names = [target.text(*target.words(name, 2)) for name in self._stack(record, "held")]
        return names + ["..."] * (target.word(record) > self.at.held_depth)

    def running(self, cpu):
        """The programs that run on a CPU, outermost first."""
        known = {program.address: program for program in self.programs()}
        record = self.at.running + cpu * self.at.running_stride
        unlisted = Program(0, 0, 0, 0, NONE, 0, 0, None, None)
        return [
            known.get(address, unlisted._replace(address=address))
            for address in self._stack(record, "running")
        ]

    def arenas(self):
        """The arenas that exist, by room."""
        return [Arena(room, *words) for room, words in self._listed("arenas", 16)]

    def programs(self):
        """The programs that are listed, by number."""
        programs = [
            Program(*words[:7], Stream(*words[7:13]), Stream(*words[13:]))
            for _, words in self._listed("programs", 19)
        ]
        return sorted(programs, key=lambda program: program.id)

    def unlisted(self):
        """How many programs there was no room to list."""
        return target.word(self.at.unlisted)

    def place(self, va):
        """Where an address lies in the arenas, in words; "" if in none."""
        for arena in self.arenas():
            end = arena.base + (arena.pages << 12)
            if arena.base <= va < end:
                return f"arena {arena.room}, page {(va - arena.base) >> 12}"
            if arena.base - self.at.guard_bytes <= va < arena.base:
                return f"arena {arena.room}, lower guard"
            if end <= va < end + self.at.guard_bytes:
                return f"arena {arena.room}, upper guard"
        return ""

    def _stack(self, record, name):
        """The addresses in a record of one CPU; null for a moment while one is pushed."""
        count = min(target.word(record), getattr(self.at, name + "_depth"))
        return [address for address in target.words(record + 8, count) if address]

    def _listed(self, name, count):
        stride, length = getattr(self.at, name + "_stride"), getattr(self.at, name + "_len")
        table = target.read(getattr(self.at, name), stride * length)
        for index in range(length):
            state, *words = struct.unpack_from(f"<{1 + count}Q", table, index * stride)
            if state == LISTED:
                yield index, words


def program_name(program):
    """How reports name a program."""
    if program.id == 0:
        return f"<unlisted program at {program.address:#x}>"
    return f"{target.text(program.name, program.name_len)} #{program.id}"


@contextlib.contextmanager
def guest():
    """The guest, seen by the selected CPU, or by another if that one's MMU is off."""
    address = target.symbol("faultline_debug")
    if address is None:
        raise Trouble("no symbol faultline_debug: load the kernel's ELF with `file`")
    threads = target.threads()
    if not threads:
        raise Trouble("no guest: connect to one with `target remote`")
    current = gdb.selected_thread()
    threads.sort(key=lambda thread: current is None or thread.num != current.num)
    for thread in threads:
        with target.selected(thread):
            if _is_readable(address):
                yield Guest(address, thread, thread is threads[0])
                return
    raise Trouble("too early: no CPU has its MMU on; `hbreak kernel_main` and continue first")


def _is_readable(address):
    try:
        return bool(target.read(address, 8))
    except Trouble:
        return False
