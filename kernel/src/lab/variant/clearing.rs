//! What the variants that free in another order or by other means have in common.

use alloc::vec::Vec;

use arena::addr::{PageRange, VirtAddr};
use arena::arena::Arena;
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::{Pte, State};
use arena::slot::PteSlot;
use arena::step::StepPoint;

/// The pages of a batch that held something, with what they held.
pub type Cleared = Vec<(VirtAddr, Pte)>;

/// Clears every slot of `batch` by `clear`, which returns what was there.
pub fn clear<P: Protocol, M: Platform>(
    arena: &Arena<P, M>,
    batch: PageRange,
    clear: impl Fn(&PteSlot) -> Pte,
) -> Cleared {
    let pages = (0..batch.pages).map(|n| arena.window().page(batch.start + n));
    let old = pages.filter_map(|page| Some((page, clear(arena.slot(page)?))));
    old.filter(|(_, old)| old.state() == State::Valid).collect()
}

/// The TLB maintenance for what was cleared.
pub fn flush<P: Protocol, M: Platform>(arena: &Arena<P, M>, cleared: &Cleared) {
    let machine = arena.machine();
    if let Some((first, _)) = cleared.first() {
        machine.step(StepPoint::Tlbi, first.get());
        machine.dsb_ishst();
        cleared.iter().for_each(|(page, _)| machine.tlbi_vaale1is(*page));
        machine.dsb_ish();
        machine.isb();
    }
}

/// Gives the frames of what was cleared to the allocator.
pub fn give_frames<P: Protocol, M: Platform>(arena: &Arena<P, M>, cleared: &Cleared) {
    for frame in owned(arena, cleared) {
        arena.machine().step(StepPoint::FrameFree, 0);
        arena.machine().free(frame);
    }
}

/// How many of them were pages of their own.
pub fn count<P: Protocol, M: Platform>(arena: &Arena<P, M>, cleared: &Cleared) -> u32 {
    owned(arena, cleared).count() as u32
}

fn owned<P: Protocol, M: Platform>(
    arena: &Arena<P, M>,
    cleared: &Cleared,
) -> impl Iterator<Item = arena::addr::Frame> {
    let frames = cleared.iter().filter_map(|(_, old)| old.frame());
    frames.filter(|&frame| Some(frame) != P::shared_frame(arena))
}
