//! Tasks at EL0: what they can do, in turn and side by side.

mod arena;
mod crash;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use ::arena::addr::{Frame, PAGE_SIZE, VirtAddr};
use ::arena::pte::Access;
use ::arena::stream::{Record, Stream};
use aarch64_cpu::registers::{Readable, TCR_EL1, TTBR0_EL1};

use crate::arch::smp::{self, CpuSet};
use crate::arch::{access, features};
use crate::mem::arena::KernelArena;
use crate::mem::{frame, kmap};
use crate::prog::kfunc;
use crate::runner::{Ctx, Failure, Outcome, claim, item};
use crate::task::asid::Asid;
use crate::task::schedule::Schedule;
use crate::task::space::{self, Space, SpaceError};
use crate::task::user::{self, Program};
use crate::task::{End, Ended, Task, TaskError};

item! {
    name: "a-task-writes-a-line-and-exits-with-a-code",
    suite: "task",
    about: "SVC write reaches stdout, SVC exit ends the task",
    run: hello,
}

item! {
    name: "registers-survive-preemption",
    suite: "task",
    about: "two tasks with patterns in all registers, SP, flags and TPIDR_EL0 keep them over ticks",
    run: registers,
}

item! {
    name: "tasks-see-their-own-memory-at-the-same-address",
    suite: "task",
    about: "three tasks in turn keep values of their own in a data page and on a stack",
    run: same_address,
}

item! {
    name: "a-new-task-finds-only-zeroes",
    suite: "task",
    about: "data and stack that another task has just left are empty",
    run: zeroes,
}

item! {
    name: "tasks-run-on-all-cpus-at-once",
    suite: "task",
    about: "each CPU has tasks of its own, at the same addresses, and all share an arena",
    min_cpus: 2,
    run: all_cpus,
}

item! {
    name: "a-task-s-map-is-code-data-and-stack",
    suite: "task",
    about: "code is read and execute for EL0 alone, the rest is not executable, and more is not there",
    run: regions,
}

item! {
    name: "no-lower-half-without-a-task",
    suite: "task",
    about: "after a task TTBR0 walks are off, the ASID is nobody's, and its addresses fault",
    run: lower_half,
}

item! {
    name: "asids-are-unique-and-come-back",
    suite: "task",
    about: "every ASID but 0 is given once, then none; a space without one leaves nothing behind",
    run: asids,
}

item! {
    name: "a-task-without-memory-leaves-nothing-behind",
    suite: "task",
    about: "with every number of frames that is too small a task is refused and its frames come back",
    run: no_memory,
}

/// Pages of the arenas here.
const PAGES: u32 = 16;

fn hello(_: &Ctx) -> Outcome {
    let ended = run(&[(&user::HELLO, 42), (&user::HELLO, u64::MAX)], None)?;
    let ends: Vec<_> = ended.iter().map(|task| task.end).collect();
    claim!(ends == [End::Exited(42), End::Exited(u64::MAX)], "{ends:?}");
    for task in &ended {
        let (stdout, stderr) = (text(&task.stdout), text(&task.stderr));
        claim!(stdout == b"hello from EL0", "stdout: {}", stdout.escape_ascii());
        claim!(stderr.is_empty(), "stderr: {}", stderr.escape_ascii());
    }
    Ok(())
}

fn registers(_: &Ctx) -> Outcome {
    let programs =
        [(&user::REGISTERS, 0x1111 << 40), (&user::REGISTERS, 0x2222 << 40), (&user::TELL, 1)];
    let ended = run(&programs, Some(&small_arena()?))?;
    claim!(ended[2].end == End::Exited(0), "the teller: {:?}", ended[2].end);
    for task in &ended[..2] {
        claim!(task.end == End::Exited(0), "{}: {:?}", task.name, task.end);
        claim!(task.preemptions > 0, "never preempted");
    }
    Ok(())
}

fn same_address(_: &Ctx) -> Outcome {
    for task in run(&[(&user::REMEMBER, 1), (&user::REMEMBER, 2), (&user::REMEMBER, 3)], None)? {
        claim!(task.end == End::Exited(0), "a task found another's value: {:?}", task.end);
    }
    Ok(())
}

fn zeroes(_: &Ctx) -> Outcome {
    // The frames that were freed last are given first.
    for at in [space::DATA.get(), space::STACK_TOP.get() - 16] {
        run(&[(&user::REMEMBER, 0x5ec2e7)], None)?;
        let ended = run(&[(&user::LOAD, at)], None)?;
        claim!(ended[0].end == End::Exited(0), "at {at:#x} it finds {:x?}", ended[0].end);
    }
    Ok(())
}

fn all_cpus(_: &Ctx) -> Outcome {
    let arena = small_arena()?;
    let (right, made) = (AtomicU32::new(0), AtomicU32::new(0));
    smp::on_each(CpuSet::online(), |cpu| {
        let id = cpu.index() as u64;
        let mix = [
            (&user::REGISTERS, id << 40),
            (&user::REMEMBER, 2 * id),
            (&user::REMEMBER, 2 * id + 1),
            (&user::STORE, arena_page(0).get()),
        ];
        let Ok(ended) = run(&mix, Some(&arena)) else { return };
        let good = ended.iter().filter(|task| task.end == End::Exited(0)).count();
        made.fetch_add(ended.len() as u32, Ordering::Relaxed);
        right.fetch_add(good as u32, Ordering::Relaxed);
    });
    let (right, made) = (right.into_inner(), made.into_inner());
    let wanted = 4 * CpuSet::online().len() as u32;
    claim!(made == wanted, "{made} of {wanted} tasks were made");
    claim!(right == wanted, "{right} of {wanted} tasks ended well");
    Ok(())
}

fn regions(_: &Ctx) -> Outcome {
    let space = Space::create(user::HELLO.code(), None).map_err(Failure::of("create"))?;
    let mut found = Vec::new();
    space.dump(|region| {
        found.push((region.start, region.bytes, region.attributes.map(|of| of.access)));
    });
    let (first, rest) = (found.first().copied(), found.get(1..).unwrap_or_default());
    let code = (space::CODE, PAGE_SIZE, Some(Access::UserReadExecute));
    claim!(first == Some(code), "first is {first:x?}");
    let writable = rest.iter().all(|(_, _, access)| *access == Some(Access::UserReadWrite));
    let bytes: u64 = rest.iter().map(|(_, bytes, _)| bytes).sum();
    claim!(writable && bytes == 5 * PAGE_SIZE, "the rest is {rest:x?}");
    let top = found.last().map(|(start, bytes, _)| start.offset(*bytes));
    claim!(top == Some(space::STACK_TOP), "the last ends at {top:?}");
    Ok(())
}

fn lower_half(_: &Ctx) -> Outcome {
    let space = Space::create(user::HELLO.code(), None).map_err(Failure::of("create"))?;
    let mut byte = [0];
    claim!(space.enter().read(space::CODE, &mut byte) == 1, "a task's code is not readable");
    claim!(byte[0] == user::HELLO.code()[0], "a task's code begins with {:#x}", byte[0]);
    claim!(TCR_EL1.get() & boot::TCR_EPD0 != 0, "TCR_EL1.EPD0 is clear");
    claim!(TTBR0_EL1.get() >> 48 == 0, "TTBR0_EL1 is {:#x}", TTBR0_EL1.get());
    let left = access::user_read_u8(space::CODE);
    claim!(left.is_err(), "a task's code is readable without the task: {left:x?}");
    Ok(())
}

fn asids(_: &Ctx) -> Outcome {
    let all = if features::system().asid16 { 1 << 16 } else { 1 << 8 };
    let taken: Vec<_> = core::iter::from_fn(Asid::take).take(all).collect();
    claim!(taken.len() == all - 1, "{} ASIDs of {all}", taken.len());
    // Ascending, since the lowest is always given first: so none is there twice.
    let unique = taken.iter().zip(1..).all(|(asid, n)| u32::from(asid.number()) == n);
    claim!(unique, "an ASID was given twice, or 0");
    let refused = Task::create("no-asid", &user::HELLO, 0, None).err();
    claim!(refused == Some(TaskError::Space(SpaceError::NoAsid)), "{refused:?}");
    drop(taken);
    let again = Asid::take().map(|asid| asid.number());
    claim!(again == Some(1), "the first ASID given after all came back is {again:?}");
    Ok(())
}

fn no_memory(_: &Ctx) -> Outcome {
    // The frames themselves hold the list.
    let mut head = 0;
    while let Some(frame) = frame::alloc() {
        kfunc::write_word(kmap::to_virt(frame.start()), head);
        head = frame.number();
    }
    let dry = frame::in_use();
    let (mut refused, mut leaked) = (0, 0);
    let made = loop {
        let outcome = Task::create("task", &user::HELLO, 0, None);
        if outcome.is_ok() || head == 0 {
            break outcome;
        }
        leaked += dry - refused - frame::in_use();
        refused += 1;
        head = give_back(head);
    };
    while head != 0 {
        head = give_back(head);
    }
    // A root, three tables, a page of code, one of data, four of stack.
    claim!(made.is_ok() && refused == 10, "made with {refused} frames: {:?}", made.err());
    claim!(leaked == 0, "{leaked} frames were lost");
    Ok(())
}

/// Frees a frame that holds the number of the next, and returns that.
fn give_back(number: u64) -> u64 {
    let frame = Frame::from_number(number);
    let next = kfunc::read_word(kmap::to_virt(frame.start()));
    frame::free(frame);
    next
}

/// Names of the tasks of one run: in this order the ends are returned.
const NAMES: [&str; 4] = ["1st", "2nd", "3rd", "4th"];

/// Runs up to four programs, each with its argument and as a task of its own, on this CPU, in turn.
/// The ends are in the order of the programs: which task ends first is up to the tick.
fn run(
    programs: &[(&Program, u64)],
    arena: Option<&Arc<KernelArena>>,
) -> Result<Vec<Ended>, Failure> {
    let mut schedule = Schedule::new();
    for ((program, argument), name) in programs.iter().zip(NAMES) {
        let task = Task::create(name, program, *argument, arena.cloned());
        let task = task.map_err(Failure::of("a task cannot be made"))?;
        schedule.add(task).map_err(Failure::of("a task cannot be scheduled"))?;
    }
    let mut ended = schedule.run();
    ended.sort_unstable_by_key(|task| task.name);
    Ok(ended)
}

/// An arena of [`PAGES`].
fn small_arena() -> Result<Arc<KernelArena>, Failure> {
    KernelArena::create(PAGES).map_err(Failure::of_debug("an arena cannot be made"))
}

/// Everything that a stream holds.
fn text(stream: &Stream) -> Vec<u8> {
    let mut all = Vec::new();
    for record in stream.reader().into_iter().flatten() {
        if let Record::Text(text) = record {
            all.extend_from_slice(text.as_bytes());
        }
    }
    all
}

/// The address of a page of every arena, as tasks see it.
const fn arena_page(n: u64) -> VirtAddr {
    VirtAddr::new(0x1_0000_0000 + n * PAGE_SIZE)
}
