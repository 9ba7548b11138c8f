//! `report-flood`: thousands of violations, from every CPU at once, and nobody reads them.
//!
//! Actors: a kernel function on each CPU, on behalf of one program, reads page after page of its own
//! part of the window; every read faults.
//! Right: the stream keeps what fits and counts the rest, so kept and dropped are all that came; the
//! fault path never waits for a reader; when the stream was read, it takes violations again.
//! Wrong: memory without bound, a drop that nobody counted, a CPU that never comes back.

use core::sync::atomic::Ordering;

use arena::addr::PAGE_SIZE;
use arena::stream::DEFAULT_BYTES;
use arena::window::FULL_PAGES;

use super::stage::{idle, violations};
use super::{new_arena, page, tear_down};
use crate::arch::smp::{self, CpuSet};
use crate::fault;
use crate::lab::race;
use crate::prog::kfunc;
use crate::runner::{Ctx, Outcome, claim, item};

item! {
    name: "report-flood",
    suite: "scenario",
    about: "thousands of violations and nobody reads them",
    run: report_flood,
}

/// Wild reads of each CPU: some of the first CPU's alone find no room.
const READS: u64 = 4096;

fn report_flood(ctx: &Ctx) -> Outcome {
    let arena = new_arena(ctx)?;
    let program = idle(&arena)?;
    // Beyond what may be allocated, so that nobody finds a page.
    let first = page(&arena, FULL_PAGES / 2);
    let cpus = CpuSet::online().len() as u64;
    let recovered = || fault::COUNTS.recovered.load(Ordering::Relaxed);
    let before = recovered();
    smp::on_each(CpuSet::online(), |cpu| {
        let own = first.offset(cpu.index() as u64 * READS * PAGE_SIZE);
        race::on_behalf_of(&program, || {
            for n in 0..READS {
                kfunc::read_word(own.offset(n * PAGE_SIZE));
            }
        });
    });
    let came = recovered() - before;
    claim!(came == cpus * READS, "{came} violations of {cpus} times {READS}");
    claim!(program.life().has_faulted(), "the program was not marked");

    let dropped = program.stderr.dropped();
    let capacity = program.stderr.capacity();
    let kept = violations(&program);
    claim!(capacity <= DEFAULT_BYTES, "the stream holds {capacity} bytes");
    claim!(!kept.is_empty() && dropped.records > 0, "{} kept, {dropped:?}", kept.len());
    let counted = kept.len() as u64 + dropped.records;
    claim!(counted == came, "{} kept and {} dropped of {came}", kept.len(), dropped.records);
    claim!(kept.iter().all(|v| v.program == program.id()), "a record is torn");
    for cpu in CpuSet::online().iter() {
        let of_cpu = kept.iter().filter(|v| v.cpu == cpu.index() as u32);
        claim!(of_cpu.is_sorted_by_key(|v| v.address), "records of CPU {cpu} are out of order");
    }

    // The reader made room.
    race::on_behalf_of(&program, || kfunc::read_word(page(&arena, 1)));
    let again = violations(&program).len();
    claim!(again == 1, "{again} records behind the flood");
    claim!(program.stderr.dropped() == dropped, "a record was dropped beside an empty stream");
    ctx.note(format_args!(
        "{came} violations: {} kept in {capacity} bytes, {} dropped and counted",
        kept.len(),
        dropped.records
    ));
    drop(kept);
    tear_down(ctx, program, arena)
}
