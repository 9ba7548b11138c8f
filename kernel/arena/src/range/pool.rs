//! Nodes by index: storage for both trees of the range tree, without pointers.
//!
//! A node keeps its index and its place in memory for life. Chunks are one page each, so that
//! growth asks the heap for page-sized pieces only and copies no node; what is copied on growth is
//! the directory, 8 bytes a chunk.

use core::ops::{Index, IndexMut};

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::addr::PageRange;

use super::RangeError;
use super::tree::{Lean, Side};

/// Nodes a chunk: 128 of 32 bytes fill 4 KiB.
pub(super) const CHUNK: usize = 128;

/// Index of a node. [`Id::NIL`] is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Id(u32);

/// One tree's part of a node: an AVL node without parent or key.
#[derive(Clone, Copy)]
pub(super) struct Links {
    child: [Id; 2],
    pub(super) lean: Lean,
}

#[derive(Clone, Copy)]
struct Node {
    run: PageRange,
    links: [Links; 2],
}

const _: () = assert!(size_of::<Node>() <= 32, "a chunk is one page");

#[derive(Default)]
pub(super) struct Pool {
    chunks: Vec<Box<[Node; CHUNK]>>,
    /// Nodes handed out at least once: these are the indices below it.
    fresh: u32,
    /// First of the nodes given back, strung together by a child link.
    given_back: Id,
    live: usize,
    /// What [`Pool::capacity`] may not pass: stands in for an empty heap.
    #[cfg(test)]
    pub(super) limit: Option<usize>,
}

impl Id {
    pub(super) const NIL: Self = Self(u32::MAX);
    /// Indices fit 31 bits: a path step packs one with a side. Runs do not touch, so 2^31 of them
    /// are more than 2^32 pages can hold.
    const LIMIT: usize = 1 << 31;

    pub(super) fn step(self, side: Side) -> u32 {
        self.0 << 1 | side as u32
    }

    pub(super) fn from_step(step: u32) -> (Self, Side) {
        (Self(step >> 1), if step & 1 == 0 { Side::Left } else { Side::Right })
    }
}

impl Default for Id {
    fn default() -> Self {
        Self::NIL
    }
}

impl Links {
    pub(super) const LEAF: Self = Self { child: [Id::NIL; 2], lean: Lean::Even };

    pub(super) fn child(&self, side: Side) -> Id {
        self.child[side as usize]
    }

    pub(super) fn set_child(&mut self, side: Side, child: Id) {
        self.child[side as usize] = child;
    }
}

impl Pool {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            fresh: 0,
            given_back: Id::NIL,
            live: 0,
            #[cfg(test)]
            limit: None,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn reserve(&mut self, total: usize) -> Result<(), RangeError> {
        let missing = total.saturating_sub(self.capacity()).div_ceil(CHUNK);
        if missing == 0 {
            return Ok(());
        }
        if self.capacity() + missing * CHUNK > self.limit() {
            return Err(RangeError::NoMemory);
        }
        // All or none: kept, a part would leave a program that asked for too much with all the memory
        // that there was.
        let mut gained = Vec::new();
        gained.try_reserve_exact(missing).map_err(|_| RangeError::NoMemory)?;
        for _ in 0..missing {
            gained.push(chunk()?);
        }
        self.chunks.try_reserve(missing).map_err(|_| RangeError::NoMemory)?;
        self.chunks.append(&mut gained);
        Ok(())
    }

    /// A node holding `run`, in no tree.
    pub(super) fn take(&mut self, run: PageRange) -> Result<Id, RangeError> {
        let mut id = self.given_back;
        if id != Id::NIL {
            self.given_back = self.links(id, 0).child(Side::Left);
        } else {
            self.reserve(self.fresh as usize + 1)?;
            id = Id(self.fresh);
            self.fresh += 1;
        }
        self.live += 1;
        self[id] = run;
        Ok(id)
    }

    /// Takes back a node that is in no tree any more.
    pub(super) fn give(&mut self, id: Id) {
        let next = self.given_back;
        self.links_mut(id, 0).set_child(Side::Left, next);
        self.given_back = id;
        self.live -= 1;
    }

    /// The run of `id`; `None` for [`Id::NIL`].
    pub(super) fn get(&self, id: Id) -> Option<&PageRange> {
        let chunk = self.chunks.get(id.0 as usize / CHUNK)?;
        Some(&chunk[id.0 as usize % CHUNK].run)
    }

    /// The links of `id` in tree `tree`.
    pub(super) fn links(&self, id: Id, tree: usize) -> &Links {
        &self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK].links[tree]
    }

    pub(super) fn links_mut(&mut self, id: Id, tree: usize) -> &mut Links {
        &mut self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK].links[tree]
    }

    fn limit(&self) -> usize {
        #[cfg(test)]
        if let Some(limit) = self.limit {
            return limit;
        }
        Id::LIMIT
    }
}

impl Index<Id> for Pool {
    type Output = PageRange;

    fn index(&self, id: Id) -> &PageRange {
        &self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK].run
    }
}

impl IndexMut<Id> for Pool {
    fn index_mut(&mut self, id: Id) -> &mut PageRange {
        &mut self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK].run
    }
}

/// Nodes that nobody has taken yet.
fn chunk() -> Result<Box<[Node; CHUNK]>, RangeError> {
    let mut nodes = Vec::new();
    nodes.try_reserve_exact(CHUNK).map_err(|_| RangeError::NoMemory)?;
    nodes.resize(CHUNK, Node { run: PageRange::new(0, 0), links: [Links::LEAF; 2] });
    nodes.into_boxed_slice().try_into().map_err(|_| RangeError::NoMemory)
}
