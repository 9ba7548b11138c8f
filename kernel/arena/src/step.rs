//! Step points: the places where the lab may stop one CPU and let another run.
//!
//! `step!` stands before every access to memory that another CPU can see, and names what is
//! accessed: two steps on different objects can change places without anybody noticing, which is how
//! the lab tells equal interleavings from different ones. In an image without the `lab` feature it
//! expands to nothing, so the protocol functions are the same to the byte.

/// The kind of access that comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum StepPoint {
    /// An actor begins.
    Start,
    /// An actor has nothing more to do.
    End,
    /// A load of a descriptor.
    PteLoad,
    /// A compare-and-swap on a descriptor.
    PteCas,
    /// An exchange of a descriptor.
    PteSwap,
    /// A plain store to a descriptor. No sound protocol has one.
    PteStore,
    /// TLB maintenance with its barriers.
    Tlbi,
    /// The barriers that publish an install.
    Publish,
    /// A frame is about to be allocated.
    FrameAlloc,
    /// A frame is about to be filled with zeroes.
    FrameZero,
    /// A frame is about to be freed.
    FrameFree,
    /// A lock is about to be taken.
    LockAcquire,
    /// A lock is about to be released.
    LockRelease,
    /// A range is about to leave or return to the range tree.
    RangeCommit,
    /// A violation is about to be put on a stream.
    Report,
    /// The abort handler begins.
    AbortEntry,
    /// The abort handler is about to return.
    AbortExit,
    /// A program's or kfunc's access to an arena address.
    Access,
    /// A flag that ends something is about to be set or looked at.
    Flag,
    /// A reference count is about to fall.
    RefDrop,
    /// Pages are about to be noted for a later free, or such notes to be taken.
    Defer,
}

impl StepPoint {
    /// Whether the access changes its object.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::PteLoad | Self::Access | Self::Start | Self::Publish)
    }

    /// The name by which timelines know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
            Self::PteLoad => "pte-load",
            Self::PteCas => "pte-cas",
            Self::PteSwap => "pte-swap",
            Self::PteStore => "pte-store",
            Self::Tlbi => "tlbi",
            Self::Publish => "publish",
            Self::FrameAlloc => "frame-alloc",
            Self::FrameZero => "frame-zero",
            Self::FrameFree => "frame-free",
            Self::LockAcquire => "lock",
            Self::LockRelease => "unlock",
            Self::RangeCommit => "range",
            Self::Report => "report",
            Self::AbortEntry => "abort",
            Self::AbortExit => "eret",
            Self::Access => "access",
            Self::Flag => "flag",
            Self::RefDrop => "ref-drop",
            Self::Defer => "defer",
        }
    }
}

/// Stops at a step point in lab images; nothing elsewhere. `$object` is an address or a number that
/// is equal for equal objects.
macro_rules! step {
    ($hw:expr, $point:ident, $object:expr) => {
        #[cfg(feature = "lab")]
        $crate::hw::Hw::step($hw, $crate::step::StepPoint::$point, $object);
    };
}

pub(crate) use step;
