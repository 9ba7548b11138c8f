//! Boxes and counted references whose lack of memory is an error value.
//!
//! `Box::new` and `Arc::new` end the kernel when the heap is empty, and their fallible forms are
//! not in stable Rust. So the room is sought first, by an allocation that may fail.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes that an `Arc` keeps beside its value: two counts, and padding for its alignment.
const COUNTS: usize = 64;

/// A box around `value`.
///
/// # Errors
/// `value` itself, when the heap is exhausted.
pub fn try_box<T>(value: T) -> Result<Box<T>, T> {
    if has_room(size_of::<T>() + align_of::<T>()) { Ok(Box::new(value)) } else { Err(value) }
}

/// A counted reference to `value`.
///
/// # Errors
/// `value` itself, when the heap is exhausted.
pub fn try_arc<T>(value: T) -> Result<Arc<T>, T> {
    let bytes = size_of::<T>() + align_of::<T>() + COUNTS;
    if has_room(bytes) { Ok(Arc::new(value)) } else { Err(value) }
}

/// Whether the heap has `bytes` in one piece now. Only another CPU that allocates in the same
/// moment can take them before the caller does.
fn has_room(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}
