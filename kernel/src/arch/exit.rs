//! The end of a run, one way or the other.
//!
//! PSCI SYSTEM_OFF makes QEMU exit 0 whatever happened; semihosting SYS_EXIT_EXTENDED carries a
//! code but is an undefined instruction unless QEMU was told to offer it. So the command line
//! chooses, and PSCI is the default.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{barrier, irq};
use crate::dev::psci;
use crate::log;

/// What the exit code says under semihosting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// All tests passed.
    Passed = 0,
    /// A test failed.
    Failed = 1,
    /// Bad command line or device tree.
    Usage = 2,
    /// Oops or panic.
    Crashed = 3,
}

/// Semihosting operation (Semihosting for AArch32 and AArch64, SYS_EXIT_EXTENDED).
const SYS_EXIT_EXTENDED: u64 = 0x20;
/// Its reason: the application ended; the second word is the code.
const APPLICATION_EXIT: u64 = 0x2_0026;

/// Semihosting, PSCI by the known conduit, PSCI by the other one.
const WAYS: u32 = 3;

static SEMIHOSTING: AtomicBool = AtomicBool::new(false);
/// Times that the end was begun.
static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// Ends by semihosting from now on. Only when the host said that it is there.
pub fn use_semihosting() {
    // Relaxed: set once, before other CPUs start.
    SEMIHOSTING.store(true, Ordering::Relaxed);
}

/// Ends the run. Takes no lock; the log is written synchronously, so nothing is lost.
///
/// The symbol is part of the interface to debuggers: every run comes through here in the end.
#[unsafe(export_name = "machine_exit")]
pub fn exit(code: Code) -> ! {
    irq::mask_all();
    // A way that is not there is an undefined instruction, whose report ends here again: each
    // entry begins with the next way. Relaxed: any CPU may end the run, by any of them.
    for way in ATTEMPTS.fetch_add(1, Ordering::Relaxed)..WAYS {
        match way {
            0 if SEMIHOSTING.load(Ordering::Relaxed) => semihosting_exit(code as u64),
            1 => psci::system_off(),
            2 => psci::system_off_otherwise(),
            _ => {}
        }
    }
    loop {
        barrier::wfi();
    }
}

/// Prints `Bail out! SENTENCE` and ends with [`Code::Usage`]. Before the KTAP header is out, the
/// header comes first. For errors of the environment; a kernel bug panics instead.
pub fn bail_out(sentence: fmt::Arguments<'_>) -> ! {
    log::emergency().line(format_args!("Bail out! {sentence}"));
    exit(Code::Usage)
}

fn semihosting_exit(code: u64) {
    let block = [APPLICATION_EXIT, code];
    // SAFETY: HLT 0xf000 is the semihosting trap; the block is valid for two words.
    unsafe {
        asm!("hlt #0xf000", inout("x0") SYS_EXIT_EXTENDED => _, in("x1") block.as_ptr());
    }
}
