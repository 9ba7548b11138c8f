//! What a task does wrong ends the task, or is an error to it, and touches nobody else.

use alloc::format;
use alloc::string::String;

use arena::addr::{PAGE_SIZE, VirtAddr};

use super::{run, text};
use crate::arch::layout;
use crate::mem::kmap;
use crate::runner::{Ctx, Failure, Outcome, claim, item};
use crate::task::space::{CODE, DATA, STACK_TOP};
use crate::task::syscall::Error;
use crate::task::user::{self, Program};
use crate::task::{End, Ended};

item! {
    name: "a-crash-ends-its-task-alone",
    suite: "task",
    about: "wild accesses and jumps are reported on the task's stderr; the task beside it goes on",
    run: crashes,
}

item! {
    name: "forbidden-instructions-end-their-task",
    suite: "task",
    about: "undefined, privileged, FP, timer, TLB and debug instructions and HVC at EL0",
    run: forbidden,
}

item! {
    name: "a-task-cannot-reach-kernel-memory",
    suite: "task",
    about: "loads, stores and jumps to the kernel's text, data, direct map and windows",
    run: kernel_memory,
}

item! {
    name: "an-unknown-call-is-an-error-to-its-caller",
    suite: "task",
    about: "numbers that no call has, arguments that none takes, an arena where there is none",
    run: unknown_calls,
}

item! {
    name: "a-bad-pointer-to-write-is-an-error-to-its-caller",
    suite: "task",
    about: "addresses that the task cannot read itself, the kernel's and unmapped ones among them",
    run: bad_pointers,
}

/// A page of the stack's hole, and what a task without an arena has at low addresses: nothing.
const HOLE: u64 = STACK_TOP.get() - 5 * PAGE_SIZE;

fn crashes(_: &Ctx) -> Outcome {
    let cases: [(&Program, u64, &str); 9] = [
        (&user::LOAD, 0, "translation fault, level 0; read at 0x0000000000000000"),
        (&user::LOAD, 0x1_0000_0000, "translation fault, level 0; read at 0x0000000100000000"),
        (&user::LOAD, DATA.get() + 1, "alignment fault; read"),
        (&user::LOAD, 1 << 60, "translation fault, level 0; read at 0x1000000000000000"),
        (&user::STORE, CODE.get(), "permission fault, level 3; write"),
        (&user::JUMP, 0, "instruction abort, lower EL; translation fault"),
        (&user::JUMP, DATA.get(), "instruction abort, lower EL; permission fault, level 3"),
        (&user::JUMP, CODE.get() + 2, "PC alignment fault"),
        (&user::RECURSE, 0, "translation fault, level 3; write"),
    ];
    for (program, argument, wanted) in cases {
        let said = crash_of(program, argument)?;
        claim!(said.contains(wanted), "{argument:#x}: {said}, wanted {wanted}");
    }
    Ok(())
}

fn forbidden(_: &Ctx) -> Outcome {
    let trapped = "trapped MSR, MRS";
    let cases = [
        ("udf", "unknown reason"),
        ("msr ttbr0_el1", "unknown reason"),
        ("mrs sctlr_el1", "unknown reason"),
        ("msr daifset", trapped),
        ("fmov", "trapped SIMD"),
        ("msr cntv_ctl_el0", trapped),
        ("tlbi", "unknown reason"),
        ("brk", "BRK 0x1"),
        ("hvc", "unknown reason"),
        ("svc #1", "SVC 0x1"),
    ];
    for ((what, wanted), argument) in cases.into_iter().zip(0..) {
        let said = crash_of(&user::FORBIDDEN, argument)?;
        claim!(said.contains(wanted), "{what}: {said}, wanted {wanted}");
    }
    Ok(())
}

fn kernel_memory(_: &Ctx) -> Outcome {
    static WORD: u64 = 0x5ec2_e7ec_5ec2_e7ec;
    let mapped = [
        layout::text().start,
        (&raw const WORD).addr() as u64,
        (&raw const boot::boot_stacks).addr() as u64 + boot::STACK_SIZE as u64,
        kmap::to_virt(kmap::root().start()).get(),
    ];
    for at in mapped {
        for (program, wanted) in [
            (&user::LOAD, "data abort, lower EL; permission fault"),
            (&user::STORE, "data abort, lower EL; permission fault"),
            (&user::JUMP, "instruction abort, lower EL; permission fault"),
        ] {
            let said = crash_of(program, at)?;
            claim!(said.contains(wanted), "{at:#x}: {said}, wanted {wanted}");
        }
    }
    let said = crash_of(&user::LOAD, kmap::TEST_PAGE.get())?;
    claim!(
        said.contains("data abort, lower EL; translation fault"),
        "a hole of the kernel's: {said}"
    );
    Ok(())
}

fn unknown_calls(_: &Ctx) -> Outcome {
    let cases = [
        (5, Error::Number.code()),
        (0x1_0000_0001, Error::Number.code()),
        (u64::MAX, Error::Number.code()),
        // The number is the first argument too, the others are 0: write no bytes to stdout, allocate
        // 2 pages and free those from 3 on, without an arena.
        (1, 0),
        (2, Error::NoMemory.code()),
        (3, Error::Argument.code()),
    ];
    for (number, wanted) in cases {
        let ended = beside_another(&user::CALL, number)?;
        claim!(ended.end == End::Exited(wanted), "call {number}: {:?}", ended.end);
    }
    Ok(())
}

fn bad_pointers(_: &Ctx) -> Outcome {
    let good = beside_another(&user::WRITE_FROM, CODE.get() + 1)?;
    claim!(good.end == End::Exited(8), "its own code: {:?}", good.end);
    let written = text(&good.stdout);
    claim!(written == user::WRITE_FROM.code()[1..9], "its own code: {}", written.escape_ascii());
    for at in [
        0,
        // Where the device tree has the UART, and the last bytes before nothing.
        0x0900_0000,
        boot::IMAGE_PHYS,
        HOLE,
        DATA.get() + PAGE_SIZE - 4,
        0x1_0000_0000,
        layout::text().start,
        kmap::DIRECT_BASE + 0x0900_0000,
        kmap::DIRECT_BASE - 4,
        kmap::TEST_PAGE.get(),
        u64::MAX - 3,
    ] {
        let ended = beside_another(&user::WRITE_FROM, at)?;
        claim!(ended.end == End::Exited(Error::Address.code()), "{at:#x}: {:?}", ended.end);
        let written = text(&ended.stdout);
        claim!(written.is_empty(), "{at:#x}: {} was written", written.escape_ascii());
    }
    Ok(())
}

/// What the kernel says about the crash of a task, which must be the task's end.
fn crash_of(program: &'static Program, argument: u64) -> Result<String, Failure> {
    let ended = beside_another(program, argument)?;
    let said = String::from_utf8_lossy(&text(&ended.stderr)).into_owned();
    let End::Crashed(crash) = ended.end else {
        return Err(Failure::new(format!("{argument:#x}: {:?}", ended.end)));
    };
    claim!(said.starts_with("ERROR: "), "stderr begins {said}");
    let own = |at: VirtAddr| (CODE.get()..DATA.get()).contains(&at.get());
    let jumped = crash.pc.get() == argument;
    claim!(own(crash.pc) || jumped, "pc is {}", crash.pc);
    Ok(said)
}

/// Runs a task beside one that keeps values in its memory, which must not notice.
fn beside_another(program: &'static Program, argument: u64) -> Result<Ended, Failure> {
    let mut ended = run(&[(&user::REMEMBER, 7), (program, argument)], None)?;
    let (second, first) = (ended.pop(), ended.pop());
    let (Some(ended), Some(other)) = (second, first) else {
        return Err(Failure::new("two tasks did not end as two".into()));
    };
    claim!(other.end == End::Exited(0), "the other task noticed: {:?}", other.end);
    Ok(ended)
}
