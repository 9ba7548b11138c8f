//! The machine where all CPUs are known to have FEAT_LSE: for loops, which then look once.

use arena::addr::VirtAddr;
use arena::hw::Hw;
use arena::sync::{AtomicU64, Ordering};

use super::Machine;
use crate::arch::{alternative, atomic};

/// See the module. There is one only where [`alternative::has_lse`].
pub struct LseMachine {
    only_of_all_cpus: (),
}

static OF_ALL_CPUS: LseMachine = LseMachine { only_of_all_cpus: () };

impl LseMachine {
    /// The machine, if all CPUs have FEAT_LSE.
    #[cfg_attr(feature = "lab", expect(dead_code, reason = "lab images look each time"))]
    #[inline(always)]
    pub fn of_all_cpus() -> Option<&'static Self> {
        alternative::has_lse().then_some(&OF_ALL_CPUS)
    }
}

impl Hw for LseMachine {
    #[inline(always)]
    fn compare_exchange(
        &self,
        word: &AtomicU64,
        current: u64,
        new: u64,
        order: Ordering,
    ) -> Result<u64, u64> {
        let () = self.only_of_all_cpus;
        // SAFETY: a value of this type says that all CPUs have FEAT_LSE.
        unsafe { atomic::lse_compare_exchange(word, current, new, order) }
    }

    #[inline(always)]
    fn swap(&self, word: &AtomicU64, new: u64, order: Ordering) -> u64 {
        // SAFETY: as above.
        unsafe { atomic::lse_swap(word, new, order) }
    }

    #[inline(always)]
    fn dsb_ishst(&self) {
        Machine.dsb_ishst();
    }

    #[inline(always)]
    fn dsb_ish(&self) {
        Machine.dsb_ish();
    }

    #[inline(always)]
    fn isb(&self) {
        Machine.isb();
    }

    #[inline(always)]
    fn tlbi_vaale1is(&self, page: VirtAddr) {
        Machine.tlbi_vaale1is(page);
    }

    #[inline(always)]
    fn tlbi_vmalle1is(&self) {
        Machine.tlbi_vmalle1is();
    }
}
