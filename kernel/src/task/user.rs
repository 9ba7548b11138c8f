//! The programs that tasks run: `user.S`, in rodata, copied into each task's own pages.

use core::arch::global_asm;

use super::space;
use super::syscall::number;

/// A program for EL0: position-independent code that begins with its first instruction.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    start: *const u8,
    end: *const u8,
}

// SAFETY: bounds of read-only memory.
unsafe impl Sync for Program {}

impl Program {
    /// Its instructions.
    pub fn code(&self) -> &'static [u8] {
        // SAFETY: both are labels around one program in `user.S`, which is never written.
        unsafe {
            core::slice::from_raw_parts(self.start, self.end.offset_from_unsigned(self.start))
        }
    }
}

macro_rules! program {
    ($($(#[$doc:meta])* $name:ident = $start:ident .. $end:ident;)*) => {
        // SAFETY: labels of `user.S`; only their addresses are used.
        unsafe extern "C" {
            $(static $start: u8; static $end: u8;)*
        }
        $(
            $(#[$doc])*
            pub static $name: Program = Program { start: &raw const $start, end: &raw const $end };
        )*
    };
}

program! {
    /// Writes a line and exits with its argument.
    HELLO = user_hello..user_hello_end;
    /// Turns until the first word of the arena is not 0, with a pattern made of its argument in all
    /// registers; exits with 0, or with the number of the first that lost it (31: SP, 32: TPIDR_EL0,
    /// 33: the flags).
    REGISTERS = user_registers..user_registers_end;
    /// Keeps its argument in its data page and on its stack, and yields between looks; exits with 0,
    /// or with what it found there.
    REMEMBER = user_remember..user_remember_end;
    /// Turns until the first word of the arena is its argument; never calls before.
    WAIT = user_wait..user_wait_end;
    /// Stores its argument in the first word of the arena and exits with what was there.
    TELL = user_tell..user_tell_end;
    /// Allocates 256 pages and frees them until the first word of the arena is its argument: nearly
    /// all of its time is spent in the kernel.
    CALL_ON = user_call_on..user_call_on_end;
    /// Loads a word from its argument and exits with it.
    LOAD = user_load..user_load_end;
    /// Loads a word from its argument and exits with what the virtual counter advanced meanwhile, which
    /// EL0 must be allowed to read.
    TIMED_LOAD = user_timed_load..user_timed_load_end;
    /// Stores to its argument and exits with 0.
    STORE = user_store..user_store_end;
    /// Jumps to its argument.
    JUMP = user_jump..user_jump_end;
    /// Executes what no task may: the argument chooses.
    FORBIDDEN = user_forbidden..user_forbidden_end;
    /// Pushes on its stack for ever.
    RECURSE = user_recurse..user_recurse_end;
    /// Makes the call with its argument's number and exits with the result.
    CALL = user_call..user_call_end;
    /// Writes 8 bytes from its argument and exits with the result.
    WRITE_FROM = user_write_from..user_write_from_end;
    /// Allocates as many pages as its argument says, writes to the first, frees them and loads from
    /// where they were; exits with the word, or with the error.
    USE_AFTER_FREE = user_use_after_free..user_use_after_free_end;
}

global_asm!(
    include_str!("user.S"),
    EXIT = const number::EXIT,
    WRITE = const number::WRITE,
    ALLOC = const number::ALLOC,
    FREE = const number::FREE,
    YIELD = const number::YIELD,
    DATA = const space::DATA.get(),
    STACK_TOP = const space::STACK_TOP.get(),
);
