//! Step points: the places where the lab may stop one CPU and let another run.
//!
//! `step!` stands before every access to memory that another CPU can see. In an image without the
//! `lab` feature it expands to nothing, so the protocol functions are the same to the byte.

/// The kind of access that comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepPoint {
    /// A load of a descriptor.
    PteLoad,
    /// A compare-and-swap on a descriptor.
    PteCas,
    /// An exchange of a descriptor.
    PteSwap,
    /// TLB maintenance with its barriers.
    Tlbi,
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
}

/// Stops at a step point in lab images; nothing elsewhere.
macro_rules! step {
    ($hw:expr, $point:ident) => {
        #[cfg(feature = "lab")]
        $crate::hw::Hw::step($hw, $crate::step::StepPoint::$point);
    };
}

pub(crate) use step;
