//! Where the linker put the parts of the image. Physical addresses, page-aligned.

use core::ops::Range;

use arena::addr::PhysAddr;

use super::percpu::CpuId;

/// What a part of the image may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Read and execute.
    Text,
    /// Read.
    Rodata,
    /// Read and write.
    Data,
    /// Nothing: a hole below a stack.
    Guard,
}

// SAFETY: bounds that linker.ld defines; only their addresses are used.
unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __stacks_start: u8;
    static __image_end: u8;
    static __prog_text_start: u8;
    static __prog_text_end: u8;
}

/// The parts of the image in address order, without gaps: sections, then the stack slots of each
/// CPU with the guards below them.
pub fn image_sections() -> impl Iterator<Item = (Section, PhysAddr, PhysAddr)> {
    let [text, rodata, data, stacks] = [
        &raw const __text_start,
        &raw const __rodata_start,
        &raw const __data_start,
        &raw const __stacks_start,
    ]
    .map(phys);
    let fixed = [
        (Section::Text, text, rodata),
        (Section::Rodata, rodata, data),
        (Section::Data, data, stacks),
    ];
    fixed.into_iter().chain(stack_sections(stacks))
}

/// All of the image, stacks included.
pub fn image() -> Range<u64> {
    phys(&raw const __text_start).get()..phys(&raw const __image_end).get()
}

/// Virtual addresses of program text: functions that stand for programs.
pub fn program_text() -> Range<u64> {
    (&raw const __prog_text_start).addr() as u64..(&raw const __prog_text_end).addr() as u64
}

/// Virtual addresses of kernel text, program text included.
pub fn text() -> Range<u64> {
    (&raw const __text_start).addr() as u64..(&raw const __text_end).addr() as u64
}

fn stack_sections(start: PhysAddr) -> impl Iterator<Item = (Section, PhysAddr, PhysAddr)> {
    let stacks = CpuId::all().map(super::stack::bounds);
    let emergency = CpuId::all().map(super::stack::emergency_bounds);
    // Whatever lies between two stacks is a guard.
    let mut at = start;
    stacks.chain(emergency).flat_map(move |stack| {
        let (from, to) = (to_phys(stack.start), to_phys(stack.end));
        let guard = (Section::Guard, at, from);
        at = to;
        [guard, (Section::Data, from, to)]
    })
}

fn phys(symbol: *const u8) -> PhysAddr {
    to_phys(symbol.addr() as u64)
}

fn to_phys(va: u64) -> PhysAddr {
    PhysAddr::new(va - boot::DIRECT_BASE)
}
