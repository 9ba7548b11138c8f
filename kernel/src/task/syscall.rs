//! What a task may ask of the kernel: SVC #0, the number in x8, arguments in x0 and on, the result
//! in x0. All other registers keep their values.
//!
//! | x8 | call | arguments | result |
//! | --- | --- | --- | --- |
//! | 0 | exit | code | - |
//! | 1 | write | stream (1 stdout, 2 stderr), address, bytes | bytes taken, at most 256 |
//! | 2 | alloc | pages | address of the first page of the task's arena |
//! | 3 | free | address, pages | 0 |
//! | 4 | yield | - | 0 |
//!
//! A result from -4095 to -1 is an [`Error`].

use arena::addr::VirtAddr;
use arena::arena::{AllocError, FreeError};
use arena::stream::TEXT_MAX;

use super::{End, Next, Task};

/// Numbers of the calls.
pub mod number {
    /// Ends the task.
    pub const EXIT: u64 = 0;
    /// Writes to a stream.
    pub const WRITE: u64 = 1;
    /// Allocates arena pages.
    pub const ALLOC: u64 = 2;
    /// Frees arena pages.
    pub const FREE: u64 = 3;
    /// Lets the other tasks run.
    pub const YIELD: u64 = 4;
}

/// Why a call did nothing. The task goes on with the negative number in x0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub enum Error {
    /// No call has this number.
    Number = -1,
    /// An argument is none that the call takes.
    Argument = -2,
    /// The task could not read there itself.
    Address = -3,
    /// No memory, or the arena has no pages left.
    NoMemory = -4,
    /// The arena's lock was not given.
    Busy = -5,
}

impl Error {
    /// The error as a task finds it in x0.
    pub const fn code(self) -> u64 {
        self as i64 as u64
    }
}

impl Task {
    /// Serves the call that the task has stopped at.
    pub(super) fn call(&mut self) -> Next {
        let x = &self.context.frame().x;
        let [a, b, c] = [x[0], x[1], x[2]];
        let result = match x[8] {
            number::EXIT => return Next::End(End::Exited(a)),
            number::WRITE => self.write(a, VirtAddr::new(b), c),
            number::ALLOC => self.alloc(a),
            number::FREE => self.free(VirtAddr::new(a), b),
            number::YIELD => Ok(0),
            _ => Err(Error::Number),
        };
        let yields = x[8] == number::YIELD;
        self.context.set_result(result.unwrap_or_else(Error::code));
        if yields { Next::Yield } else { Next::Run }
    }

    fn write(&self, stream: u64, at: VirtAddr, bytes: u64) -> Result<u64, Error> {
        let stream = match stream {
            1 => &self.stdout,
            2 => &self.stderr,
            _ => return Err(Error::Argument),
        };
        let mut buffer = [0; TEXT_MAX];
        let text = &mut buffer[..bytes.min(TEXT_MAX as u64) as usize];
        self.read(at, text)?;
        // A full stream drops the text and counts it; the task is not told to wait.
        stream.put_text(text);
        Ok(text.len() as u64)
    }

    fn alloc(&self, pages: u64) -> Result<u64, Error> {
        let arena = self.arena.as_ref().ok_or(Error::NoMemory)?;
        let pages = u32::try_from(pages).map_err(|_| Error::Argument)?;
        match arena.alloc(None, pages) {
            Ok(first) => Ok(arena.window().to_user(first).get()),
            Err(AllocError::Lock(_)) => Err(Error::Busy),
            Err(AllocError::PageCount(_) | AllocError::Address(_)) => Err(Error::Argument),
            Err(_) => Err(Error::NoMemory),
        }
    }

    fn free(&self, at: VirtAddr, pages: u64) -> Result<u64, Error> {
        let arena = self.arena.as_ref().ok_or(Error::Argument)?;
        let window = arena.window();
        let pages = u32::try_from(pages).map_err(|_| Error::Argument)?;
        let offset = at.get().wrapping_sub(window.user_base().get());
        if offset >= window.bytes() {
            return Err(Error::Argument);
        }
        match arena.free_for_program(window.base().offset(offset), pages) {
            Ok(()) => Ok(0),
            Err(FreeError::Lock(_)) => Err(Error::Busy),
            Err(FreeError::Range(..)) => Err(Error::Argument),
        }
    }

    /// Reads what the task can read, with its rights; a page of the arena that it has not touched yet
    /// is mapped for it on the way, as its own touch would.
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), Error> {
        let (mut done, mut answered) = (0, None);
        loop {
            let from = VirtAddr::new(at.get().wrapping_add(done as u64));
            done += self.space.enter().read(from, &mut into[done..]);
            if done == into.len() {
                return Ok(());
            }
            let bad = VirtAddr::new(at.get().wrapping_add(done as u64));
            // Answered once and still out of reach: another task frees it again and again.
            if answered.replace(bad) == Some(bad) || self.touch(bad).is_err() {
                return Err(Error::Address);
            }
        }
    }
}
