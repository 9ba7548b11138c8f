//! An arena's window: which kernel addresses are its pages, which are guards, and which of them a
//! fault may be recovered in.
//!
//! ```text
//!   base - 32 KiB   base                                base + pages       + 32 KiB
//!   | lower guard   | pages ...........................  | upper guard      |
//!   | kernel bug    | recovered                          | recovered        | kernel bug
//! ```
//!
//! The guards are as wide as a program's largest 16-bit offset. A pointer past the end of an array
//! runs into the upper guard, so that one is recovered; nothing a program may pass can lie below
//! `base`, so a fault there is the kernel's own. Answers to `GUARD_SZ` and
//! `arena_find_fault_addr()`-style checks of Linux kernel/bpf/arena.c.

use crate::addr::{PAGE_SIZE, PageRange, VirtAddr};

/// Bytes of the guard on either side of a window.
pub const GUARD_BYTES: u64 = 32 * 1024;

/// The pages of a full-sized window: 4 GiB.
pub const FULL_PAGES: u32 = 1 << 20;

/// The kernel's and the program's view of one arena's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    base: VirtAddr,
    pages: u32,
    user_base: VirtAddr,
}

/// Where an address lies with respect to a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zone {
    /// In the guard below the window.
    LowerGuard,
    /// On the page with this index.
    Page(u32),
    /// In the guard above the window.
    UpperGuard,
    /// Elsewhere.
    Outside,
}

impl Window {
    /// A window of `pages` pages from `base` in the kernel, which programs see from `user_base`.
    /// `None` unless both are page-aligned and the kernel's begins a 1 GiB block, so that no
    /// two windows share a level 2 table; nor if the program's crosses a multiple of 4 GiB, as a program
    /// knows a page by the low 32 bits of its address (Linux `arena_map_alloc()` refuses the same).
    pub const fn new(base: VirtAddr, pages: u32, user_base: VirtAddr) -> Option<Self> {
        // Wraps for no pages, which are refused below.
        let last = user_base.get().wrapping_add(pages as u64 * PAGE_SIZE).wrapping_sub(1);
        let within = user_base.get() >> 32 == last >> 32;
        let aligned = base.get().is_multiple_of(1 << 30) && user_base.is_page_aligned();
        if aligned && within && pages > 0 && pages <= FULL_PAGES {
            Some(Self { base, pages, user_base })
        } else {
            None
        }
    }

    /// Kernel address of the first page.
    pub const fn base(&self) -> VirtAddr {
        self.base
    }

    /// Program's address of the first page.
    pub const fn user_base(&self) -> VirtAddr {
        self.user_base
    }

    /// Number of pages between the guards.
    pub const fn pages(&self) -> u32 {
        self.pages
    }

    /// Bytes between the guards.
    pub const fn bytes(&self) -> u64 {
        self.pages as u64 * PAGE_SIZE
    }

    /// Bytes from `base` in which a fault is recovered: the pages and the upper guard.
    pub const fn recovery_bytes(&self) -> u64 {
        self.bytes() + GUARD_BYTES
    }

    /// Kernel address of page `index`, which need not exist.
    pub const fn page(&self, index: u32) -> VirtAddr {
        self.base.offset(index as u64 * PAGE_SIZE)
    }

    /// Where `va` lies.
    pub const fn zone(&self, va: VirtAddr) -> Zone {
        let offset = va.get().wrapping_sub(self.base.get());
        if offset < self.bytes() {
            Zone::Page((offset / PAGE_SIZE) as u32)
        } else if offset < self.recovery_bytes() {
            Zone::UpperGuard
        } else if offset.wrapping_add(GUARD_BYTES) < GUARD_BYTES {
            Zone::LowerGuard
        } else {
            Zone::Outside
        }
    }

    /// Whether a fault at `va` may be recovered.
    pub const fn recovers(&self, va: VirtAddr) -> bool {
        va.get().wrapping_sub(self.base.get()) < self.recovery_bytes()
    }

    /// The address that the program knows `va` by.
    pub const fn to_user(&self, va: VirtAddr) -> VirtAddr {
        self.user_base.offset(va.get().wrapping_sub(self.base.get()))
    }

    /// The pages from kernel address `va` on; `None` unless `va` is the start of a page of the
    /// window and all `pages` of them lie inside.
    pub const fn range(&self, va: VirtAddr, pages: u32) -> Option<PageRange> {
        match self.zone(va) {
            Zone::Page(start) if va.is_page_aligned() => {
                let range = PageRange::new(start, pages);
                if range.end() <= self.pages as u64 { Some(range) } else { None }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_8001_0000_0000;

    fn window() -> Window {
        Window::new(VirtAddr::new(BASE), FULL_PAGES, VirtAddr::new(0x1_0000_0000)).unwrap()
    }

    #[test]
    fn zones_change_at_the_exact_byte() {
        let end = BASE + (4 << 30);
        for (va, zone) in [
            (BASE - GUARD_BYTES - 1, Zone::Outside),
            (BASE - GUARD_BYTES, Zone::LowerGuard),
            (BASE - 1, Zone::LowerGuard),
            (BASE, Zone::Page(0)),
            (end - 1, Zone::Page(FULL_PAGES - 1)),
            (end, Zone::UpperGuard),
            (end + GUARD_BYTES - 1, Zone::UpperGuard),
            (end + GUARD_BYTES, Zone::Outside),
        ] {
            let va = VirtAddr::new(va);
            assert_eq!(window().zone(va), zone, "{va}");
            let recovers = matches!(zone, Zone::Page(_) | Zone::UpperGuard);
            assert_eq!(window().recovers(va), recovers, "{va}");
        }
    }

    #[test]
    fn a_guard_is_as_wide_as_a_16_bit_offset_reaches() {
        assert_eq!(GUARD_BYTES, i16::MAX as u64 + 1);
    }

    #[test]
    fn a_program_sees_its_own_address() {
        let va = VirtAddr::new(BASE + 0x1234);
        assert_eq!(window().to_user(va), VirtAddr::new(0x1_0000_1234));
    }

    #[test]
    fn a_range_must_start_on_a_page_and_end_inside() {
        let last = window().page(FULL_PAGES - 1);
        assert_eq!(window().range(last, 1), Some(PageRange::new(FULL_PAGES - 1, 1)));
        assert_eq!(window().range(last, 2), None);
        assert_eq!(window().range(last.offset(8), 1), None);
        assert_eq!(window().range(VirtAddr::new(BASE - PAGE_SIZE), 1), None);
    }

    #[test]
    fn a_program_s_window_must_not_cross_4_gib() {
        let of = |pages, user| Window::new(VirtAddr::new(BASE), pages, VirtAddr::new(user));
        assert!(of(2, 0x1_ffff_e000).is_some());
        assert_eq!(of(3, 0x1_ffff_e000), None);
        assert_eq!(of(FULL_PAGES, 0x1_0000_1000), None);
    }

    #[test]
    fn a_window_that_shares_a_level_2_table_is_refused() {
        assert_eq!(Window::new(VirtAddr::new(BASE + PAGE_SIZE), 16, VirtAddr::new(0)), None);
        assert_eq!(Window::new(VirtAddr::new(BASE + (1 << 29)), 16, VirtAddr::new(0)), None);
        assert_eq!(Window::new(VirtAddr::new(BASE), 16, VirtAddr::new(8)), None);
        assert_eq!(Window::new(VirtAddr::new(BASE), 0, VirtAddr::new(0)), None);
        assert_eq!(Window::new(VirtAddr::new(BASE), FULL_PAGES + 1, VirtAddr::new(0)), None);
    }
}
