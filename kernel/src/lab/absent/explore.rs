//! In place of explorations where the image has no lab.

use core::fmt;

/// Nothing: no schedule runs.
pub fn tell_end(_: &str, _: &mut dyn FnMut(fmt::Arguments<'_>)) {}
