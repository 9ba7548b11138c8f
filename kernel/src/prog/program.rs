//! A program: code, at most one arena, two streams, a life.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::lifecycle::{Lifecycle, NotDown, NotUnloaded};
use arena::step::StepPoint;
use arena::stream::{DEFAULT_BYTES, NoMemory, Stream};
use bpf::vm::Stop;

use crate::debug::Listing;
use crate::lab::{engine, variant};
use crate::mem::arena::KernelArena;
use crate::mem::fallible::try_arc;
use crate::prog::blame::{Blame, First};
use crate::prog::running;

/// What a program does: bytecode, or a Rust function that stands for it in a scenario.
pub trait Code: Send + Sync {
    /// Runs once. `argument` is the context that the attach point hands over.
    fn run(&self, program: &Program, argument: u64) -> u64;
}

/// A loaded program.
pub struct Program {
    // First, and so dropped first: debuggers must not find what is no more.
    listing: Listing,
    name: Cow<'static, str>,
    id: u64,
    code: CodeOf,
    arena: Option<Arc<KernelArena>>,
    /// What the program prints.
    pub stdout: Stream,
    /// What the kernel reports about it.
    pub stderr: Stream,
    life: Lifecycle,
    missed: AtomicU64,
    blame: First,
}

/// Where a program's code is.
enum CodeOf {
    Static(&'static dyn Code),
    Owned(Box<dyn Code>),
}

/// Why a program did not run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It was aborted or torn down.
    NotRunnable,
    /// It runs on this CPU already, or too many programs do.
    Nested,
}

impl Program {
    /// Loads a program, with streams as large as Linux's.
    ///
    /// # Errors
    /// No memory for it or its streams.
    pub fn load(
        name: &'static str,
        code: &'static dyn Code,
        arena: Option<Arc<KernelArena>>,
    ) -> Result<Arc<Self>, NoMemory> {
        Self::load_with_streams(name, code, arena, DEFAULT_BYTES)
    }

    /// Loads a program whose two streams hold `stream_bytes` each.
    ///
    /// # Errors
    /// As [`Program::load`].
    pub fn load_with_streams(
        name: &'static str,
        code: &'static dyn Code,
        arena: Option<Arc<KernelArena>>,
        stream_bytes: usize,
    ) -> Result<Arc<Self>, NoMemory> {
        Self::make(Cow::Borrowed(name), CodeOf::Static(code), arena, stream_bytes)
    }

    /// Loads a program that owns its code and its name.
    ///
    /// # Errors
    /// As [`Program::load`].
    pub fn load_owned(
        name: &str,
        code: Box<dyn Code>,
        arena: Option<Arc<KernelArena>>,
        stream_bytes: usize,
    ) -> Result<Arc<Self>, NoMemory> {
        let mut owned = String::new();
        owned.try_reserve_exact(name.len()).map_err(|_| NoMemory)?;
        owned.push_str(name);
        Self::make(Cow::Owned(owned), CodeOf::Owned(code), arena, stream_bytes)
    }

    fn make(
        name: Cow<'static, str>,
        code: CodeOf,
        arena: Option<Arc<KernelArena>>,
        stream_bytes: usize,
    ) -> Result<Arc<Self>, NoMemory> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let program = try_arc(Self {
            listing: Listing::new(),
            name,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            code,
            arena,
            stdout: Stream::with_capacity(stream_bytes)?,
            stderr: Stream::with_capacity(stream_bytes)?,
            life: Lifecycle::new(),
            missed: AtomicU64::new(0),
            blame: First::new(),
        })
        .map_err(|_| NoMemory)?;
        program.listing.list(&program);
        Ok(program)
    }

    /// Runs the program on this CPU, in the caller's context: its locks, its IRQ mask. A program
    /// that committed a violation is aborted when it returns: it runs to its end, on scratch, but
    /// never again.
    ///
    /// # Errors
    /// [`Refused`]; the program did not run.
    pub fn run(&self, argument: u64) -> Result<u64, Refused> {
        self.inside(|| self.code.get().run(self, argument))
    }

    /// Does something on the program's behalf, as if it had called a kernel function: its wild accesses
    /// are the program's violations, and abort it behind.
    ///
    /// # Errors
    /// [`Refused`]; nothing was done.
    pub fn inside<R>(&self, act: impl FnOnce() -> R) -> Result<R, Refused> {
        let inside = self.life.enter().map_err(|_| Refused::NotRunnable)?;
        let outcome = match running::enter(self) {
            Ok(entered) => {
                let value = act();
                drop(entered);
                Ok(value)
            }
            Err(nested) => {
                // Relaxed: a counter.
                self.missed.fetch_add(1, Ordering::Relaxed);
                Err(nested)
            }
        };
        if self.life.has_faulted() {
            self.life.abort();
        }
        engine::step(StepPoint::RefDrop, self.id);
        drop(inside);
        outcome
    }

    /// Ends the program for good. Detach it first; nothing may be able to run it again.
    ///
    /// # Errors
    /// It is still inside on some CPU, or was torn down before.
    pub fn tear_down(&self) -> Result<(), NotDown> {
        // One that faulted is aborted; whichever it is, nobody enters after this.
        if self.life.unload() == Err(NotUnloaded::Faulted) {
            self.life.abort();
        }
        match self.life.try_teardown() {
            Err(NotDown::Busy { inside }) if variant::tears_down_hastily() => {
                engine::hook::torn_down(inside);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Ends the program because a run ended without `exit`: says why on stderr, and aborts it unless it
    /// was aborted already.
    pub fn stopped(&self, stop: Stop) {
        if stop != Stop::Aborted {
            // A writer never fails: what does not fit is counted by the stream.
            let _ = self.stderr.writer().write_fmt(format_args!("ERROR: {}: {stop}\n", self.name));
            self.condemn(Blame::Stopped(stop));
        }
    }

    /// Marks the program for an abort when it returns, and notes why. Any context.
    pub fn condemn(&self, blame: Blame) {
        self.blame.note(blame);
        self.life.mark_faulted();
    }

    /// Why it is at its end, if it was its own doing.
    pub fn blame(&self) -> Option<Blame> {
        self.blame.get()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, unique in this boot.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its arena.
    pub fn arena(&self) -> Option<&Arc<KernelArena>> {
        self.arena.as_ref()
    }

    /// Where it stands in its life.
    pub fn life(&self) -> &Lifecycle {
        &self.life
    }

    /// Runs that were skipped because it was running on that CPU already.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Where [`Program::missed`] is kept, for [`crate::debug`].
    pub fn missed_word(&self) -> &AtomicU64 {
        &self.missed
    }
}

impl CodeOf {
    fn get(&self) -> &dyn Code {
        match self {
            Self::Static(code) => *code,
            Self::Owned(code) => &**code,
        }
    }
}
