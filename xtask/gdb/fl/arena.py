"""fl-arena: the arenas that exist."""

from fl import interface, target
from fl.command import at_most_one, command
from fl.target import Trouble


@command("fl-arena")
def fl_arena(guest, arguments):
    """Faultline: show the arenas.

    Usage: fl-arena [N]

    For each arena that exists, or for arena N: its window as the kernel and as programs see it,
    its protocol, its scratch page, its counts of pages and of faults, and who holds its lock.
    While somebody holds the lock the counts of pages may be in the middle of a change.
    """
    choice = at_most_one(arguments)
    guest.root()
    arenas = guest.arenas()
    if choice is not None:
        room = target.argument(choice)
        arenas = [arena for arena in arenas if arena.room == room]
        if not arenas:
            raise Trouble(f"no arena {room}{_existing(guest)}")
    if not arenas:
        print("no arena exists")
    for arena in arenas:
        _show(arena)


def _show(arena):
    mapped, peak, free = (target.word32(at) for at in (arena.mapped, arena.peak, arena.free))
    scratch, lost, spurious, refused = (
        target.word(at)
        for at in (
            arena.scratch_installs,
            arena.lost_installs,
            arena.spurious_faults,
            arena.lock_failures,
        )
    )
    ending = ", being destroyed" if target.read(arena.destroyed, 1)[0] else ""
    protocol = target.text(arena.protocol, arena.protocol_len)
    print(f"arena {arena.room}: protocol {protocol}, lock {_owner(arena)}{ending}")
    size = arena.pages << 12
    print(f"  window {arena.base:#x}, {size:#x} bytes; programs see {arena.user_base:#x}")
    print(f"  scratch {arena.scratch:#x}")
    print(f"  pages: {mapped} mapped, {peak} at peak, {free} free, of {arena.max_pages}")
    print(
        f"  scratch installs {scratch}, lost installs {lost}, spurious faults {spurious},"
        f" locks refused {refused}"
    )


def _owner(arena):
    if arena.owner == 0:
        return "does not tell its owner"
    owner = target.word32(arena.owner)
    return "free" if owner == interface.NOBODY else f"held by cpu{owner}"


def _existing(guest):
    rooms = ", ".join(str(arena.room) for arena in guest.arenas())
    return f"; there are: {rooms}" if rooms else "; none exists"
