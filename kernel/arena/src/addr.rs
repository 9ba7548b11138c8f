//! Addresses and page counts as types: a virtual address, a physical address, a frame and a page
//! index never mix, and none of them is a bare integer outside this file.

use core::fmt;

/// log2 of the translation granule in bytes (4 KiB).
pub const PAGE_SHIFT: u32 = 12;
/// The translation granule in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// A virtual address, in bytes. Any 64-bit value: canonical form is not implied.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VirtAddr(u64);

/// A physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PhysAddr(u64);

/// A page-sized, page-aligned piece of physical memory, named by its address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Frame(PhysAddr);

/// A run of pages inside one arena: `start` is the index of the first page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRange {
    /// Index of the first page, counted from the arena's base.
    pub start: u32,
    /// Number of pages.
    pub pages: u32,
}

impl VirtAddr {
    /// Wraps an address.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as an integer.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The first byte of the page that holds this address.
    pub const fn page_base(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// This address plus `bytes`, wrapping at 2^64.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Index into the translation table of `level` (0 to 3; Arm ARM D8.2, 4 KiB granule).
    pub const fn table_index(self, level: u8) -> usize {
        ((self.0 >> (PAGE_SHIFT + 9 * (3 - level as u32))) & 511) as usize
    }

    /// Whether the address is a multiple of the page size.
    pub const fn is_page_aligned(self) -> bool {
        self.0 & (PAGE_SIZE - 1) == 0
    }
}

impl PhysAddr {
    /// Wraps an address.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as an integer.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This address plus `bytes`, wrapping at 2^64.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Frame {
    /// The frame that begins at `address`; `None` if it is not page-aligned.
    pub const fn from_start(address: PhysAddr) -> Option<Self> {
        if address.0 & (PAGE_SIZE - 1) == 0 { Some(Self(address)) } else { None }
    }

    /// The frame that holds `address`.
    pub const fn containing(address: PhysAddr) -> Self {
        Self(PhysAddr(address.0 & !(PAGE_SIZE - 1)))
    }

    /// Physical address of the first byte.
    pub const fn start(self) -> PhysAddr {
        self.0
    }

    /// Frame number: the address divided by the page size.
    pub const fn number(self) -> u64 {
        self.0.0 >> PAGE_SHIFT
    }

    /// The frame with this number.
    pub const fn from_number(number: u64) -> Self {
        Self(PhysAddr(number << PAGE_SHIFT))
    }
}

impl PageRange {
    /// A run of `pages` pages from page `start`.
    pub const fn new(start: u32, pages: u32) -> Self {
        Self { start, pages }
    }

    /// Index one past the last page.
    pub const fn end(self) -> u64 {
        self.start as u64 + self.pages as u64
    }
}

macro_rules! hex_display {
    ($($ty:ident: $value:expr),*) => {$(
        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value: fn(&Self) -> u64 = $value;
                write!(f, "{:#018x}", value(self))
            }
        }

        impl fmt::Debug for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($ty), "({})"), self)
            }
        }
    )*};
}

hex_display!(VirtAddr: |a| a.0, PhysAddr: |a| a.0, Frame: |f| f.start().get());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_indices_cut_nine_bits_a_level() {
        let va = VirtAddr::new((1 << 39) | (2 << 30) | (3 << 21) | (4 << 12) | 5);
        assert_eq!([0, 1, 2, 3].map(|level| va.table_index(level)), [1, 2, 3, 4]);
    }

    #[test]
    fn an_unaligned_address_starts_no_frame() {
        assert_eq!(Frame::from_start(PhysAddr::new(0x1001)), None);
        assert_eq!(Frame::containing(PhysAddr::new(0x1fff)).start().get(), 0x1000);
    }
}
