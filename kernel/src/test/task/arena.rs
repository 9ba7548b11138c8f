//! Tasks that share an arena with the kernel and with each other.

use alloc::string::String;

use ::arena::arena::Recovery;

use super::{PAGES, arena_page, run, small_arena, text};
use crate::arch::access;
use crate::mem::arena::KernelArena;
use crate::runner::{Ctx, Failure, Outcome, claim, item};
use crate::task::End;
use crate::task::syscall::Error;
use crate::task::user;

item! {
    name: "a-task-that-never-calls-is-preempted",
    suite: "task",
    about: "a task turns until another has run, which it does only if the tick takes the CPU",
    run: never_calls,
}

item! {
    name: "a-task-that-only-calls-is-preempted",
    suite: "task",
    about: "ticks that come while the kernel serves a task end its turn as well",
    run: only_calls,
}

item! {
    name: "a-task-shares-arena-pages-with-the-kernel",
    suite: "task",
    about: "a touch allocates a zeroed page for both; each sees what the other stores",
    run: shares,
}

item! {
    name: "a-freed-arena-page-is-not-the-task-s-any-more",
    suite: "task",
    about: "after SVC free a touch gives a fresh page, or ends the task where the arena says so",
    run: use_after_free,
}

item! {
    name: "scratch-is-no-page-for-a-task",
    suite: "task",
    about: "a page that holds scratch ends the task that touches it",
    run: scratch,
}

item! {
    name: "write-reads-arena-pages-that-the-task-has-not-touched",
    suite: "task",
    about: "as the task's own load would, and not beyond the arena's end",
    run: untouched,
}

fn never_calls(_: &Ctx) -> Outcome {
    let ended = run(&[(&user::WAIT, 9), (&user::TELL, 9)], Some(&small_arena()?))?;
    claim!(ended.len() == 2, "{} tasks ended", ended.len());
    claim!(ended[1].end == End::Exited(0), "the teller found {:?}", ended[1].end);
    claim!(ended[0].end == End::Exited(9), "the waiter: {:?}", ended[0].end);
    claim!(ended[0].preemptions > 0, "the waiter was never preempted");
    Ok(())
}

fn only_calls(_: &Ctx) -> Outcome {
    let arena = KernelArena::create(512).map_err(Failure::of_debug("an arena cannot be made"))?;
    let ended = run(&[(&user::CALL_ON, 9), (&user::TELL, 9)], Some(&arena))?;
    claim!(ended.len() == 2, "{} tasks ended", ended.len());
    claim!(ended[0].end == End::Exited(0), "the caller: {:?}", ended[0].end);
    claim!(ended[0].preemptions > 0, "the caller was never preempted");
    Ok(())
}

fn shares(_: &Ctx) -> Outcome {
    let arena = small_arena()?;
    let first = arena.window().page(0);
    let before = run(&[(&user::TELL, 77)], Some(&arena))?;
    claim!(before[0].end == End::Exited(0), "a new page holds {:?}", before[0].end);
    let seen = access::probe_read_u64(first);
    claim!(seen == Ok(77), "the kernel sees {seen:?}");
    // SAFETY: the page is the arena's.
    let stored = unsafe { access::probe_write_u64(first, 78) };
    claim!(stored.is_ok(), "the kernel cannot store");
    let after = run(&[(&user::TELL, 79)], Some(&arena))?;
    claim!(after[0].end == End::Exited(78), "the next task sees {:?}", after[0].end);
    let stats = arena.stats().map_err(Failure::of_debug("stats"))?;
    claim!(stats.mapped_pages == 1, "{} pages are mapped", stats.mapped_pages);
    Ok(())
}

fn use_after_free(_: &Ctx) -> Outcome {
    let arena = small_arena()?;
    let fresh = run(&[(&user::USE_AFTER_FREE, 4)], Some(&arena))?;
    claim!(fresh[0].end == End::Exited(0), "a touch after the free: {:?}", fresh[0].end);
    let refused = run(&[(&user::USE_AFTER_FREE, u64::from(PAGES) + 1)], Some(&arena))?;
    let code = Error::Argument.code();
    claim!(refused[0].end == End::Exited(code), "too many pages: {:?}", refused[0].end);
    arena.set_fault_on_unallocated(true);
    let ended = run(&[(&user::USE_AFTER_FREE, 4)], Some(&arena))?;
    let said = String::from_utf8_lossy(&text(&ended[0].stderr)).into_owned();
    claim!(matches!(ended[0].end, End::Crashed(_)), "it reads what it freed: {:?}", ended[0].end);
    claim!(said.contains("(the page is not allocated)"), "{said}");
    Ok(())
}

fn scratch(_: &Ctx) -> Outcome {
    let arena = small_arena()?;
    // What a wild access of the kernel leaves behind.
    let left = arena.recover(arena.window().page(3));
    claim!(matches!(left, Recovery::Scratch { .. }), "{left:?}");
    let ended = run(&[(&user::LOAD, arena_page(3).get()), (&user::TELL, 0)], Some(&arena))?;
    let said = String::from_utf8_lossy(&text(&ended[0].stderr)).into_owned();
    claim!(matches!(ended[0].end, End::Crashed(_)), "it reads scratch: {:?}", ended[0].end);
    claim!(said.contains("left scratch there"), "{said}");
    claim!(ended[1].end == End::Exited(0), "the task beside it: {:?}", ended[1].end);
    Ok(())
}

fn untouched(_: &Ctx) -> Outcome {
    let arena = small_arena()?;
    let ended = run(&[(&user::WRITE_FROM, arena_page(5).get())], Some(&arena))?;
    claim!(ended[0].end == End::Exited(8), "{:?}", ended[0].end);
    let written = text(&ended[0].stdout);
    claim!(written == [0; 8], "a new page holds {}", written.escape_ascii());
    let end = arena_page(u64::from(PAGES)).get() - 4;
    let ended = run(&[(&user::WRITE_FROM, end)], Some(&arena))?;
    claim!(ended[0].end == End::Exited(Error::Address.code()), "{:?}", ended[0].end);
    Ok(())
}
