//! Atomic read-modify-write on one 64-bit word: the LSE instruction where all CPUs have FEAT_LSE,
//! core's exclusive pair elsewhere.
//!
//! The target's baseline has no LSE, so the compiler never emits it; the choice is made at run
//! time: once, at boot, for the kernel, at each operation for programs. On both sides the ordering asked
//! for is the ordering given.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::alternative;

static LSE: AtomicBool = AtomicBool::new(false);

/// Chooses the LSE instructions (or not) for programs. All CPUs must have FEAT_LSE. Both kinds of
/// instruction work on the same words at the same time, so that a test may change its mind.
pub fn use_lse(lse: bool) {
    // Relaxed: either choice is right at any moment.
    LSE.store(lse, Ordering::Relaxed);
}

/// Whether the LSE instructions are in use for programs; for the kernel, see [`alternative::has_lse`].
pub fn uses_lse() -> bool {
    // Relaxed: see `use_lse`.
    LSE.load(Ordering::Relaxed)
}

/// One LSE instruction in the four orderings; SeqCst and AcqRel are the same for it.
macro_rules! lse {
    ($order:expr, $relaxed:literal, $acquire:literal, $release:literal, $both:literal,
     $operands:literal, $($binding:tt)*) => {
        // SAFETY: the address comes from a reference to an atomic; the caller knows of FEAT_LSE.
        unsafe {
            match $order {
                Ordering::Relaxed => asm!(
                    ".arch_extension lse", concat!($relaxed, " ", $operands),
                    $($binding)*, options(nostack, preserves_flags)
                ),
                Ordering::Acquire => asm!(
                    ".arch_extension lse", concat!($acquire, " ", $operands),
                    $($binding)*, options(nostack, preserves_flags)
                ),
                Ordering::Release => asm!(
                    ".arch_extension lse", concat!($release, " ", $operands),
                    $($binding)*, options(nostack, preserves_flags)
                ),
                _ => asm!(
                    ".arch_extension lse", concat!($both, " ", $operands),
                    $($binding)*, options(nostack, preserves_flags)
                ),
            }
        }
    };
}

/// Stores `new` if the word is `old`; the value found, as `Ok` if stored. A failure orders as the
/// load half of `order`.
///
/// # Errors
/// The value found, if it was not `old`.
// Budgeted: with a constant `order` this is NOP and CAS.
#[inline(always)]
pub fn compare_exchange(word: &AtomicU64, old: u64, new: u64, order: Ordering) -> Result<u64, u64> {
    if !alternative::has_lse() {
        return word.compare_exchange(old, new, order, load_half(order));
    }
    // SAFETY: `alternative::decide` was told so.
    unsafe { lse_compare_exchange(word, old, new, order) }
}

/// Stores `new`; the value before.
// As `compare_exchange`.
#[inline(always)]
pub fn swap(word: &AtomicU64, new: u64, order: Ordering) -> u64 {
    if !alternative::has_lse() {
        return word.swap(new, order);
    }
    // SAFETY: as above.
    unsafe { lse_swap(word, new, order) }
}

/// [`compare_exchange`] by the LSE instruction.
///
/// # Errors
/// As there.
///
/// # Safety
/// All CPUs have FEAT_LSE.
#[inline(always)]
pub unsafe fn lse_compare_exchange(
    word: &AtomicU64,
    old: u64,
    new: u64,
    order: Ordering,
) -> Result<u64, u64> {
    let mut found = old;
    lse!(
        order, "cas", "casa", "casl", "casal", "{found}, {new}, [{word}]",
        found = inout(reg) found, new = in(reg) new, word = in(reg) word.as_ptr()
    );
    if found == old { Ok(found) } else { Err(found) }
}

/// [`swap`] by the LSE instruction.
///
/// # Safety
/// All CPUs have FEAT_LSE.
#[inline(always)]
pub unsafe fn lse_swap(word: &AtomicU64, new: u64, order: Ordering) -> u64 {
    let before: u64;
    lse!(
        order, "swp", "swpa", "swpl", "swpal", "{new}, {before}, [{word}]",
        new = in(reg) new, before = lateout(reg) before, word = in(reg) word.as_ptr()
    );
    before
}

/// LDXR: the value, and a reservation of the word for [`store_exclusive_release`].
pub fn load_exclusive(word: &AtomicU64) -> u64 {
    let value;
    // SAFETY: a load of a live atomic; a reservation that nobody uses does no harm.
    unsafe {
        asm!("ldxr {}, [{}]", out(reg) value, in(reg) word.as_ptr(), options(nostack, preserves_flags));
    }
    value
}

/// STLXR: stores `new` if this CPU's reservation of the word still holds; whether it did. A
/// reservation may be lost for no reason.
pub fn store_exclusive_release(word: &AtomicU64, new: u64) -> bool {
    let failed: u64;
    // SAFETY: a store to a live atomic, or none.
    unsafe {
        asm!(
            "stlxr {failed:w}, {new}, [{word}]",
            failed = out(reg) failed, new = in(reg) new, word = in(reg) word.as_ptr(),
            options(nostack, preserves_flags)
        );
    }
    failed as u32 == 0
}

/// The ordering of the load of a read-modify-write that stores nothing.
// Folds to a constant.
#[inline(always)]
const fn load_half(order: Ordering) -> Ordering {
    match order {
        Ordering::Relaxed | Ordering::Release => Ordering::Relaxed,
        Ordering::SeqCst => Ordering::SeqCst,
        _ => Ordering::Acquire,
    }
}
