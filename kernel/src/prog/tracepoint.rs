//! Tracepoints: named places in the kernel where a program can be attached.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::prog::program::Program;

/// Fires when a frame has been allocated, under whatever locks the allocation's caller holds.
/// The argument is the frame's physical address. Answers to Linux `trace_mm_page_alloc()`.
pub static MM_PAGE_ALLOC: Tracepoint = Tracepoint::new("mm_page_alloc");

/// Fires when a frame is given back, before anybody else can have it, under whatever locks the caller
/// holds. The argument is the frame's physical address. Answers to Linux `trace_mm_page_free()`.
pub static MM_PAGE_FREE: Tracepoint = Tracepoint::new("mm_page_free");

/// Fires in the timer interrupt of each CPU. The argument is the tick's number on that CPU.
pub static SCHED_TICK: Tracepoint = Tracepoint::new("sched_tick");

/// The tracepoint called `name`.
pub fn find(name: &str) -> Option<&'static Tracepoint> {
    [&MM_PAGE_ALLOC, &MM_PAGE_FREE, &SCHED_TICK].into_iter().find(|point| point.name == name)
}

/// A place where one program can be attached.
pub struct Tracepoint {
    name: &'static str,
    program: AtomicPtr<Program>,
    firing: AtomicU32,
    hits: AtomicU64,
}

/// The tracepoint has a program already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occupied;

impl Tracepoint {
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            program: AtomicPtr::new(core::ptr::null_mut()),
            firing: AtomicU32::new(0),
            hits: AtomicU64::new(0),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Times that it ran a program.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Attaches `program` and holds a reference to it until it is detached.
    ///
    /// # Errors
    /// [`Occupied`].
    pub fn attach(&self, program: Arc<Program>) -> Result<(), Occupied> {
        let pointer = Arc::into_raw(program).cast_mut();
        // Release: the program is complete before a firing CPU can see it.
        let outcome = self.program.compare_exchange(
            core::ptr::null_mut(),
            pointer,
            Ordering::Release,
            Ordering::Relaxed,
        );
        outcome.map(drop).map_err(|_| {
            // SAFETY: `pointer` came from `into_raw` above and was given to nobody.
            drop(unsafe { Arc::from_raw(pointer) });
            Occupied
        })
    }

    /// Detaches the program, waits until no CPU is firing it, and returns it. Must not be called
    /// from a program, nor with a lock that one may wait for.
    pub fn detach(&self) -> Option<Arc<Program>> {
        // SeqCst here and in `fire`: a firing CPU either counts itself before our look at the
        // count, or sees the null pointer.
        let pointer = self.program.swap(core::ptr::null_mut(), Ordering::SeqCst);
        while self.firing.load(Ordering::SeqCst) != 0 {
            crate::lab::engine::pause();
        }
        // SAFETY: `attach` stored the pointer from `into_raw`; the swap took it out once, and no
        // CPU that read it before is still inside `fire`.
        (!pointer.is_null()).then(|| unsafe { Arc::from_raw(pointer) })
    }

    /// Whether a program is attached at this moment. One load; any context.
    #[inline(always)]
    pub fn is_attached(&self) -> bool {
        // Relaxed: only a hint; `with` looks again.
        !self.program.load(Ordering::Relaxed).is_null()
    }

    /// Runs the attached program, if any. One load where none is attached. Any context but the
    /// abort handler.
    #[inline]
    pub fn fire(&self, argument: u64) {
        if self.is_attached() {
            self.fire_attached(argument);
        }
    }

    #[cold]
    fn fire_attached(&self, argument: u64) {
        self.with(|program| {
            self.hits.fetch_add(1, Ordering::Relaxed);
            // A program that is refused (aborted, or nested in itself) is skipped.
            let _ = program.run(argument);
        });
    }

    /// Calls `with` with the attached program, if any, which stays attached meanwhile. As
    /// [`fire`](Self::fire).
    pub(super) fn with<R>(&self, with: impl FnOnce(&Program) -> R) -> Option<R> {
        // Spares every tick two atomics.
        if !self.is_attached() {
            return None;
        }
        self.firing.fetch_add(1, Ordering::SeqCst);
        let pointer = self.program.load(Ordering::SeqCst);
        // SAFETY: non-null means attached, and `detach` drops the reference only after it has
        // seen `firing` at zero, which our count prevents.
        let outcome = unsafe { pointer.as_ref() }.map(with);
        // Release: the run is over before `detach` goes on.
        self.firing.fetch_sub(1, Ordering::Release);
        outcome
    }
}
