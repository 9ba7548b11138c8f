//! One stage-1 descriptor as a value: its fields, its three states, and how a descriptor is made.
//!
//! A [`Pte`] is a copied word. Nothing here touches memory: live descriptors are reached through
//! [`PteSlot`](crate::slot::PteSlot) only, because hardware may set access and dirty bits under
//! any reference to them.

use core::fmt;

use tock_registers::LocalRegisterCopy;
use tock_registers::fields::FieldValue;

use crate::addr::{Frame, PhysAddr};
use field::DESCRIPTOR;

mod field {
    use tock_registers::register_bitfields;

    register_bitfields! {u64,
        /// Stage-1 descriptor fields, 4 KiB granule, 48-bit output addresses (Arm ARM D8.3).
        pub DESCRIPTOR [
            /// Set: the MMU uses the entry.
            VALID OFFSET(0) NUMBITS(1) [],
            /// Levels 0 to 2: 1 is a table, 0 a block. Level 3: must be 1.
            TABLE_OR_PAGE OFFSET(1) NUMBITS(1) [],
            /// Index into MAIR_EL1.
            ATTR_INDX OFFSET(2) NUMBITS(3) [
                Normal = 0,
                Device = 1
            ],
            /// AP\[2:1\]: access permission.
            AP OFFSET(6) NUMBITS(2) [
                KernelReadWrite = 0b00,
                UserReadWrite = 0b01,
                KernelReadOnly = 0b10,
                UserReadOnly = 0b11
            ],
            /// Shareability.
            SH OFFSET(8) NUMBITS(2) [
                NonShareable = 0b00,
                InnerShareable = 0b11
            ],
            /// Access flag: clear makes the first access fault.
            AF OFFSET(10) NUMBITS(1) [],
            /// Not global: the translation is tagged with the ASID.
            NG OFFSET(11) NUMBITS(1) [],
            /// Output address bits 47:12.
            OUTPUT_ADDRESS OFFSET(12) NUMBITS(36) [],
            /// Guarded page (FEAT_BTI).
            GP OFFSET(50) NUMBITS(1) [],
            /// Dirty bit modifier (FEAT_HAFDBS).
            DBM OFFSET(51) NUMBITS(1) [],
            /// Contiguous hint.
            CONTIGUOUS OFFSET(52) NUMBITS(1) [],
            /// Privileged execute-never.
            PXN OFFSET(53) NUMBITS(1) [],
            /// Unprivileged execute-never.
            UXN OFFSET(54) NUMBITS(1) []
        ]
    }
}

/// The value that MAIR_EL1 must hold for [`Memory`] to mean what it says: attribute 0 is Normal,
/// write-back, read- and write-allocate (0xff), attribute 1 is Device-nGnRE (0x04).
pub const MAIR_EL1: u64 = 0x04ff;

/// What kind of memory a mapping reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Device-nGnRE.
    Device,
    /// Normal, write-back, inner shareable.
    Normal,
}

/// What may be done through a mapping. Writable and executable at once cannot be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Kernel: read.
    KernelRead,
    /// Kernel: read and write.
    KernelReadWrite,
    /// Kernel: read and execute.
    KernelReadExecute,
    /// User and kernel: read.
    UserRead,
    /// User and kernel: read and write.
    UserReadWrite,
    /// User: read and execute; kernel: read.
    UserReadExecute,
}

/// Everything about a leaf but its output address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// Memory type.
    pub memory: Memory,
    /// Permission.
    pub access: Access,
}

/// The unique number of one clearing, carried by the tombstone that it leaves. Non-zero, below
/// 2^63. Without it a helper's late compare-and-swap could hit a later tombstone (ABA).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(u64);

/// A descriptor, copied out of a slot or about to be put there.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pte(u64);

/// What a slot's word means to the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Zero. No translation exists, and none is left in any TLB.
    Empty,
    /// Bit 0 set: the MMU uses it.
    Valid,
    /// Cleared, TLB maintenance not yet known to be complete.
    Tombstone(Stamp),
}

impl Attributes {
    /// Kernel data: normal memory, read and write, never executed.
    pub const KERNEL_DATA: Self = Self { memory: Memory::Normal, access: Access::KernelReadWrite };
    /// Device registers.
    pub const DEVICE: Self = Self { memory: Memory::Device, access: Access::KernelReadWrite };
}

impl Stamp {
    /// The stamp with this number; `None` for zero and from 2^63 on, which no tombstone can hold.
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 || number >> 63 != 0 { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Pte {
    /// The empty entry.
    pub const EMPTY: Self = Self(0);

    /// Wraps a raw descriptor word.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The raw descriptor word.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A level 3 page descriptor for `frame`.
    pub fn page(frame: Frame, attributes: Attributes) -> Self {
        Self::leaf(frame.start(), attributes, DESCRIPTOR::TABLE_OR_PAGE::SET)
    }

    /// A level 1 or 2 block descriptor; `start` must be aligned to the block's size.
    pub fn block(start: PhysAddr, attributes: Attributes) -> Self {
        Self::leaf(start, attributes, DESCRIPTOR::TABLE_OR_PAGE::CLEAR)
    }

    /// A table descriptor that points to the next-level table in `frame`, restricting nothing.
    pub fn table(frame: Frame) -> Self {
        Self::make(
            DESCRIPTOR::VALID::SET
                + DESCRIPTOR::TABLE_OR_PAGE::SET
                + DESCRIPTOR::OUTPUT_ADDRESS.val(frame.number()),
        )
    }

    /// The tombstone of the clearing numbered `stamp`.
    pub const fn tombstone(stamp: Stamp) -> Self {
        // Bit 0 stays clear: to the MMU a tombstone is an invalid entry like any other.
        Self(stamp.0 << 1)
    }

    /// What the word means to the protocol.
    pub const fn state(self) -> State {
        if self.0 == 0 {
            State::Empty
        } else if self.0 & 1 != 0 {
            State::Valid
        } else {
            State::Tombstone(Stamp(self.0 >> 1))
        }
    }

    /// Whether the MMU would use the entry.
    pub const fn is_valid(self) -> bool {
        self.0 & 1 != 0
    }

    /// The next-level table, if this entry of a level 0 to 2 table points to one.
    pub fn next_table(self) -> Option<Frame> {
        (self.0 & 0b11 == 0b11).then(|| self.output_frame())
    }

    /// The frame that a valid leaf maps; `None` for empty entries and tombstones.
    pub fn frame(self) -> Option<Frame> {
        self.is_valid().then(|| self.output_frame())
    }

    /// The same leaf, writable and clean: read-only until the hardware marks it dirty at the first write,
    /// if it manages dirty state (FEAT_HAFDBS, TCR_EL1.HD; Arm ARM D8.4.6).
    #[must_use]
    pub fn writable_clean(self) -> Self {
        let fields = self.fields();
        let read_only = match fields.read_as_enum(DESCRIPTOR::AP) {
            Some(DESCRIPTOR::AP::Value::UserReadWrite) => DESCRIPTOR::AP::UserReadOnly,
            _ => DESCRIPTOR::AP::KernelReadOnly,
        };
        let mut clean = fields;
        clean.modify(read_only + DESCRIPTOR::DBM::SET);
        Self(clean.get())
    }

    /// Whether the hardware has marked a [`writable_clean`](Self::writable_clean) leaf dirty.
    pub fn is_dirty(self) -> bool {
        let fields = self.fields();
        let writable = matches!(
            fields.read_as_enum(DESCRIPTOR::AP),
            Some(DESCRIPTOR::AP::Value::KernelReadWrite | DESCRIPTOR::AP::Value::UserReadWrite)
        );
        self.is_valid() && fields.is_set(DESCRIPTOR::DBM) && writable
    }

    /// The memory type and permission of a valid leaf; `None` where they are none of ours.
    pub fn attributes(self) -> Option<Attributes> {
        if !self.is_valid() {
            return None;
        }
        let fields = self.fields();
        let memory = match fields.read_as_enum(DESCRIPTOR::ATTR_INDX)? {
            DESCRIPTOR::ATTR_INDX::Value::Device => Memory::Device,
            DESCRIPTOR::ATTR_INDX::Value::Normal => Memory::Normal,
        };
        let (pxn, uxn) = (fields.is_set(DESCRIPTOR::PXN), fields.is_set(DESCRIPTOR::UXN));
        let access = match (fields.read_as_enum(DESCRIPTOR::AP)?, pxn, uxn) {
            (DESCRIPTOR::AP::Value::KernelReadWrite, true, true) => Access::KernelReadWrite,
            (DESCRIPTOR::AP::Value::KernelReadOnly, true, true) => Access::KernelRead,
            (DESCRIPTOR::AP::Value::KernelReadOnly, false, true) => Access::KernelReadExecute,
            (DESCRIPTOR::AP::Value::UserReadWrite, true, true) => Access::UserReadWrite,
            (DESCRIPTOR::AP::Value::UserReadOnly, true, true) => Access::UserRead,
            (DESCRIPTOR::AP::Value::UserReadOnly, true, false) => Access::UserReadExecute,
            _ => return None,
        };
        Some(Attributes { memory, access })
    }

    fn leaf(
        start: PhysAddr,
        attributes: Attributes,
        kind: FieldValue<u64, DESCRIPTOR::Register>,
    ) -> Self {
        let memory = match attributes.memory {
            Memory::Device => DESCRIPTOR::ATTR_INDX::Device + DESCRIPTOR::SH::NonShareable,
            Memory::Normal => DESCRIPTOR::ATTR_INDX::Normal + DESCRIPTOR::SH::InnerShareable,
        };
        let both_never = DESCRIPTOR::PXN::SET + DESCRIPTOR::UXN::SET;
        let access = match attributes.access {
            Access::KernelRead => DESCRIPTOR::AP::KernelReadOnly + both_never,
            Access::KernelReadWrite => DESCRIPTOR::AP::KernelReadWrite + both_never,
            Access::KernelReadExecute => DESCRIPTOR::AP::KernelReadOnly + DESCRIPTOR::UXN::SET,
            // User translations are tagged with an ASID; kernel ones serve every address space.
            Access::UserRead => DESCRIPTOR::AP::UserReadOnly + both_never + DESCRIPTOR::NG::SET,
            Access::UserReadWrite => {
                DESCRIPTOR::AP::UserReadWrite + both_never + DESCRIPTOR::NG::SET
            }
            Access::UserReadExecute => {
                DESCRIPTOR::AP::UserReadOnly + DESCRIPTOR::PXN::SET + DESCRIPTOR::NG::SET
            }
        };
        Self::make(
            DESCRIPTOR::VALID::SET
                + kind
                // Without the access flag the first touch would fault, and no handler here sets it.
                + DESCRIPTOR::AF::SET
                + memory
                + access
                + DESCRIPTOR::OUTPUT_ADDRESS.val(Frame::containing(start).number()),
        )
    }

    fn make(fields: FieldValue<u64, DESCRIPTOR::Register>) -> Self {
        Self(fields.value)
    }

    fn fields(self) -> LocalRegisterCopy<u64, DESCRIPTOR::Register> {
        LocalRegisterCopy::new(self.0)
    }

    /// The frame at its output address, if it is valid.
    pub(crate) fn output_frame(self) -> Frame {
        Frame::from_number(self.fields().read(DESCRIPTOR::OUTPUT_ADDRESS))
    }
}

impl fmt::Debug for Pte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state() {
            State::Empty => f.write_str("empty"),
            State::Valid => write!(f, "valid {:#018x}", self.0),
            State::Tombstone(stamp) => write!(f, "tombstone #{}", stamp.0),
        }
    }
}

impl fmt::Display for Pte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame::from_start(PhysAddr::new(0x4567_8000)).unwrap()
    }

    #[test]
    fn a_data_page_is_encoded_as_the_arm_arm_says() {
        // UXN, PXN, output address, AF, inner shareable, AP 00, AttrIndx 0, page, valid.
        assert_eq!(
            Pte::page(frame(), Attributes::KERNEL_DATA).bits(),
            (1 << 54) | (1 << 53) | 0x4567_8000 | (1 << 10) | (3 << 8) | 0b11
        );
    }

    #[test]
    fn user_pages_alone_are_tagged_with_an_asid() {
        let tagged = |access| {
            let page = Pte::page(frame(), Attributes { memory: Memory::Normal, access });
            page.bits() >> 11 & 1 == 1
        };
        for access in [Access::KernelRead, Access::KernelReadWrite, Access::KernelReadExecute] {
            assert!(!tagged(access), "{access:?}");
        }
        for access in [Access::UserRead, Access::UserReadWrite, Access::UserReadExecute] {
            assert!(tagged(access), "{access:?}");
        }
    }

    #[test]
    fn every_permission_survives_the_round_trip() {
        for memory in [Memory::Device, Memory::Normal] {
            for access in [
                Access::KernelRead,
                Access::KernelReadWrite,
                Access::KernelReadExecute,
                Access::UserRead,
                Access::UserReadWrite,
                Access::UserReadExecute,
            ] {
                let attributes = Attributes { memory, access };
                let page = Pte::page(frame(), attributes);
                assert_eq!(page.attributes(), Some(attributes));
                assert_eq!(page.frame(), Some(frame()));
            }
        }
    }

    #[test]
    fn a_clean_page_is_read_only_with_dbm_until_it_is_marked() {
        for (access, bits) in [(Access::KernelReadWrite, 0b10), (Access::UserReadWrite, 0b11)] {
            let page = Pte::page(frame(), Attributes { memory: Memory::Normal, access });
            let clean = page.writable_clean();
            assert_eq!((clean.bits() >> 51 & 1, clean.bits() >> 6 & 3), (1, bits));
            assert_eq!(clean.frame(), page.frame());
            // What the hardware does at the first write: AP[2] goes.
            let marked = Pte::from_bits(clean.bits() & !(1 << 7));
            assert_eq!([page, clean, marked].map(Pte::is_dirty), [false, false, true]);
        }
    }

    #[test]
    fn a_tombstone_is_invalid_to_the_mmu_and_keeps_its_stamp() {
        for number in [1, 2, 0x7fff_ffff_ffff_ffff] {
            let stamp = Stamp::new(number).unwrap();
            let tombstone = Pte::tombstone(stamp);
            assert!(!tombstone.is_valid());
            assert_eq!(tombstone.state(), State::Tombstone(stamp));
            assert_eq!(tombstone.frame(), None);
        }
    }

    #[test]
    fn no_stamp_makes_an_empty_or_valid_word() {
        assert_eq!(Stamp::new(0), None);
        assert_eq!(Stamp::new(1 << 63), None);
    }

    #[test]
    fn a_block_is_not_a_table() {
        let block = Pte::block(PhysAddr::new(0x4000_0000), Attributes::KERNEL_DATA);
        assert_eq!(block.next_table(), None);
        assert_eq!(Pte::table(frame()).next_table(), Some(frame()));
    }
}
