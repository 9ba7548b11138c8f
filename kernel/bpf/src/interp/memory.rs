//! The stacks of a run: bytes of its own, which no number that a program computes leads out of.

use crate::insn::Width;
use crate::vm::{CTX_BASE, FRAME_STRIDE, FRAMES, STACK_BASE, STACK_BYTES, Stack};

/// The stacks of all frames.
pub(super) struct FrameStacks {
    bytes: [[u8; STACK_BYTES as usize]; FRAMES],
}

/// r10 of a frame: one past its stack.
pub(super) const fn top_of(frame: usize) -> u64 {
    STACK_BASE + frame as u64 * FRAME_STRIDE + STACK_BYTES
}

/// Whether an address is meant for the stack or the context, by its upper bits: an arena pointer never
/// has those.
#[inline(always)]
pub(super) const fn is_private(address: u64) -> bool {
    let area = address >> 56;
    area == STACK_BASE >> 56 || area == CTX_BASE >> 56
}

impl FrameStacks {
    pub fn new() -> Self {
        Self { bytes: [[0; STACK_BYTES as usize]; FRAMES] }
    }

    /// `None` unless all bytes lie in one frame's stack.
    pub fn load(&self, address: u64, width: Width) -> Option<u64> {
        let bytes = self.slice(address, width.bytes() as usize)?;
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    pub fn store(&mut self, address: u64, width: Width, value: u64) -> Option<()> {
        let (frame, from) = place(address)?;
        let bytes = self.bytes[frame].get_mut(from..)?.get_mut(..width.bytes() as usize)?;
        bytes.copy_from_slice(&value.to_le_bytes()[..bytes.len()]);
        Some(())
    }

    fn slice(&self, address: u64, len: usize) -> Option<&[u8]> {
        let (frame, from) = place(address)?;
        self.bytes[frame].get(from..)?.get(..len)
    }
}

impl Stack for FrameStacks {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let Some(bytes) = self.slice(address, into.len()) else { return false };
        into.copy_from_slice(bytes);
        true
    }
}

/// The frame and the byte in it that an address means.
fn place(address: u64) -> Option<(usize, usize)> {
    let offset = address.checked_sub(STACK_BASE)?;
    let frame = usize::try_from(offset / FRAME_STRIDE).ok().filter(|&frame| frame < FRAMES)?;
    Some((frame, (offset % FRAME_STRIDE) as usize))
}
