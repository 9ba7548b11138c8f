//! One balanced order over the pool's nodes.
//!
//! An AVL tree: its depth is bounded whatever the order of calls (1.44 log2 n), where a treap's
//! is only likely, and the calls come from programs that may mean harm, under a lock with
//! interrupts off. Nothing recurses: where the way down has to be walked back, an array keeps it.

use core::marker::PhantomData;

use crate::addr::PageRange;

use super::pool::{Id, Links, Pool};

/// What a tree sorts by, and which of a node's links it owns. No two runs have equal keys.
pub(super) trait Order {
    const LINKS: usize;

    fn key(run: PageRange) -> u64;
}

/// By first page.
pub(super) struct ByStart;

/// By length, then by first page.
pub(super) struct BySize;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Left,
    Right,
}

/// Which subtree of a node is one level higher than the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lean {
    Left,
    Even,
    Right,
}

pub(super) struct Tree<O> {
    root: Id,
    order: PhantomData<O>,
    /// Calls of `insert` and `remove`: the claim that a common change needs neither is tested.
    #[cfg(test)]
    pub(super) changes: usize,
}

impl Order for ByStart {
    const LINKS: usize = 0;

    fn key(run: PageRange) -> u64 {
        run.start.into()
    }
}

impl Order for BySize {
    const LINKS: usize = 1;

    fn key(run: PageRange) -> u64 {
        u64::from(run.pages) << 32 | u64::from(run.start)
    }
}

impl BySize {
    /// The least key that a run of `pages` pages can have.
    pub(super) fn least(pages: u32) -> u64 {
        Self::key(PageRange::new(0, pages))
    }
}

impl Side {
    /// Where a key lies, seen from another.
    pub(super) fn towards(from: u64, to: u64) -> Self {
        if to > from { Self::Right } else { Self::Left }
    }

    fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

impl Lean {
    fn to(side: Side) -> Self {
        match side {
            Side::Left => Self::Left,
            Side::Right => Self::Right,
        }
    }
}

impl<O: Order> Tree<O> {
    pub(super) const fn new() -> Self {
        Self {
            root: Id::NIL,
            order: PhantomData,
            #[cfg(test)]
            changes: 0,
        }
    }

    /// The nodes on both sides of a gap in front of `key`: the last one below it and the first
    /// one not below it.
    pub(super) fn bracket(&self, pool: &Pool, key: u64) -> (Id, Id) {
        let (mut below, mut from) = (Id::NIL, Id::NIL);
        let mut at = self.root;
        while let Some(&run) = pool.get(at) {
            if O::key(run) < key {
                below = at;
                at = child::<O>(pool, at, Side::Right);
            } else {
                from = at;
                at = child::<O>(pool, at, Side::Left);
            }
        }
        (below, from)
    }

    /// The first node not below `key`.
    pub(super) fn ceiling(&self, pool: &Pool, key: u64) -> Id {
        self.bracket(pool, key).1
    }

    /// The last node not above `key`.
    pub(super) fn floor(&self, pool: &Pool, key: u64) -> Id {
        let mut found = Id::NIL;
        let mut at = self.root;
        while let Some(&run) = pool.get(at) {
            let side = if O::key(run) <= key { Side::Right } else { Side::Left };
            if side == Side::Right {
                found = at;
            }
            at = child::<O>(pool, at, side);
        }
        found
    }

    /// Hangs a node that is not in this tree.
    ///
    /// The subtree of the last node on the way that leans (the pivot) ends up as high as it was, so nothing
    /// above it changes, and every node below it stood even: no path has to be kept. (Knuth, volume 3,
    /// algorithm 6.2.3A.)
    pub(super) fn insert(&mut self, pool: &mut Pool, id: Id) {
        self.count_change();
        let key = O::key(pool[id]);
        let (mut place, mut above) = (None, None);
        let (mut pivot, mut at) = (self.root, self.root);
        while let Some(&run) = pool.get(at) {
            if pool.links(at, O::LINKS).lean != Lean::Even {
                (pivot, above) = (at, place);
            }
            let side = Side::towards(O::key(run), key);
            place = Some((at, side));
            at = child::<O>(pool, at, side);
        }
        *pool.links_mut(id, O::LINKS) = Links::LEAF;
        self.put(pool, place, id);
        if place.is_none() {
            return;
        }
        let side = Side::towards(O::key(pool[pivot]), key);
        let mut at = child::<O>(pool, pivot, side);
        while at != id {
            let side = Side::towards(O::key(pool[at]), key);
            pool.links_mut(at, O::LINKS).lean = Lean::to(side);
            at = child::<O>(pool, at, side);
        }
        let links = pool.links_mut(pivot, O::LINKS);
        match links.lean {
            Lean::Even => links.lean = Lean::to(side),
            lean if lean != Lean::to(side) => links.lean = Lean::Even,
            _ => {
                let top = rotate::<O>(pool, pivot, side);
                self.put(pool, above, top);
            }
        }
    }

    /// Takes a node of this tree out, its key as it was when it was hung.
    pub(super) fn remove(&mut self, pool: &mut Pool, id: Id) {
        self.count_change();
        let key = O::key(pool[id]);
        let mut path = Path::new();
        let mut at = self.root;
        while at != id {
            let side = Side::towards(O::key(pool[at]), key);
            path.push(at, side);
            at = child::<O>(pool, at, side);
        }
        let (left, right) = (child::<O>(pool, id, Side::Left), child::<O>(pool, id, Side::Right));
        if left == Id::NIL || right == Id::NIL {
            self.put(pool, path.last(), if left == Id::NIL { right } else { left });
        } else {
            self.replace_by_successor(pool, &mut path, id);
        }
        self.mend_after_loss(pool, &mut path);
    }

    /// Puts the next node by key at the place of `id`, which has two children. `path` leads to
    /// `id`; afterwards it leads to where the successor was, where a subtree lost height.
    fn replace_by_successor(&mut self, pool: &mut Pool, path: &mut Path, id: Id) {
        let place = path.len;
        let parent = path.last();
        path.push(id, Side::Right);
        let mut next = child::<O>(pool, id, Side::Right);
        loop {
            let left = child::<O>(pool, next, Side::Left);
            if left == Id::NIL {
                break;
            }
            path.push(next, Side::Left);
            next = left;
        }
        let orphan = child::<O>(pool, next, Side::Right);
        self.put(pool, path.last(), orphan);
        *pool.links_mut(next, O::LINKS) = *pool.links(id, O::LINKS);
        path.steps[place] = next.step(Side::Right);
        self.put(pool, parent, next);
    }

    /// The subtree that `path` leads to has lost one level.
    fn mend_after_loss(&mut self, pool: &mut Pool, path: &mut Path) {
        while let Some((at, side)) = path.pop() {
            let heavy = side.opposite();
            let links = pool.links_mut(at, O::LINKS);
            match links.lean {
                Lean::Even => {
                    links.lean = Lean::to(heavy);
                    return;
                }
                lean if lean == Lean::to(side) => links.lean = Lean::Even,
                _ => {
                    let top = rotate::<O>(pool, at, heavy);
                    self.put(pool, path.last(), top);
                    // Only above an even child does a rotation leave the height as it was.
                    if pool.links(top, O::LINKS).lean != Lean::Even {
                        return;
                    }
                }
            }
        }
    }

    fn count_change(&mut self) {
        #[cfg(test)]
        {
            self.changes += 1;
        }
    }

    /// Makes `id` what hangs at `place`, or the root.
    fn put(&mut self, pool: &mut Pool, place: Option<(Id, Side)>, id: Id) {
        match place {
            Some((parent, side)) => pool.links_mut(parent, O::LINKS).set_child(side, id),
            None => self.root = id,
        }
    }
}

impl<O: Order> Default for Tree<O> {
    fn default() -> Self {
        Self::new()
    }
}

/// The way down from the root: nodes passed, and where it turned.
struct Path {
    steps: [u32; Self::MOST],
    len: usize,
}

impl Path {
    /// An AVL tree of 2^31 nodes, the most that an [`Id`] can name, is at most 45 high.
    const MOST: usize = 46;

    fn new() -> Self {
        Self { steps: [0; Self::MOST], len: 0 }
    }

    fn push(&mut self, id: Id, side: Side) {
        self.steps[self.len] = id.step(side);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<(Id, Side)> {
        let last = self.last()?;
        self.len -= 1;
        Some(last)
    }

    fn last(&self) -> Option<(Id, Side)> {
        let last = self.steps[..self.len].last()?;
        Some(Id::from_step(*last))
    }
}

fn child<O: Order>(pool: &Pool, id: Id, side: Side) -> Id {
    pool.links(id, O::LINKS).child(side)
}

/// Mends `at`, which leans to `heavy` by one level too many. Returns the top in its place.
fn rotate<O: Order>(pool: &mut Pool, at: Id, heavy: Side) -> Id {
    let light = heavy.opposite();
    let top = child::<O>(pool, at, heavy);
    let lean = pool.links(top, O::LINKS).lean;
    if lean == Lean::to(light) {
        let inner = child::<O>(pool, top, light);
        lift::<O>(pool, top, light);
        pool.links_mut(at, O::LINKS).set_child(heavy, inner);
        lift::<O>(pool, at, heavy);
        let lean = pool.links(inner, O::LINKS).lean;
        let leans_to =
            |side| if lean == Lean::to(side) { Lean::to(side.opposite()) } else { Lean::Even };
        pool.links_mut(at, O::LINKS).lean = leans_to(heavy);
        pool.links_mut(top, O::LINKS).lean = leans_to(light);
        pool.links_mut(inner, O::LINKS).lean = Lean::Even;
        return inner;
    }
    lift::<O>(pool, at, heavy);
    let even = lean == Lean::Even;
    pool.links_mut(at, O::LINKS).lean = if even { Lean::to(heavy) } else { Lean::Even };
    pool.links_mut(top, O::LINKS).lean = if even { Lean::to(light) } else { Lean::Even };
    top
}

/// Makes the child of `at` on `side` its parent. Who leans where is the caller's to say.
fn lift<O: Order>(pool: &mut Pool, at: Id, side: Side) {
    let top = child::<O>(pool, at, side);
    let middle = child::<O>(pool, top, side.opposite());
    pool.links_mut(at, O::LINKS).set_child(side, middle);
    pool.links_mut(top, O::LINKS).set_child(side.opposite(), at);
}

#[cfg(test)]
impl<O: Order> Tree<O> {
    /// Checks the order, and that every node leans as it says; returns the number of nodes.
    pub(super) fn check(&self, pool: &Pool) -> usize {
        let mut last = None;
        check_below::<O>(pool, self.root, &mut last).0
    }
}

/// Number of nodes and height of the subtree at `at`; `last` is the key before it.
#[cfg(test)]
fn check_below<O: Order>(pool: &Pool, at: Id, last: &mut Option<u64>) -> (usize, usize) {
    if at == Id::NIL {
        return (0, 0);
    }
    let (nodes_left, left) = check_below::<O>(pool, child::<O>(pool, at, Side::Left), last);
    let key = O::key(pool[at]);
    assert!(last.is_none_or(|last| last < key), "{at:?} is out of order");
    *last = Some(key);
    let (nodes_right, right) = check_below::<O>(pool, child::<O>(pool, at, Side::Right), last);
    let lean = match right as isize - left as isize {
        -1 => Lean::Left,
        0 => Lean::Even,
        1 => Lean::Right,
        _ => panic!("{at:?} is out of balance: {left} and {right}"),
    };
    assert_eq!(pool.links(at, O::LINKS).lean, lean, "{at:?}");
    (nodes_left + 1 + nodes_right, left.max(right) + 1)
}
