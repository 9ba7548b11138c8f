//! Recording a violation: in the abort handler, so without a lock, an allocation or any text.

use arena::addr::VirtAddr;
use arena::pte::Pte;
use arena::step::StepPoint;
use arena::stream::Facts;
use bpf::vm::Trace;

use crate::arch::percpu::CpuId;
use crate::arch::stack::Backtrace;
use crate::arch::trap::TrapFrame;
use crate::lab::engine::{self, hook};
use crate::prog::program::Program;
use crate::prog::running;

/// Puts the violation on the program's stderr stream.
///
/// `user` is the address as the program knows it; `before` and `after` are the slot's entries, for
/// the story. A full stream drops the record and counts it.
pub fn record(
    program: &Program,
    frame: &TrapFrame,
    write: bool,
    user: VirtAddr,
    before: Pte,
    after: Pte,
) {
    let facts = Facts {
        write,
        address: user.get(),
        pc: frame.elr,
        program: program.id(),
        cpu: CpuId::current().index() as u32,
        slot_before: before.bits(),
        slot_after: after.bits(),
    };
    engine::step(StepPoint::Report, program.id());
    hook::report();
    let calls = Backtrace::from_record(frame.x[29]);
    running::with_trace(|trace| {
        let insns = trace.into_iter().flat_map(Trace::frames);
        // Dropped and counted when the stream is full.
        program.stderr.record_violation(&facts, calls, insns);
    });
}
