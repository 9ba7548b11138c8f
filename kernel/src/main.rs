//! The Faultline kernel: boots, runs what its command line names, reports in KTAP, ends.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]
// An image without the lab leaves out who uses them.
#![cfg_attr(not(feature = "lab"), allow(dead_code, unused_imports, unused_macros))]

extern crate alloc;

mod arch;
mod bench;
mod deadlock;
mod debug;
mod dev;
mod fault;
mod interrupt;
mod lab;
mod log;
mod mem;
mod oops;
mod panic;
mod prog;
mod runner;
mod task;
mod test;

use arch::{access, alternative, atomic, exit, features, irq, mmu, smp, timer, trap};
use dev::{fdt, fwcfg, gic, psci, uart};
use mem::{divide, kmap};
use runner::CommandLine;

/// The first Rust function; `boot` states what holds here.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(dtb: u64, entry_el: u64) -> ! {
    psci::guess_conduit(entry_el);
    trap::unmask_serror();
    let tree =
        fdt::read(dtb).unwrap_or_else(|error| exit::bail_out(format_args!("device tree: {error}")));
    psci::set_conduit(tree.psci);
    uart::init(&tree.uart);
    let command_line = read_command_line(tree.bootargs);
    runner::open(&command_line);
    let features = features::init();
    atomic::use_lse(features.lse);
    // SAFETY: the final map and the other CPUs come below; a feature of the system is one of all CPUs.
    unsafe { alternative::decide(features.lse) };
    if let Err(rows) = access::init() {
        exit::bail_out(format_args!("fixup table: {rows} rows are too many"));
    }
    log!("# boot: {tree}");
    log!("# boot: el{entry_el} {features}");
    set_up_memory(&tree);
    timer::init();
    gic::init(&tree);
    fwcfg::init(tree.fw_cfg);
    timer::start_tick();
    irq::unmask();
    smp::start(&tree);
    runner::run(&command_line)
}

/// Understands the command line, or ends the run with what is wrong with it.
fn read_command_line(text: &'static str) -> CommandLine {
    let (line, outcome) = CommandLine::parse(text);
    if line.semihosting {
        exit::use_semihosting();
    }
    if let Err(error) = outcome {
        exit::bail_out(format_args!("command line: {error}"));
    }
    runner::inject::before_the_log(line.inject);
    line
}

/// Heap, frames, and the final map in place of the early one.
fn set_up_memory(tree: &fdt::Machine) {
    if let Err(divide::TooSmall { heap_bytes }) = divide::first(tree) {
        exit::bail_out(format_args!("memory: no run of {heap_bytes} bytes for the heap"));
    }
    if let Err(error) = kmap::build(tree) {
        exit::bail_out(format_args!("memory: kernel map: {error}"));
    }
    // SAFETY: the tree under the root maps the image with its sections' rights, all RAM and all
    // devices, at the addresses that the early map has them at.
    unsafe { mmu::switch(kmap::root().start(), features::system()) };
    divide::rest(tree);
}
