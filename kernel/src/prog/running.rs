//! Which programs run on each CPU, innermost last: an explicit stack.
//!
//! The abort handler asks here whose fault it has. It does not unwind: a kfunc that has not pushed
//! a frame record yet is invisible to an unwinder at the exception boundary (scenario
//! `leaf-kfunc`), and visible here.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, compiler_fence};

use bpf::vm::Trace;

use crate::arch::percpu::{CpuLocal, MAX_CPUS};
use crate::debug::Table;
use crate::prog::program::{Program, Refused};

/// Programs that can be nested on one CPU: a tracepoint inside a tracepoint, an interrupt above. A run of
/// bytecode takes about 6 KiB of the 32 KiB of a stack, its stacks among it.
pub const DEPTH: usize = 4;

/// One CPU's stack. Only that CPU touches it, so every access is Relaxed; an interrupt's program
/// pushes above and pops before it returns. Debuggers read it: see [`crate::debug`].
#[repr(C)]
struct Stack {
    depth: AtomicUsize,
    programs: [AtomicPtr<Program>; DEPTH],
    /// Where each program stands, if it is bytecode.
    traces: [AtomicPtr<Trace>; DEPTH],
}

static STACKS: CpuLocal<Stack> = CpuLocal::new([const { Stack::new() }; MAX_CPUS]);

impl Stack {
    const fn new() -> Self {
        Self {
            depth: AtomicUsize::new(0),
            programs: [const { AtomicPtr::new(core::ptr::null_mut()) }; DEPTH],
            traces: [const { AtomicPtr::new(core::ptr::null_mut()) }; DEPTH],
        }
    }
}

/// The stacks of all CPUs, for [`crate::debug`].
pub const fn records() -> Table {
    Table::of_cpus(&STACKS)
}

/// The program is on this CPU's stack while this lives.
pub struct Entered<'p> {
    program: PhantomData<&'p Program>,
}

/// Pushes `program`, which stays borrowed while it is on the stack.
///
/// # Errors
/// [`Refused::Nested`] when it is on this CPU's stack already (its own kfunc fired its own
/// tracepoint), or the stack is full.
pub fn enter(program: &Program) -> Result<Entered<'_>, Refused> {
    let stack = STACKS.get();
    let depth = stack.depth.load(Ordering::Relaxed);
    let pointer = core::ptr::from_ref(program).cast_mut();
    let inside = stack.programs[..depth].iter().any(|p| p.load(Ordering::Relaxed) == pointer);
    let Some(entry) = stack.programs.get(depth).filter(|_| !inside) else {
        return Err(Refused::Nested);
    };
    // Depth first: an interrupt between the two stores pushes above this entry, not into it.
    stack.depth.store(depth + 1, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    entry.store(pointer, Ordering::Relaxed);
    Ok(Entered { program: PhantomData })
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let stack = STACKS.get();
        let top = stack.depth.load(Ordering::Relaxed) - 1;
        stack.programs[top].store(core::ptr::null_mut(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        stack.depth.store(top, Ordering::Relaxed);
    }
}

/// The program that runs on this CPU now is known to stand where the trace says, while this lives.
pub struct Traced<'t> {
    trace: PhantomData<&'t Trace>,
}

/// Says where the running program, which is bytecode, keeps its place.
pub fn trace(trace: &Trace) -> Traced<'_> {
    if let Some(entry) = top_trace() {
        entry.store(core::ptr::from_ref(trace).cast_mut(), Ordering::Relaxed);
    }
    Traced { trace: PhantomData }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        if let Some(entry) = top_trace() {
            entry.store(core::ptr::null_mut(), Ordering::Relaxed);
        }
    }
}

/// Calls `with` with the trace of the running program, or with `None` if it has none.
#[inline(always)]
pub fn with_trace<R>(with: impl FnOnce(Option<&Trace>) -> R) -> R {
    // SAFETY: as in `with_current`; `Traced` clears the entry before the trace can go.
    with(top_trace().and_then(|entry| unsafe { entry.load(Ordering::Relaxed).as_ref() }))
}

fn top_trace() -> Option<&'static AtomicPtr<Trace>> {
    let stack = STACKS.get();
    stack.traces.get(stack.depth.load(Ordering::Relaxed).checked_sub(1)?)
}

/// Calls `with` with the program that runs on this CPU now, if one does.
#[inline(always)]
pub fn with_current<R>(with: impl FnOnce(&Program) -> R) -> Option<R> {
    let stack = STACKS.get();
    let top = stack.depth.load(Ordering::Relaxed).checked_sub(1)?;
    let pointer = stack.programs[top].load(Ordering::Relaxed);
    // SAFETY: an entry below `depth` is null for the moment of its push or pop, or was stored by
    // `enter` on this CPU from a reference that stays borrowed until the entry is popped; `with`
    // returns before that, since the pop runs on this CPU too.
    unsafe { pointer.as_ref() }.map(with)
}

/// Programs on this CPU's stack.
pub fn depth() -> usize {
    STACKS.get().depth.load(Ordering::Relaxed)
}

/// Calls `each` with every program on this CPU's stack, outermost first.
pub fn for_each(mut each: impl FnMut(&Program)) {
    let stack = STACKS.get();
    let depth = stack.depth.load(Ordering::Relaxed);
    for entry in &stack.programs[..depth] {
        // SAFETY: as in `with_current`.
        if let Some(program) = unsafe { entry.load(Ordering::Relaxed).as_ref() } {
            each(program);
        }
    }
}
