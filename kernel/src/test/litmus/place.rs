//! What the threads of a litmus test reach: one page of the kernel's map, the frames that can be behind
//! it, and a word.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::{Frame, VirtAddr};
use arena::pte::{Attributes, Pte, Stamp};
use litmus::test::{Entry, Page, Value};

use crate::arch::{barrier, tlb};
use crate::mem::{frame, kmap};
use crate::runner::Failure;

/// The page *a*.
pub const A: VirtAddr = kmap::TEST_PAGE;

/// What a tombstone is told by from an empty slot.
const STAMP: Stamp = match Stamp::new(1) {
    Some(stamp) => stamp,
    None => unreachable!(),
};

/// The pages in their order, and what is in their first word in the beginning.
const PAGES: [(Page, u64); 3] = [(Page::S, 5), (Page::P, 7), (Page::Q, 9)];

/// See above. Whoever drops it leaves *a* unmapped.
pub struct Place {
    frames: [Frame; 3],
    /// The word that CPUs tell each other something by.
    pub flag: AtomicU64,
}

impl Place {
    /// Takes the frames.
    ///
    /// # Errors
    /// There are none.
    pub fn new() -> Result<Self, Failure> {
        let mut taken = [None; 3];
        taken.fill_with(frame::alloc);
        let [Some(s), Some(p), Some(q)] = taken else {
            taken.into_iter().flatten().for_each(frame::free);
            return Err(Failure::new("no frame".into()));
        };
        Ok(Self { frames: [s, p, q], flag: AtomicU64::new(0) })
    }

    /// Puts everything back to where a sample begins: no CPU has a translation of *a*.
    pub fn reset(&self, slot: Entry) {
        self.unmap();
        for (page, word) in PAGES {
            self.word(page).store(word, Ordering::Relaxed);
        }
        self.flag.store(0, Ordering::Relaxed);
        // Release: the words are there before anybody reaches them through the entry.
        self.slot().store(self.bits(Value::Entry(slot)), Ordering::Release);
        barrier::dsb_ishst();
        barrier::isb();
    }

    /// The descriptor of *a*, as the bare word that the tests make of it.
    pub fn slot(&self) -> &'static AtomicU64 {
        let slot = core::ptr::from_ref(kmap::walk_to(A).slot);
        // SAFETY: a `PteSlot` is an `AtomicU64` and nothing else (`repr(transparent)`), and the table
        // that it lies in stays.
        unsafe { &*slot.cast::<AtomicU64>() }
    }

    /// The first word of a page, by the direct map.
    pub fn word(&self, page: Page) -> &AtomicU64 {
        let word = kmap::to_virt(self.frame(page).start()).get() as *mut u64;
        // SAFETY: the frame is this place's own while it lives, mapped as memory and aligned, and all
        // that reach its words do so by single loads and stores.
        unsafe { AtomicU64::from_ptr(word) }
    }

    /// How a value of a test looks on this machine.
    pub fn bits(&self, value: Value) -> u64 {
        let entry = match value {
            Value::Word(word) => return word,
            Value::Entry(entry) => entry,
        };
        let to = |page| Pte::page(self.frame(page), Attributes::KERNEL_DATA);
        let entry = match entry {
            Entry::Empty => Pte::EMPTY,
            Entry::Tombstone => Pte::tombstone(STAMP),
            Entry::To(page) => to(page),
            Entry::Clean(page) => to(page).writable_clean(),
        };
        entry.bits()
    }

    /// What a person calls `bits`.
    pub fn name(&self, bits: u64) -> String {
        let entries = PAGES.iter().flat_map(|(page, _)| [Entry::To(*page), Entry::Clean(*page)]);
        for entry in entries.chain([Entry::Tombstone]) {
            if self.bits(Value::Entry(entry)) == bits {
                return format!("{entry:?}");
            }
        }
        // Data are small numbers, and so is an empty entry.
        if bits < 1 << 12 { format!("{bits}") } else { format!("{bits:#x}") }
    }

    fn frame(&self, page: Page) -> Frame {
        self.frames[page as usize]
    }

    fn unmap(&self) {
        self.slot().store(Pte::EMPTY.bits(), Ordering::Relaxed);
        barrier::dsb_ishst();
        tlb::vaae1is(A);
        barrier::dsb_ish();
        barrier::isb();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unmap();
        self.frames.into_iter().for_each(frame::free);
    }
}
