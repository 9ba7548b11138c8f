//! The oops: everything known about a fault that nothing settles, then the end of the run.
//!
//! Printed by the panic path's writer, which takes no lock: the fault may have come at any place.
//! The format is an interface: the host parses and symbolizes these lines.

use core::fmt;

use arena::addr::VirtAddr;
use arena::esr::Syndrome;
use arena::window::Zone;

use crate::arch::exit::{self, Code};
use crate::arch::percpu::CpuId;
use crate::arch::stack::{self, Backtrace};
use crate::arch::trap::TrapFrame;
use crate::lab::explore;
use crate::log::{self, Emergency};
use crate::mem::{arena as windows, events, held, kmap};
use crate::prog::running;
use crate::runner;

/// Return addresses printed at most.
const BACKTRACE_LINES: usize = 32;

/// Reports a synchronous exception and ends the run with exit code 3.
#[cold]
pub fn exception(frame: &TrapFrame, syndrome: &Syndrome) -> ! {
    let far = VirtAddr::new(frame.far);
    let place = Where(far);
    if syndrome.far_valid() {
        end(frame, format_args!("{syndrome} at {far}, {place}"))
    }
    end(frame, format_args!("{syndrome}"))
}

/// Reports any other end: an exception that must not come, a stack that overflowed.
///
/// The symbol is part of the interface to debuggers: a breakpoint on it stops at every oops, and
/// at none of the aborts that are recovered.
#[cold]
#[unsafe(export_name = "oops_entry")]
pub fn end(frame: &TrapFrame, reason: fmt::Arguments<'_>) -> ! {
    let out = log::emergency();
    if out.depth() == 1 {
        report(&out, frame, reason);
    }
    // Deeper: the report itself faulted, and one line is all that can be had.
    if out.depth() < 3 {
        out.line(format_args!("Bail out! oops: {reason}"));
    }
    exit::exit(Code::Crashed)
}

fn report(out: &Emergency, frame: &TrapFrame, reason: fmt::Arguments<'_>) {
    let cpu = CpuId::current();
    out.line(format_args!("# oops: cpu={cpu} reason={reason}"));
    out.line(format_args!("# oops: esr={:#010x} {}", frame.esr, Syndrome::decode(frame.esr)));
    out.line(format_args!(
        "# oops: far={:#018x} elr={:#018x} spsr={:#010x} sp={:#018x}",
        frame.far, frame.elr, frame.spsr, frame.sp
    ));
    for (row, registers) in frame.x.chunks(4).enumerate() {
        out.line(format_args!("# oops:{}", Registers { first: row * 4, registers }));
    }
    walk(out, VirtAddr::new(frame.far));
    for lock in held::names(cpu) {
        out.line(format_args!("# oops: lock {lock} owner=cpu{cpu}"));
    }
    if let Some(test) = runner::running() {
        out.line(format_args!("# oops: test {test}"));
    }
    running::for_each(|program| {
        out.line(format_args!("# oops: program {} #{}", program.name(), program.id()));
    });
    for event in events::last() {
        out.line(format_args!("# oops: event {event}"));
    }
    explore::tell_end("oops", &mut |line| out.line(format_args!("# {line}")));
    out.line(format_args!("# oops: bt {:#018x}", frame.elr));
    for pc in Backtrace::from_record(frame.x[29]).take(BACKTRACE_LINES) {
        out.line(format_args!("# oops: bt {pc:#018x}"));
    }
}

/// The walk of an address of the kernel's half; the tables may not exist yet early in boot.
fn walk(out: &Emergency, far: VirtAddr) {
    if !kmap::is_built() || far.get() < kmap::DIRECT_BASE {
        return;
    }
    let walk = kmap::walk_to(far);
    for level in 0..=walk.level {
        out.line(format_args!(
            "# oops: walk L{level}[{}]={:#018x}",
            far.table_index(level),
            walk.entries[level as usize].bits()
        ));
    }
}

/// A few general registers, `name=value`.
struct Registers<'a> {
    first: usize,
    registers: &'a [u64],
}

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registers
            .iter()
            .enumerate()
            .try_for_each(|(n, value)| write!(f, " x{}={value:#018x}", self.first + n))
    }
}

/// Says in words where an address lies.
struct Where(VirtAddr);

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let va = self.0;
        if let Some(windows::Place { room, zone }) = windows::place(va) {
            return match zone {
                Zone::LowerGuard => write!(f, "in the lower guard of arena {room}"),
                Zone::Page(index) => write!(f, "on page {index} of arena {room}"),
                Zone::UpperGuard => write!(f, "in the upper guard of arena {room}"),
                Zone::Outside => f.write_str("outside all arenas"),
            };
        }
        if let Some(cpu) = stack::guard_of(va.get()) {
            return write!(f, "in the stack guard of cpu{cpu}");
        }
        match va.get() {
            0..0x1_0000 => f.write_str("near null"),
            0x1_0000..0xffff_0000_0000_0000 => f.write_str("below the kernel's half"),
            kmap::DIRECT_BASE..0xffff_8000_0000_0000 if kmap::is_ram(kmap::to_phys(va)) => {
                f.write_str("in RAM")
            }
            _ => f.write_str("outside RAM, devices and arenas"),
        }
    }
}
