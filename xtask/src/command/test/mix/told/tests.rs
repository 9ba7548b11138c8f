use std::fmt::Write;

use mix::hand::{Deed, Hand};
use mix::note::Came;
use mix::reply::Slot;

use super::*;

const ASKED: Asked = Asked { seed: 5, count: 32_000 };

/// The lines of a guest that does what the model says; in the last phase one CPU comes after the other.
fn sound(asked: Asked) -> Vec<String> {
    let mut lines = Vec::new();
    for phase in FORESEEN {
        let models: Vec<_> =
            (0..CPUS).map(|cpu| told_batches(asked, phase, cpu, &mut lines)).collect();
        for (cpu, model) in models.iter().enumerate() {
            let alone = Ground::of(phase, cpu).alone;
            let arena = if alone { &models[cpu..=cpu] } else { &models[..] };
            lines.push(format!("{phase} {cpu} last: {}", model.last()));
            lines.push(format!("{phase} {cpu} books: {}", sum(arena.iter())));
        }
    }
    anywhere(asked, &mut lines);
    lines
}

fn told_batches(asked: Asked, phase: Phase, cpu: usize, lines: &mut Vec<String>) -> Model {
    let mut run = Run::new(asked, phase, cpu);
    for number in 0..run.total.div_ceil(BATCH) {
        let mut digest = Digest::default();
        run.batch(number, |_, _, reply| digest.reply(reply));
        lines.push(format!("{phase} {cpu} batch {number}: {digest}"));
    }
    run.model
}

fn anywhere(asked: Asked, lines: &mut Vec<String>) {
    let mut free = vec![true; mix::hand::PAGES as usize];
    let mut ticket = 0;
    for cpu in 0..CPUS {
        let (mut hand, mut text, mut last) = (Hand::new(cpu, asked.seed), String::new(), 0);
        for _ in 0..Phase::Anywhere.each(asked.count) {
            let note = follow(&mut hand, &mut free, ticket);
            note.write(&mut text, last).unwrap();
            text.write_char(' ').unwrap();
            (last, ticket) = (note.after, ticket + 2);
        }
        lines.push(format!("anywhere {cpu} from 0: {}", text.trim_end()));
        lines.push(format!("anywhere {cpu} lost: 0"));
    }
    let mut digest = Digest::default();
    free.iter().for_each(|free| digest.page(mix::judge::held_slot(!free), 0, Slot::Empty));
    let left = free.iter().filter(|free| **free).count();
    lines.push(format!("anywhere books: {} {left} {digest}", free.len() - left));
}

fn follow(hand: &mut Hand, free: &mut [bool], ticket: u64) -> Note {
    let mut came = Came::Done;
    match hand.draw() {
        Deed::Alloc(pages) => {
            let mut runs = free.windows(pages as usize);
            came =
                runs.position(|run| run.iter().all(|free| *free)).map_or(Came::NoRange, |first| {
                    free[first..first + pages as usize].fill(false);
                    hand.took(first as u32, pages);
                    Came::At(first as u32)
                });
        }
        Deed::Free(run, _) => free[run.first as usize..][..run.pages as usize].fill(true),
        Deed::Look(_) | Deed::Wild(..) => {}
    }
    Note { before: ticket, after: ticket + 1, came }
}

fn told(lines: &[String]) -> Told {
    let mut told = Told::default();
    lines.iter().for_each(|line| told.line(line).unwrap_or_else(|error| panic!("{line}: {error}")));
    told
}

/// What is found where every line that begins with `head` is made `into`, or left out.
fn doctored(head: &str, into: Option<&str>) -> Finding {
    let mut lines = sound(ASKED);
    let before = lines.len();
    lines.retain(|line| into.is_some() || !line.starts_with(head));
    for line in &mut lines {
        if line.starts_with(head) {
            *line = into.unwrap_or_default().into();
        }
    }
    assert!(lines.len() < before || into.is_some(), "no line begins with {head}");
    told(&lines).compare(ASKED)
}

#[test]
fn a_guest_that_does_what_the_model_says_agrees() {
    let Finding::Agreed(what) = told(&sound(ASKED)).compare(ASKED) else { panic!("not agreed") };
    assert!(
        what.starts_with("24000 replies are the model's; some order explains 8000 notes"),
        "{what}"
    );
}

#[test]
fn a_batch_that_differs_or_is_not_told_is_named() {
    let differs = |phase, cpu, number| Finding::Differs(Batch { phase, cpu, number });
    let of = |head, into| doctored(head, into);
    assert_eq!(of("shared 2 batch 0", Some("shared 2 batch 0: 0")), differs(Phase::Shared, 2, 0));
    assert_eq!(of("own 3 batch 1", Some("own 3 batch 1: 0")), differs(Phase::Own, 3, 1));
    assert_eq!(of("own 0 batch 1", None), differs(Phase::Own, 0, 1));
    assert_eq!(told(&[]).compare(ASKED), differs(Phase::Shared, 0, 0));
}

#[test]
fn another_end_than_the_model_s_is_wrong() {
    for (head, into) in [
        ("shared 1 last", "shared 1 last: 0"),
        ("shared 1 books", "shared 1 books: 1 2 3 0"),
        ("own 2 books", "own 2 books: 1 2 3 1"),
        ("anywhere books", "anywhere books: 1 2 3"),
        ("anywhere 1 lost", "anywhere 1 lost: 2"),
    ] {
        for into in [Some(into), None] {
            let Finding::Wrong(why) = doctored(head, into) else { panic!("{head} is not missed") };
            let phase = head.split(' ').next().unwrap();
            assert!(why.starts_with(phase), "{why}");
        }
    }
}

#[test]
fn notes_that_are_missing_or_that_no_order_explains_are_wrong() {
    assert!(matches!(doctored("anywhere 3 from", None), Finding::Wrong(_)));
    let mut lines = sound(ASKED);
    let notes = lines.iter_mut().find(|line| line.starts_with("anywhere 2 from 0")).unwrap();
    let at = notes.find('=').unwrap();
    let end = at + notes[at..].find(' ').unwrap();
    notes.replace_range(at..end, "!dirty");
    let Finding::Wrong(why) = told(&lines).compare(ASKED) else { panic!("not missed") };
    assert!(why.contains("cpu 2") && why.contains("not zero"), "{why}");
}

#[test]
fn the_first_reply_that_differs_is_told_with_both() {
    let batch = Batch { phase: Phase::Own, cpu: 1, number: 1 };
    let mut run = Run::new(ASKED, batch.phase, batch.cpu);
    run.batch(0, |_, _, _| {});
    let mut lines = Vec::new();
    run.batch(1, |at, _, reply| lines.push(format!("own 1 operation {at}: {reply}")));
    assert_eq!(told(&lines).first_difference(ASKED, batch), None);
    lines[7] = "own 1 operation 1007: page 99999".into();
    lines[9] = "own 1 operation 1009: page 99999".into();
    let why = told(&lines).first_difference(ASKED, batch).unwrap();
    assert!(why.starts_with("own, cpu 1, batch 1, operation 1007 ("), "{why}");
    assert!(why.ends_with(", the arena page 99999"), "{why}");
}

#[test]
fn lines_that_say_nothing_known_are_errors() {
    for line in [
        "",
        "shared 0 batch 0",
        "shared 4 batch 0: 1",
        "shared 0 batch 1: 1",
        "else 0 batch 0: 1",
        "anywhere 0 from 1: 1.1",
        "anywhere 0 from 0: 1.1 x",
        "shared 0 first: 1",
    ] {
        assert!(Told::default().line(line).is_err(), "{line:?}");
    }
}
