//! Barriers and events by their architectural names.
//!
//! Each is a compiler barrier as well: no memory access moves across it. Arm ARM B2.3.12 (DMB,
//! DSB, ISB), D1.6 (WFE, SEV). Which barrier a protocol step needs is said at the step.

use core::arch::asm;

macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        // One instruction: a call would cost more than it does.
        #[inline(always)]
        pub fn $name() {
            // SAFETY: a barrier or hint touches no memory and no register. Without `nomem` it
            // also orders the compiler's own accesses.
            unsafe { asm!($text, options(nostack, preserves_flags)) }
        }
    };
}

instruction!(
    /// DSB ISH: all earlier loads, stores and TLB maintenance are complete for every CPU.
    dsb_ish, "dsb ish"
);
instruction!(
    /// DSB ISHST: all earlier stores are complete for every CPU and for table walks.
    dsb_ishst, "dsb ishst"
);
instruction!(
    /// DSB ISHLD: all earlier loads are complete.
    dsb_ishld, "dsb ishld"
);
instruction!(
    /// DSB NSH: as DSB ISH, for this CPU alone.
    dsb_nsh, "dsb nsh"
);
instruction!(
    /// DMB ISH: earlier loads and stores are seen before later ones, by every CPU.
    dmb_ish, "dmb ish"
);
instruction!(
    /// DMB ISHST: as DMB ISH, stores only.
    dmb_ishst, "dmb ishst"
);
instruction!(
    /// DSB SY: as DSB ISH, for the whole system, devices included.
    dsb_sy, "dsb sy"
);
instruction!(
    /// ISB: what follows is fetched and translated anew.
    isb, "isb"
);
instruction!(
    /// WFE: wait for an event (SEV of any CPU, an interrupt, or a spurious wake-up).
    wfe, "wfe"
);
instruction!(
    /// YIELD: this CPU waits for another; under one emulator thread the other gets its turn.
    wait_hint, "yield"
);
instruction!(
    /// WFI: wait for an interrupt, masked or not.
    wfi, "wfi"
);
instruction!(
    /// DSB ISHST, SEV: earlier stores are visible before any CPU wakes from WFE.
    publish_event, "dsb ishst\n sev"
);
