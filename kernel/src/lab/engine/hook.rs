//! What the machine tells the lab, as it happens: writes to descriptors, TLBIs, DSBs, frames,
//! violations and reports. The oracles watch these operations, never what a scenario means to do.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use arena::addr::{Frame, PAGE_SIZE, VirtAddr};
use arena::pte::Pte;
use explore::ghost::{Broken, Rule, View};

use super::weak::{Delayed, Weak};
use super::{Core, DELAYING, Entry, is_on, lose, may_be_watched, with};
use crate::arch::percpu::CpuId;
use crate::mem::machine;

/// A compare-and-swap, exchange or store on the descriptor at `slot`; `done` unless a
/// compare-and-swap was lost.
#[inline]
pub fn wrote(slot: u64, old: u64, new: u64, done: bool) {
    if !is_on() || !may_be_watched(slot) {
        return;
    }
    tell(|core, cpu| {
        let (old, new) = (Pte::from_bits(old), Pte::from_bits(new));
        let Some(page) = core.ghost.page_of(slot) else { return Ok(()) };
        let outcome = if done { core.ghost.write(cpu, slot, old, new) } else { Ok(()) };
        let (seen, page) = (core.ghost.view(page).into(), page.get());
        core.timeline.push(Entry::Pte { cpu, page, old, new, done, seen });
        outcome
    });
}

/// A load of the descriptor at `slot`.
#[inline]
pub fn loaded(slot: u64, now: u64) {
    if is_on() && may_be_watched(slot) {
        with(|core| core.ghost.loaded(me(), slot, Pte::from_bits(now)));
    }
}

/// A plain store is about to be made over `old` in the descriptor at `slot`.
pub fn overwrites(slot: u64, old: u64) {
    if is_on() && may_be_watched(slot) {
        tell(|core, cpu| core.ghost.overwrites(cpu, slot, Pte::from_bits(old)));
    }
}

/// A TLBI for `page`, or for all.
#[inline]
pub fn tlbi(page: Option<VirtAddr>) {
    if is_on() {
        tell(|core, cpu| {
            core.ghost.tlbi(cpu, page);
            let page = page.map_or(0, VirtAddr::get);
            core.timeline.push(Entry::Tlbi { cpu, page });
            Ok(())
        });
    }
}

/// A DSB ISH if `full`, or a DSB ISHST.
#[inline]
pub fn dsb(full: bool) {
    if is_on() {
        let cpu = CpuId::current().index();
        if delaying() {
            let out = with(|core| core.weak.as_mut().map(|weak| weak.by_dsb(cpu, full)));
            out.flatten().into_iter().for_each(let_out);
        }
        tell(|core, cpu| {
            let before = views(core);
            core.ghost.dsb(cpu, full);
            core.timeline.push(Entry::Dsb { cpu, full });
            for (now, before) in views(core).into_iter().zip(before) {
                if let (Some((page, view)), true) = (now, now != before) {
                    core.timeline.push(Entry::View { cpu, page: page.get(), view });
                }
            }
            Ok(())
        });
    }
}

/// What TLBs may hold of the first few watched pages: without a list on the heap, as every barrier
/// asks.
fn views(core: &Core) -> [Option<(VirtAddr, View)>; 4] {
    let mut all = [None; 4];
    let pages = core.ghost.pages().map(|page| Some((page, core.ghost.view(page)?)));
    all.iter_mut().zip(pages).for_each(|(place, view)| *place = view);
    all
}

/// A frame from the lab's pool while an exploration is on: `None` outside one, `Some(None)` when the
/// pool is empty.
#[inline]
pub fn frame() -> Option<Option<Frame>> {
    if !is_on() {
        return None;
    }
    with(|core| {
        if core.real_frames {
            return None;
        }
        let frame = core.pool.pop();
        if let Some(frame) = frame {
            core.ghost.gave(frame);
            let (cpu, frame) = (me(), frame.start().get());
            core.timeline.push(Entry::Frame { cpu, frame, out: true });
        }
        Some(frame)
    })
    .flatten()
}

/// A frame goes back. Whether it was the pool's.
#[inline]
pub fn freed(frame: Frame) -> bool {
    if !is_on() {
        return false;
    }
    let mut ours = false;
    tell(|core, cpu| {
        let address = frame.start().get();
        core.timeline.push(Entry::Frame { cpu, frame: address, out: false });
        ours = core.ghost.owns(frame);
        core.ghost.took(cpu, frame)?;
        if ours {
            core.pool.push(frame);
        }
        Ok(())
    });
    ours
}

/// Something was torn down that so many CPUs are inside of.
pub fn torn_down(inside: u32) {
    if inside > 0 && is_on() {
        let broken = Broken { rule: Rule::TornDownInUse, page: None, frame: None, cpu: me() };
        lose(&broken, "");
    }
}

/// The abort handler answered a wild access.
pub fn violation() {
    if is_on() {
        with(|core| core.unreported += 1);
    }
}

/// A violation was put on a stream.
pub fn report() {
    if is_on() {
        with(|core| core.unreported -= 1);
    }
}

/// This CPU's access through `at` reached the word at physical address `reached`, without an abort.
pub fn accessed(at: VirtAddr, reached: u64) {
    if is_on() {
        tell(|core, cpu| {
            let frame = Frame::from_number(reached / PAGE_SIZE);
            core.ghost.reached(cpu, at, frame)
        });
    }
}

/// The descriptor at `slot` as loads and atomics see it, where that is not what memory holds.
#[inline]
pub fn coherent(slot: u64) -> Option<u64> {
    if !delaying() || !may_be_watched(slot) {
        return None;
    }
    with(|core| core.weak.as_ref()?.coherent(slot))?
}

/// Whether a change of the descriptor at `slot` is to be delayed. If so, what must come before it has
/// come.
pub fn delays(slot: u64) -> bool {
    if !delaying() || !may_be_watched(slot) {
        return false;
    }
    let before = with(|core| {
        let watched = core.ghost.page_of(slot).is_some();
        core.weak.as_mut().filter(|_| watched).map(|weak| weak.before_change(slot))
    });
    before.flatten().map(let_out).is_some()
}

/// Delays what this CPU did; whether this exploration delays.
pub fn delay(what: Delayed) -> bool {
    let cpu = CpuId::current().index();
    delaying()
        && with(|core| core.weak.as_mut().map(|weak| weak.delay(cpu, what))).flatten().is_some()
}

/// Just before this CPU comes to a step, or is through: chance lets something out.
pub fn before_a_step() {
    if !delaying() {
        return;
    }
    let out = with(|core| core.weak.as_mut().map(Weak::by_chance));
    out.flatten().into_iter().for_each(let_out);
}

/// Just before this CPU's own access to memory: it sees its own zeroes.
pub fn before_an_access() {
    if delaying() {
        let cpu = CpuId::current().index();
        let out = with(|core| core.weak.as_mut().map(|weak| weak.own_zeroes(cpu)));
        out.flatten().into_iter().for_each(let_out);
    }
}

/// Lets everything out: the schedule is over.
pub fn let_all_out() {
    with(|core| core.weak.as_mut().map(Weak::all)).flatten().into_iter().for_each(let_out);
}

#[inline(always)]
fn delaying() -> bool {
    is_on() && DELAYING.load(Ordering::Relaxed)
}

/// What was delayed takes effect.
fn let_out(what: Vec<Delayed>) {
    for delayed in what {
        let object = match delayed {
            Delayed::Pte { slot, value, .. } => {
                machine::lab::store_word(slot, value);
                slot
            }
            Delayed::Zero(frame) => {
                machine::zero_now(frame);
                frame.start().get()
            }
            Delayed::Tlbi(page) => {
                machine::lab::tlbi_now(page);
                page.map_or(0, VirtAddr::get)
            }
        };
        with(|core| {
            core.timeline.push(Entry::Drain { cpu: me(), object });
            if let (Delayed::Pte { slot, .. }, Some(weak)) = (delayed, core.weak.as_mut()) {
                weak.settled(slot);
            }
        });
    }
}

fn tell(what: impl FnOnce(&mut Core, u8) -> Result<(), Broken>) {
    if let Some(Err(broken)) = with(|core| what(core, me())) {
        lose(&broken, "");
    }
}

fn me() -> u8 {
    CpuId::current().index() as u8
}
