use super::*;
use crate::CPUS;
use crate::note::Odd;
use explore::random::Rng;
use std::string::ToString;

/// A seed for all of them.
const SEED: u64 = 3;

/// Four hands on a set of pages, each deed at once, in a random order; `hurt` may spoil a note, and
/// what the set gives.
fn notes(mut hurt: impl FnMut(usize, &mut Vec<bool>, &mut Note)) -> Vec<Vec<Note>> {
    let mut free = vec![true; PAGES as usize];
    let mut hands: Vec<_> = (0..CPUS).map(|cpu| Hand::new(cpu, SEED)).collect();
    let mut notes = vec![Vec::new(); CPUS];
    let mut rng = Rng::new(11);
    for at in 0..20_000_u64 {
        let cpu = rng.below(CPUS as u64) as usize;
        let deed = hands[cpu].draw();
        let came = match deed {
            Deed::Alloc(pages) => first_fit(&free, pages).map_or(Came::NoRange, Came::At),
            _ => Came::Done,
        };
        let mut note = Note { before: 2 * at, after: 2 * at + 1, came };
        hurt(notes.iter().map(Vec::len).sum(), &mut free, &mut note);
        match (deed, note.came) {
            (Deed::Alloc(pages), Came::At(first)) => {
                hands[cpu].took(first, pages);
                mark(&mut free, first, pages, false);
            }
            (Deed::Free(run, _), Came::Done) => mark(&mut free, run.first, run.pages, true),
            _ => {}
        }
        notes[cpu].push(note);
    }
    notes
}

fn first_fit(free: &[bool], pages: u32) -> Option<u32> {
    let at = free.windows(pages as usize).position(|run| run.iter().all(|free| *free));
    at.map(|at| at as u32)
}

fn mark(free: &mut [bool], first: u32, pages: u32, to: bool) {
    let (first, pages) = (first as usize, pages as usize);
    free.iter_mut().skip(first).take(pages).for_each(|free| *free = to);
}

fn wrong(hurt: impl FnMut(usize, &mut Vec<bool>, &mut Note)) -> Wrong {
    judge(SEED, &notes(hurt)).expect_err("nothing is wrong")
}

#[test]
fn notes_of_a_sound_arena_are_explained_with_refusals_among_them() {
    let books = judge(SEED, &notes(|_, _, _| {})).unwrap();
    assert!(books.refused > 20, "{books:?}");
    assert!(books.mapped > PAGES / 2, "{books:?}");
}

#[test]
fn a_page_in_two_hands_is_wrong() {
    let mut left = 1;
    let why = wrong(|number, free, note| {
        if let (Came::At(_), true) = (note.came, number > 5000 && left > 0) {
            let held = free.iter().position(|free| !free).unwrap();
            note.came = Came::At(held as u32);
            left -= 1;
        }
    });
    assert!(matches!(why, Wrong::Twice(..)), "{why}");
}

#[test]
fn a_refusal_while_there_is_room_is_wrong() {
    let why = wrong(|number, _, note| {
        if number > 100 && matches!(note.came, Came::At(_)) {
            note.came = Came::NoRange;
        }
    });
    assert!(matches!(why, Wrong::Room(..)), "{why}");
}

/// The free and the allocation of its page overlap: either may have come first.
#[test]
fn what_happens_at_the_same_time_may_come_in_any_order() {
    let mut all = notes(|_, _, _| {});
    for note in all.iter_mut().flatten() {
        note.before = note.before.saturating_sub(1);
    }
    assert!(judge(SEED, &all).is_ok());
}

#[test]
fn a_page_that_the_arena_does_not_have_is_wrong() {
    let why = wrong(|number, _, note| {
        if number > 100 && matches!(note.came, Came::At(_)) {
            note.came = Came::At(PAGES);
        }
    });
    assert!(matches!(why, Wrong::Beyond(..)), "{why}");
}

#[test]
fn what_must_never_come_is_wrong_and_named() {
    for odd in [Odd::Dirty, Odd::Lost, Odd::Refused] {
        let why = wrong(|number, _, note| {
            if number == 500 {
                note.came = Came::Odd(odd);
            }
        });
        let text = why.to_string();
        assert!(matches!(why, Wrong::Odd(_, _, came) if came == Came::Odd(odd)), "{text}");
        assert!(text.starts_with("cpu "), "{text}");
    }
}

#[test]
fn tickets_that_do_not_rise_are_wrong() {
    let why = wrong(|number, _, note| {
        if number == 500 {
            (note.before, note.after) = (note.after, note.before);
        }
    });
    assert!(matches!(why, Wrong::Tickets(_)), "{why}");
}

#[test]
fn the_last_state_is_what_is_in_the_hands() {
    let (mut free, mut seen) = (Vec::new(), 0);
    let all = notes(|_, now, _| {
        free.clone_from(now);
        seen += 1;
    });
    // The last note's own deed is not in that copy: leave it out.
    let cut = all.iter().flatten().map(|note| note.after).max().unwrap();
    let all: Vec<Vec<_>> =
        all.into_iter().map(|cpu| cpu.into_iter().filter(|n| n.after != cut).collect()).collect();
    let books = judge(SEED, &all).unwrap();
    let mut digest = Digest::default();
    free.iter().for_each(|free| digest.page(held_slot(!free), 0, Slot::Empty));
    assert_eq!(books.last.to_string(), digest.to_string());
    assert_eq!(books.mapped as usize, free.iter().filter(|free| !**free).count());
    assert_eq!(seen, 20_000);
}
