//! Bugs put into the protocol, each by a type: what finds it, and by which execution. The kernel that has
//! none of them pays nothing.

use arena::addr::VirtAddr;
use arena::arena::{Arena, Recovery};
use arena::hw::Platform;
use arena::protocol::Protocol;
use arena::pte::Pte;
use arena::slot::PteSlot;

use crate::arenas::{
    alloc_vs_access, alloc_vs_accesses, free_vs_access, free_vs_alloc, free_vs_free,
    program_under_the_lock, two_faults, two_workers,
};
#[cfg(loom)]
use crate::lab::RelaxedInstall;
use crate::lab::{
    BlindScratch, Busy, DropsDeferred, FlushFirst, FreesScratch, FreesTwice, IrqsOn, Leaks,
    Linux72Order, LoadStoreClear, LocalTlbi, LossIsError, Miscounts, NoDsb, NoTlbi, NoTlbiFree,
    PlainSpin, PlainStore, TrylockRetry,
};
use crate::machine::SOUND;
use crate::run::fails;

/// The page is stored without a look. Answers to Linux `set_pte()`.
struct SetPte;

impl Protocol for SetPte {
    const NAME: &'static str = "set-pte";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        _: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        slot.overwrite(arena.machine(), new);
        Ok(())
    }
}

/// Scratch is exchanged for the page by one instruction: valid to valid.
struct OneSwap;

impl Protocol for OneSwap {
    const NAME: &'static str = "one-swap";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        let hw = arena.machine();
        let outcome = slot.try_set_unpublished(hw, page, new);
        let order = arena::sync::Ordering::AcqRel;
        outcome.or_else(|found| slot.swap_if(hw, found, new, order).map(|_| ()))
    }
}

/// Scratch is broken once; if a fault fills the slot again meanwhile, the allocation fails.
struct OneRound;

impl Protocol for OneRound {
    const NAME: &'static str = "one-round";

    fn install<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        new: Pte,
    ) -> Result<(), Pte> {
        let hw = arena.machine();
        slot.try_set_unpublished(hw, page, new).or_else(|_| {
            slot.clear(hw, page, arena.stamp());
            slot.try_set_unpublished(hw, page, new)
        })
    }
}

/// A fault whose install is lost is an oops.
struct OopsOnLoss;

impl Protocol for OopsOnLoss {
    const NAME: &'static str = "oops-on-loss";

    fn recover<M: Platform>(
        arena: &Arena<Self, M>,
        slot: &PteSlot,
        page: VirtAddr,
        before: Pte,
    ) -> Recovery {
        match arena::protocol::install_scratch(arena, slot, page, before) {
            Recovery::Lost { winner, .. } => panic!("oops: {winner:?} came first"),
            recovery => recovery,
        }
    }
}

macro_rules! bugs {
    ($($test:ident: $bug:literal, $name:ident, $scenario:ident;)*) => {
        $(
            #[test]
            fn $test() {
                fails(
                    concat!($bug, ", ", stringify!($scenario)),
                    $scenario::<$name, SOUND>,
                );
            }
        )*
    };
}

bugs! {
    set_pte_is_caught: "plain set_pte", SetPte, alloc_vs_access;
    check_then_set_is_caught: "check, then set", PlainStore, alloc_vs_access;
    one_swap_from_scratch_to_page_is_caught: "scratch to page in one swap", OneSwap, alloc_vs_access;
    a_break_without_tlbi_is_caught: "break-before-make without TLBI", NoTlbi, alloc_vs_access;
    a_free_without_tlbi_is_caught: "no TLBI before a free", NoTlbiFree, free_vs_access;
    a_free_with_a_local_tlbi_is_caught: "a local TLBI before a free", LocalTlbi, free_vs_access;
    freed_scratch_is_caught: "scratch is freed", FreesScratch, free_vs_free;
    a_second_free_is_caught: "frames are freed twice", FreesTwice, free_vs_access;
    a_leak_is_caught: "frames are forgotten", Leaks, free_vs_access;
    a_miscount_is_caught: "pages are miscounted", Miscounts, free_vs_access;
    a_load_and_a_store_as_a_clear_are_caught: "get and clear by load and store", LoadStoreClear, free_vs_access;
    an_allocator_of_one_round_is_caught: "the allocator gives up after one round", OneRound, alloc_vs_accesses;
    an_allocator_that_fails_at_scratch_is_caught: "scratch in the way is an error", Busy, alloc_vs_access;
    an_oops_at_a_lost_install_is_caught: "the handler oopses at a lost install", OopsOnLoss, alloc_vs_access;
    a_lost_install_as_an_error_is_caught: "a lost install is an error", LossIsError, alloc_vs_access;
    a_blind_handler_is_caught: "the handler stores scratch blindly", BlindScratch, alloc_vs_access;
    a_handler_without_dsb_is_caught: "the handler returns without DSB", NoDsb, two_faults;
    a_handler_that_tries_the_lock_is_caught: "trylock and retry in the handler", TrylockRetry, program_under_the_lock;
    a_handler_that_waits_for_the_lock_is_caught: "a blocking lock in the handler", PlainSpin, program_under_the_lock;
    a_lock_with_interrupts_on_is_caught: "the lock leaves interrupts on", IrqsOn, program_under_the_lock;
    the_order_of_linux_7_2_is_caught: "the order of Linux 7.2: a write is lost", Linux72Order, free_vs_alloc;
    the_clear_window_is_caught: "flush before the range, no tombstone: scratch in the window", FlushFirst, free_vs_access;
    a_dropped_deferral_is_caught: "a deferred free is dropped", DropsDeferred, two_workers;
}

/// The language's own: a checker of sequentially consistent executions cannot see it.
#[cfg(loom)]
#[test]
fn a_relaxed_install_is_caught() {
    fails("relaxed install, alloc_vs_access", alloc_vs_access::<RelaxedInstall, SOUND>);
}
