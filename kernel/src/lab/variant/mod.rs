//! Broken and historic variants of the protocol, one file each. Each overrides the one decision it
//! is about; a scenario of the catalogue must catch it.
//!
//! To have a protocol judged: implement [`Protocol`] on a type of your own in a file here, with the
//! decision that you want judged, and give it a line in [`VARIANTS`].

mod blind_scratch;
mod busy;
mod clearing;
mod drops_deferred;
mod faulty_handler;
mod flush_first;
mod frees_scratch;
mod frees_twice;
mod irqs_on;
mod keeps_lock;
mod kernel_only_unmap;
mod leaks;
mod linux_7_2_order;
mod load_store_bury;
mod load_store_clear;
mod local_tlbi;
mod loss_is_error;
mod maps_freed;
mod maps_twice;
mod miscounts;
mod no_dsb;
mod no_tlbi;
mod no_tlbi_free;
mod plain_spin;
mod plain_store;
mod relaxed_install;
mod scratch_for_users;
pub mod trylock_retry;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use arena::arena::CreateError;
use arena::protocol::{Protocol, TombstoneProtocol};

use crate::arch::layout;
use crate::arch::stack::Backtrace;
use crate::arch::trap::TrapFrame;
use crate::mem::arena::KernelArena;

use blind_scratch::BlindScratch;
use busy::Busy;
use drops_deferred::DropsDeferred;
use faulty_handler::FaultyHandler;
use flush_first::FlushFirst;
use frees_scratch::FreesScratch;
use frees_twice::FreesTwice;
use irqs_on::IrqsOn;
use keeps_lock::KeepsLock;
use kernel_only_unmap::KernelOnlyUnmap;
use leaks::Leaks;
use linux_7_2_order::Linux72Order;
use load_store_bury::LoadStoreBury;
use load_store_clear::LoadStoreClear;
use local_tlbi::LocalTlbi;
use loss_is_error::LossIsError;
use maps_freed::MapsFreed;
use maps_twice::MapsTwice;
use miscounts::Miscounts;
use no_dsb::NoDsb;
use no_tlbi::NoTlbi;
use no_tlbi_free::NoTlbiFree;
use plain_spin::PlainSpin;
use plain_store::PlainStore;
use relaxed_install::RelaxedInstall;
use scratch_for_users::ScratchForUsers;
use trylock_retry::TrylockRetry;

/// How a variant makes an arena.
type Create = fn(u32) -> Result<Arc<KernelArena>, CreateError>;

/// A protocol that can be chosen by name.
pub struct VariantEntry {
    /// The name that `--variant` takes.
    pub name: &'static str,
    /// Makes an arena under it.
    pub create: Create,
    /// Makes one with a small window.
    pub create_small: Create,
}

/// Every protocol of this image.
pub const VARIANTS: &[VariantEntry] = &[
    entry::<TombstoneProtocol>(),
    entry::<TrylockRetry>(),
    entry::<PlainSpin>(),
    entry::<FreesTwice>(),
    entry::<Leaks>(),
    entry::<Miscounts>(),
    entry::<KeepsLock>(),
    entry::<MapsTwice>(),
    entry::<MapsFreed>(),
    entry::<LocalTlbi>(),
    entry::<Linux72Order>(),
    entry::<FlushFirst>(),
    entry::<NoTlbiFree>(),
    entry::<LoadStoreBury>(),
    entry::<LoadStoreClear>(),
    entry::<PlainStore>(),
    entry::<RelaxedInstall>(),
    entry::<NoDsb>(),
    entry::<Busy>(),
    entry::<FreesScratch>(),
    entry::<IrqsOn>(),
    entry::<NoTlbi>(),
    entry::<LossIsError>(),
    entry::<BlindScratch>(),
    entry::<FaultyHandler>(),
    entry::<DropsDeferred>(),
    entry::<KernelOnlyUnmap>(),
    entry::<ScratchForUsers>(),
    of_default(HASTY_TEARDOWN),
    of_default(FIND_BY_UNWIND),
];

/// The abort handler finds the running program by its frame records, as Linux 7.2.13 does; the
/// protocol is the default one.
pub const FIND_BY_UNWIND: &str = "find-by-unwind";

/// A teardown does not wait for those who are inside; the protocol is the default one.
pub const HASTY_TEARDOWN: &str = "hasty-teardown";

static FINDS_BY_UNWIND: AtomicBool = AtomicBool::new(false);
static TEARS_DOWN_HASTILY: AtomicBool = AtomicBool::new(false);

/// The protocol called `name`.
pub fn find(name: &str) -> Option<&'static VariantEntry> {
    VARIANTS.iter().find(|variant| variant.name == name)
}

/// Makes `name` the run's variant, before any program runs; `false` if there is none such.
pub fn select(name: &str) -> bool {
    FINDS_BY_UNWIND.store(name == FIND_BY_UNWIND, Ordering::Relaxed);
    TEARS_DOWN_HASTILY.store(name == HASTY_TEARDOWN, Ordering::Relaxed);
    find(name).is_some()
}

/// Whether the handler unwinds to find the program.
pub fn finds_by_unwind() -> bool {
    FINDS_BY_UNWIND.load(Ordering::Relaxed)
}

/// Whether a teardown waits for nobody.
pub fn tears_down_hastily() -> bool {
    TEARS_DOWN_HASTILY.load(Ordering::Relaxed)
}

/// Whether a return address in the frame records behind `frame` lies in program code. The faulting
/// function's own return address counts only once it has pushed a record.
pub fn unwinds_to_program(frame: &TrapFrame) -> bool {
    Backtrace::from_record(frame.x[29]).any(|pc| layout::program_text().contains(&pc))
}

const fn entry<P: Protocol>() -> VariantEntry {
    let (create, create_small) = (KernelArena::create_with::<P>, create_small::<P>);
    VariantEntry { name: P::NAME, create, create_small }
}

/// A variant that the protocol has no part in.
const fn of_default(name: &'static str) -> VariantEntry {
    VariantEntry { name, ..entry::<TombstoneProtocol>() }
}

/// Pages of a small window: 4 MiB.
const SMALL_PAGES: u32 = 1024;

fn create_small<P: Protocol>(max_pages: u32) -> Result<Arc<KernelArena>, CreateError> {
    KernelArena::create_in::<P>(max_pages, SMALL_PAGES)
}
