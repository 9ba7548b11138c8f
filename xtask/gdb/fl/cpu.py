"""fl-cpus, fl-locks and fl-programs: what each CPU is doing."""

from fl import target
from fl.command import command, none
from fl.interface import NONE, program_name
from fl.target import Trouble


# Flags of the word of a Lifecycle, the one that tells its state first.
LIFE = {36: "torn down", 35: "aborted", 33: "faulted", 34: "unloaded", 32: "running"}


@command("fl-cpus")
def fl_cpus(guest, arguments):
    """Faultline: show each CPU.

    Usage: fl-cpus

    Number and affinity, GDB's thread, whether it is online, its counts of ticks and interrupts,
    where it stands, the programs that run on it and the locks that it holds.
    """
    none(arguments)
    cpus = [(guest.cpu_of_thread(thread), thread) for thread in target.threads()]
    by_cpu, online = dict(cpus), guest.online()
    for cpu in sorted(set(online) | (by_cpu.keys() - {None})):
        mpidr, ticks, irqs, sgis = guest.cpu_block(cpu)
        thread = by_cpu.get(cpu)
        name = f"thread {thread.num}" if thread else "no thread"
        state = "online" if cpu in online else "starting"
        print(
            f"cpu{cpu}: mpidr {mpidr:#x}, {name}, {state},"
            f" {ticks} ticks, {irqs} irqs, {sgis} sgis"
        )
        if thread:
            with target.selected(thread):
                print(f"  at {target.code(target.register('pc'))}")
        print(f"  programs: {programs_text(guest, cpu)}; locks: {locks_text(guest, cpu)}")
    waiting = [str(thread.num) for cpu, thread in cpus if cpu is None]
    if waiting:
        print(f"not started: thread {', '.join(waiting)}")


@command("fl-locks")
def fl_locks(guest, arguments):
    """Faultline: show the locks that each CPU holds, first taken first.

    Usage: fl-locks

    From the records of lab images; an image built without them says so.
    """
    none(arguments)
    for cpu in guest.online():
        print(f"cpu{cpu}: {', '.join(guest.held(cpu)) or 'none'}")


@command("fl-programs")
def fl_programs(guest, arguments):
    """Faultline: show the programs that run on each CPU, and those that are loaded.

    Usage: fl-programs

    The running ones outermost first: the last is the one that a fault now would be charged to.
    """
    none(arguments)
    guest.root()
    for cpu in guest.online():
        print(f"cpu{cpu}: {programs_text(guest, cpu)}")
    for program in guest.programs():
        arena = "no arena" if program.room == NONE else f"arena {program.room}"
        missed = target.word(program.missed)
        print(f"loaded: {program_name(program)}, {_life(program)}, {arena}, {missed} runs refused")
    if guest.unlisted():
        print(f"{guest.unlisted()} more programs are not listed")


def _life(program):
    word = target.word(program.life)
    flags = [name for bit, name in LIFE.items() if word >> bit & 1]
    return f"{flags[0] if flags else 'loaded'}, {word & 0xFFFF_FFFF} inside"


def programs_text(guest, cpu):
    """The programs that run on a CPU, in one line."""
    return ", ".join(map(program_name, guest.running(cpu))) or "none"


def locks_text(guest, cpu):
    """The locks that a CPU holds, in one line."""
    try:
        return ", ".join(guest.held(cpu)) or "none"
    except Trouble:
        return "not recorded"
