//! Exceptions: decoded, fixed up, or the end.

use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::Ordering;

use arena::addr::VirtAddr;

use crate::arch::access;
use crate::arch::stack::Backtrace;
use crate::fault::COUNTS;
use crate::mem::{frame, kmap};
use crate::prog::kfunc;
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "probes-of-every-width-survive-an-unmapped-address",
    suite: "exception",
    about: "reads give an error and writes too, and each is one fixup",
    run: probes,
}

item! {
    name: "probes-of-every-width-read-what-is-there",
    suite: "exception",
    about: "reads and writes of 1, 2, 4 and 8 bytes of a mapped page",
    run: probes_of_memory,
}

item! {
    name: "a-backtrace-ends-whatever-the-records-hold",
    suite: "exception",
    about: "frame records that point to themselves, downwards or nowhere end the walk",
    run: bad_records,
}

item! {
    name: "oops-on-a-null-pointer",
    suite: "exception",
    about: "a read near null is decoded",
    expect: "oops: data abort, same EL; translation fault, level 0; read at 0x0000000000000008, near null",
    run: null_pointer,
}

item! {
    name: "oops-on-a-write-to-text",
    suite: "exception",
    about: "text cannot be written",
    // Level 2 where the image has text enough for a block.
    expect: "oops: data abort, same EL; permission fault, level *; write at 0xffff000040200000, in RAM",
    run: write_to_text,
}

item! {
    name: "oops-on-an-undefined-instruction",
    suite: "exception",
    about: "UDF is decoded",
    expect: "oops: unknown reason, such as an undefined instruction",
    run: undefined,
}

item! {
    name: "oops-on-a-breakpoint-instruction",
    suite: "exception",
    about: "BRK is decoded",
    expect: "oops: BRK 0x1",
    run: breakpoint,
}

item! {
    name: "oops-on-stack-overflow-comes-from-the-emergency-stack",
    suite: "exception",
    about: "endless recursion is reported, with a backtrace",
    expect: "oops: stack overflow",
    run: overflow,
}

item! {
    name: "panic-is-reported-with-its-place",
    suite: "exception",
    about: "a Rust panic ends the run with file and line",
    expect: "oops: panic: a deliberate panic",
    run: panics,
}

fn probes(_: &Ctx) -> Outcome {
    let hole = kmap::TEST_PAGE;
    let before = COUNTS.fixups.load(Ordering::Relaxed);
    let reads = [
        access::probe_read_u8(hole).is_err(),
        access::probe_read_u16(hole).is_err(),
        access::probe_read_u32(hole).is_err(),
        access::probe_read_u64(hole).is_err(),
    ];
    claim!(reads == [true; 4], "refused reads: {reads:?}");
    // SAFETY: nothing is mapped there.
    let writes = unsafe {
        [
            access::probe_write_u8(hole, 1).is_err(),
            access::probe_write_u16(hole, 1).is_err(),
            access::probe_write_u32(hole, 1).is_err(),
            access::probe_write_u64(hole, 1).is_err(),
        ]
    };
    claim!(writes == [true; 4], "refused writes: {writes:?}");
    let fixups = COUNTS.fixups.load(Ordering::Relaxed) - before;
    claim!(fixups == 8, "{fixups} fixups for 8 probes");
    Ok(())
}

fn probes_of_memory(_: &Ctx) -> Outcome {
    let frame = frame::alloc().ok_or_else(|| Failure::new("no frame".into()))?;
    let at = kmap::to_virt(frame.start());
    // SAFETY: the frame is this test's, and holds no Rust value.
    let written = unsafe {
        access::probe_write_u64(at, 0x8877_6655_4433_2211).is_ok()
            && access::probe_write_u32(at, 0xddcc_bbaa).is_ok()
            && access::probe_write_u16(at, 0x2fee).is_ok()
            && access::probe_write_u8(at, 0xff).is_ok()
    };
    claim!(written, "a write was refused");
    let word = access::probe_read_u64(at);
    claim!(word == Ok(0x8877_6655_ddcc_2fff), "the word is {word:x?}");
    claim!(access::probe_read_u32(at) == Ok(0xddcc_2fff), "four bytes differ");
    claim!(access::probe_read_u16(at) == Ok(0x2fff), "two bytes differ");
    claim!(access::probe_read_u8(at) == Ok(0xff), "one byte differs");
    frame::free(frame);
    Ok(())
}

fn bad_records(_: &Ctx) -> Outcome {
    let mut records = [[0_u64; 2]; 2];
    let [first, second] = [0, 1].map(|n| (&raw const records[n]).addr() as u64);
    for (what, next) in [
        ("itself", second),
        ("one below", first),
        ("nowhere", u64::MAX),
        ("half a word", second + 4),
    ] {
        records[1] = [next, 0x1234];
        let records = black_box(&records);
        let calls = Backtrace::from_record((&raw const records[1]).addr() as u64);
        let calls: alloc::vec::Vec<_> = calls.take(5).collect();
        claim!(calls == [0x1234], "a record that points to {what}: {calls:x?}");
    }
    for start in [0, 8, u64::MAX, kmap::TEST_PAGE.get(), second + 1] {
        let calls = Backtrace::from_record(start).count();
        claim!(calls == 0, "{calls} calls from {start:#x}");
    }
    Ok(())
}

fn survived(what: &str) -> Outcome {
    Err(Failure::new(alloc::format!("{what} did not end the run")))
}

fn null_pointer(_: &Ctx) -> Outcome {
    kfunc::read_word(VirtAddr::new(8));
    survived("a null pointer")
}

fn write_to_text(_: &Ctx) -> Outcome {
    kfunc::write_word(VirtAddr::new(crate::arch::layout::text().start), 0);
    survived("a write to text")
}

fn undefined(_: &Ctx) -> Outcome {
    // SAFETY: ends in an oops.
    unsafe { asm!("udf #0", options(nostack)) }
    survived("UDF")
}

fn breakpoint(_: &Ctx) -> Outcome {
    // SAFETY: ends in an oops.
    unsafe { asm!("brk #1", options(nostack)) }
    survived("BRK")
}

fn overflow(_: &Ctx) -> Outcome {
    deeper(0);
    survived("endless recursion")
}

#[expect(unconditional_recursion, reason = "the stack must overflow")]
fn deeper(depth: u64) -> u64 {
    let page = black_box([depth; 64]);
    deeper(depth + 1) + black_box(page[0])
}

fn panics(_: &Ctx) -> Outcome {
    panic!("a deliberate panic");
}
