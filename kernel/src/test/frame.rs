//! Frames and heap: exhaustion is a value, and everything comes back.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arena::addr::{Frame, PAGE_SIZE};
use arena::frames::MAX_ORDER;
use arena::hw::Frames;

use crate::arch::smp::{self, CpuSet};
use crate::mem::arena::KernelArena;
use crate::mem::machine::Machine;
use crate::mem::{frame, kmap};
use crate::prog::kfunc;
use crate::prog::program::{Code, Program};
use crate::runner::{Ctx, Failure, Outcome, claim, item};

item! {
    name: "frames-are-distinct-and-all-come-back",
    suite: "frame",
    about: "a thousand frames are distinct, in RAM, and the count is exact afterwards",
    run: distinct,
}

item! {
    name: "frame-exhaustion-is-an-error-value",
    suite: "frame",
    about: "allocate until none is left, free all, allocate again",
    run: exhaustion,
}

item! {
    name: "frame-runs-are-whole-and-come-back",
    suite: "frame",
    about: "runs of 1 to 64 frames: aligned, apart, in RAM; what cannot be had is an error value",
    run: runs,
}

item! {
    name: "heap-exhaustion-is-an-error-value",
    suite: "frame",
    about: "a request that cannot be served is refused, and frames are still served after it",
    run: heap_exhaustion,
}

item! {
    name: "zeroing-reaches-every-word-of-a-frame",
    suite: "frame",
    about: "a frame full of ones reads zero from its first word to its last",
    run: zeroes,
}

item! {
    name: "frames-are-not-given-to-two-cpus",
    suite: "frame",
    about: "all CPUs mark, check and free frames at once",
    min_cpus: 2,
    run: two_cpus,
}

fn distinct(_: &Ctx) -> Outcome {
    let before = frame::in_use();
    let frames: Vec<_> = (0..1000).filter_map(|_| frame::alloc()).collect();
    let set: BTreeSet<_> = frames.iter().copied().collect();
    claim!(set.len() == 1000, "{} distinct frames of 1000", set.len());
    claim!(set.iter().all(|frame| kmap::is_ram(frame.start())), "a frame is not RAM");
    let now = frame::in_use();
    claim!(now == before + 1000, "{before} in use, then {now}");
    frames.into_iter().for_each(frame::free);
    Ok(())
}

fn runs(_: &Ctx) -> Outcome {
    let before = frame::in_use();
    let runs: Vec<_> =
        (0..=6).filter_map(|order| Some((frame::alloc_run(order)?, order))).collect();
    claim!(runs.len() == 7, "{} runs of 7", runs.len());
    let mut frames = BTreeSet::new();
    for (first, order) in &runs {
        let count = 1 << order;
        claim!(first.number().is_multiple_of(count), "{first:?} begins a run of {count}");
        frames.extend(first.number()..first.number() + count);
    }
    claim!(frames.len() == 127, "{} distinct frames of 127", frames.len());
    let in_ram = |&number: &u64| kmap::is_ram(Frame::from_number(number).start());
    claim!(frames.iter().all(in_ram), "a frame is not RAM");
    let now = frame::in_use();
    claim!(now == before + 127, "{before} in use, then {now}");
    runs.into_iter().for_each(|(first, order)| frame::free_run(first, order));
    let now = frame::in_use();
    claim!(now == before, "{before} in use before, {now} after");
    claim!(frame::alloc_run(MAX_ORDER + 1).is_none(), "a run above the largest was given");
    Ok(())
}

fn exhaustion(_: &Ctx) -> Outcome {
    // The frames themselves hold the list: a vector would grow while memory runs out.
    let mut head = 0;
    let mut count = 0_u64;
    while let Some(frame) = frame::alloc() {
        kfunc::write_word(kmap::to_virt(frame.start()), head);
        head = frame.number();
        count += 1;
    }
    while head != 0 {
        let frame = Frame::from_number(head);
        head = kfunc::read_word(kmap::to_virt(frame.start()));
        frame::free(frame);
    }
    let total = frame::total();
    claim!(count > total / 2, "only {count} of {total} frames were to be had");
    let again = frame::alloc().ok_or_else(|| Failure::new("nothing came back".into()))?;
    frame::free(again);
    Ok(())
}

/// Bytes of the blocks that fill the heap.
const BLOCK: usize = 256 * 1024;

/// Bytes of the blocks that fill what the others leave.
const SMALL: usize = 512;

/// Does nothing.
struct Nothing;

static NOTHING: Nothing = Nothing;

impl Code for Nothing {
    fn run(&self, _: &Program, _: u64) -> u64 {
        0
    }
}

fn heap_exhaustion(_: &Ctx) -> Outcome {
    let mut big: Vec<u8> = Vec::new();
    let bytes = (frame::total() * PAGE_SIZE) as usize;
    claim!(big.try_reserve_exact(bytes).is_err(), "{bytes} bytes were given");
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(4096);
    let mut frames = Vec::with_capacity(200);
    let mut small: Vec<Vec<u8>> = Vec::with_capacity(2 * BLOCK / SMALL);
    while held.len() < held.capacity() {
        let mut block = Vec::new();
        if block.try_reserve_exact(BLOCK).is_err() {
            break;
        }
        held.push(block);
    }
    claim!(held.len() < held.capacity(), "the heap never ran out");
    // With what is left, small blocks: then there is room for no control structure either.
    while small.len() < small.capacity() {
        let mut block = Vec::new();
        if block.try_reserve_exact(SMALL).is_err() {
            break;
        }
        small.push(block);
    }
    claim!(small.len() < small.capacity(), "the heap never ran out of small blocks");
    claim!(KernelArena::create(1).is_err(), "an arena was made without memory");
    claim!(Program::load("none", &NOTHING, None).is_err(), "a program was loaded without memory");
    // The frame allocator's books have their own reserve.
    frames.extend((0..200).filter_map(|_| frame::alloc()));
    let served = frames.len();
    frames.into_iter().for_each(frame::free);
    claim!(served == 200, "{served} of 200 frames with the heap exhausted");
    Ok(())
}

fn zeroes(_: &Ctx) -> Outcome {
    let frame = frame::alloc().ok_or_else(|| Failure::new("no frame".into()))?;
    let words = || (0..PAGE_SIZE).step_by(8).map(|at| kmap::to_virt(frame.start()).offset(at));
    words().for_each(|at| kfunc::write_word(at, u64::MAX));
    Machine.zero(frame);
    let dirty = words().filter(|&at| kfunc::read_word(at) != 0).count();
    frame::free(frame);
    claim!(dirty == 0, "{dirty} words are not zero");
    Ok(())
}

fn two_cpus(_: &Ctx) -> Outcome {
    let wrong = AtomicBool::new(false);
    smp::on_each(CpuSet::online(), |cpu| {
        let mark = 0xface_0000 + cpu.index() as u64;
        let mut frames = Vec::with_capacity(100);
        for _ in 0..50 {
            frames.extend((0..100).filter_map(|_| frame::alloc()));
            for frame in &frames {
                kfunc::write_word(kmap::to_virt(frame.start()), mark);
            }
            for frame in frames.drain(..) {
                if kfunc::read_word(kmap::to_virt(frame.start())) != mark {
                    wrong.store(true, Ordering::Relaxed);
                }
                frame::free(frame);
            }
        }
    });
    claim!(!wrong.load(Ordering::Relaxed), "two CPUs had the same frame");
    Ok(())
}
