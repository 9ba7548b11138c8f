//! A Rust panic: reported in the oops format, then the end.

use core::panic::PanicInfo;

use crate::arch::exit::{self, Code};
use crate::arch::percpu::CpuId;
use crate::arch::stack::Backtrace;
use crate::log;

/// Return addresses printed at most.
const BACKTRACE_LINES: usize = 32;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    report(info)
}

/// The symbol is part of the interface to debuggers: a breakpoint on it stops at every panic.
#[unsafe(export_name = "panic_entry")]
fn report(info: &PanicInfo<'_>) -> ! {
    let out = log::emergency();
    // A panic inside this function would come back here: say less each time, then nothing.
    if out.depth() > 2 {
        exit::exit(Code::Crashed);
    }
    if out.depth() == 1 {
        out.line(format_args!("# oops: cpu={} reason=panic", CpuId::current()));
        for address in Backtrace::here().take(BACKTRACE_LINES) {
            out.line(format_args!("# oops: bt {address:#018x}"));
        }
    }
    match info.location() {
        Some(at) => out.line(format_args!(
            "Bail out! panic: {} ({}:{})",
            info.message(),
            at.file(),
            at.line()
        )),
        None => out.line(format_args!("Bail out! panic: {}", info.message())),
    }
    exit::exit(Code::Crashed)
}
