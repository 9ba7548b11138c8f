//! Tasks at EL0: the kernel's first user space.
//!
//! A task is a program, an address space of its own, two streams, and perhaps an arena that it shares
//! with the kernel and with other tasks. It runs where a [`schedule::Schedule`] runs it, talks to the
//! kernel by SVC ([`syscall`]), and whatever it does wrong ends it and nothing else.

pub mod asid;
pub mod schedule;
pub mod space;
pub mod syscall;
pub mod user;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use arena::addr::VirtAddr;
use arena::arena::UserFault;
use arena::esr::{Class, Syndrome};
use arena::stream::Stream;

use crate::arch::percpu::PerCpu;
use crate::arch::user::{Context, Exit};
use crate::fault;
use crate::mem::arena::KernelArena;
use crate::mem::fallible::try_box;
use space::{Space, SpaceError};
use user::Program;

/// Bytes of each of a task's streams.
const STREAM_BYTES: usize = 4096;

/// A task that has not ended.
pub struct Task {
    name: &'static str,
    context: Context,
    // Dropped before the arena: its tables point to the arena's.
    space: Space,
    arena: Option<Arc<KernelArena>>,
    stdout: Stream,
    stderr: Stream,
    preemptions: u64,
}

/// Why a task could not be made. Nothing is left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskError {
    /// No memory for it.
    NoMemory,
    /// Its address space could not be made.
    Space(SpaceError),
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// By itself, with this code.
    Exited(u64),
    /// By an exception that nothing answers.
    Crashed(Crash),
}

/// What a task did that ended it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// The exception.
    pub syndrome: Syndrome,
    /// FAR_EL1; means something only if the syndrome says so.
    pub far: VirtAddr,
    /// The instruction.
    pub pc: VirtAddr,
    /// Why the arena did not answer, if the address is its.
    pub arena: Option<UserFault>,
}

/// What is left of a task: its address space and its ASID are gone.
pub struct Ended {
    /// Its name.
    pub name: &'static str,
    /// How it ended.
    pub end: End,
    /// What it wrote.
    pub stdout: Stream,
    /// What it wrote, and what the kernel says about its end.
    pub stderr: Stream,
    /// Times that a tick took the CPU from it.
    pub preemptions: u64,
}

/// What becomes of a task that has stopped.
enum Next {
    /// It goes on.
    Run,
    /// It goes on after the others.
    Yield,
    /// It does not.
    End(End),
}

impl Task {
    /// Makes a task that will run `program` with `argument` in x0, and in x1 the address of the arena,
    /// or 0. Takes the arena's lock.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn create(
        name: &'static str,
        program: &Program,
        argument: u64,
        arena: Option<Arc<KernelArena>>,
    ) -> Result<Box<Self>, TaskError> {
        let space = Space::create(program.code(), arena.as_deref()).map_err(TaskError::Space)?;
        let window = arena.as_ref().map_or(0, |arena| arena.window().user_base().get());
        let stream = || Stream::with_capacity(STREAM_BYTES).map_err(|_| TaskError::NoMemory);
        try_box(Self {
            name,
            context: Context::new(space::CODE, space::STACK_TOP, [argument, window]),
            space,
            arena,
            stdout: stream()?,
            stderr: stream()?,
            preemptions: 0,
        })
        .map_err(|_| TaskError::NoMemory)
    }

    /// Runs the task until its turn is over, by a tick or by its own wish: `None`; or until it ends.
    /// IRQs are on, and taken here: a tick that comes while the kernel serves the task counts too, or
    /// a task that does nothing but call could keep the CPU.
    fn take_turn(&mut self) -> Option<End> {
        let before = turns();
        loop {
            // The interrupt that stops the task is taken when the half is dropped.
            let exit = self.space.enter().run(&mut self.context);
            let next = match exit {
                Exit::Irq => Next::Run,
                Exit::Sync => self.serve(),
                // No task can cause them: the machine is broken.
                Exit::Fiq => fault::unexpected(self.context.frame(), "FIQ from EL0"),
                Exit::SError => fault::unexpected(self.context.frame(), "SError from EL0"),
            };
            match next {
                Next::Run if turns() == before => {}
                Next::Run => {
                    self.preemptions += 1;
                    return None;
                }
                Next::Yield => return None,
                Next::End(end) => return Some(end),
            }
        }
    }

    /// Answers an exception.
    fn serve(&mut self) -> Next {
        let frame = self.context.frame();
        let syndrome = Syndrome::decode(frame.esr);
        let (far, pc) = (VirtAddr::new(frame.far), VirtAddr::new(frame.elr));
        let arena = match syndrome.class {
            Class::Svc(0) => return self.call(),
            Class::DataAbort(_) if syndrome.is_translation_fault() && syndrome.far_valid() => {
                match self.touch(far) {
                    Ok(()) => return Next::Run,
                    Err(refusal) => refusal,
                }
            }
            _ => None,
        };
        Next::End(End::Crashed(Crash { syndrome, far, pc, arena }))
    }

    /// Has the arena map the page of `at` for the task.
    ///
    /// # Errors
    /// Why not; `None` if the address lies in no arena of the task's.
    fn touch(&self, at: VirtAddr) -> Result<(), Option<UserFault>> {
        let arena = self.arena.as_ref().ok_or(None)?;
        arena.user_fault(at).map_err(|refusal| match refusal {
            UserFault::Outside => None,
            other => Some(other),
        })
    }

    /// Takes the task down: its memory and ASID are free when this returns.
    fn bury(self, end: End) -> Ended {
        if let End::Crashed(crash) = &end {
            // A writer never fails: what does not fit is counted by the stream.
            let _ = write!(self.stderr.writer(), "ERROR: {crash}");
        }
        let Self { name, stdout, stderr, preemptions, .. } = self;
        Ended { name, end, stdout, stderr, preemptions }
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { syndrome, far, pc, arena } = self;
        write!(f, "{syndrome}")?;
        if syndrome.far_valid() {
            write!(f, " at {far}")?;
        }
        if let Some(refusal) = arena {
            write!(f, " ({refusal})")?;
        }
        write!(f, ", pc {pc}")
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("out of memory"),
            Self::Space(error) => error.fmt(f),
        }
    }
}

/// Turns that ticks have ended on this CPU so far.
fn turns() -> u64 {
    // Relaxed: this CPU's own interrupt writes it.
    PerCpu::this().turns.load(Ordering::Relaxed)
}
