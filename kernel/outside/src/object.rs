//! The object file of a program: linked to an image that the guest takes, or refused in words.

use bpf::check;
use bpf::image::Image;
use bpf::vm::Program;
use link::Options;

use crate::is_a_sentence;

/// Most bytes of an image: its code, its globals, and the names of its functions.
const MOST: usize = 16 << 20;

/// Any bytes are linked, or are refused in words; what is linked is an image with a program that the
/// guest lets in.
///
/// # Panics
/// If that does not hold.
pub fn holds(bytes: &[u8]) {
    match link::link(bytes, &Options::default()) {
        // All causes in one line, as they are shown.
        Err(error) => is_a_sentence(&format!("{error:#}")),
        Ok(linked) => {
            assert!(linked.image.len() <= MOST, "an image of {} bytes", linked.image.len());
            let image = Image::parse(&linked.image).expect("an image of the linker's");
            let insns: Vec<_> = image.insns().collect();
            let let_in = check::check(&Program { insns: &insns }, image.arena_pages() > 0);
            assert_eq!(let_in, Ok(()));
            for insn in 0..insns.len() {
                assert!(linked.place_in(&format!("insn {insn}")).is_some(), "no place of {insn}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::{changes, damaged, number};

    const OBJECTS: [&[u8]; 3] = [
        include_bytes!("../../../xtask/prog/one-past-the-end.bpf.o"),
        include_bytes!("../../../xtask/prog/sound.bpf.o"),
        include_bytes!("../../../xtask/prog/list.bpf.o"),
    ];

    /// Where the words of the symbols, of the relocations of what is loaded, and of the section headers
    /// lie: a small part of an object, and most of what can be wrong with it.
    fn delicate(object: &[u8]) -> Vec<usize> {
        let number = |at: usize, bytes: usize| {
            object[at..at + bytes].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
        };
        let (table, count) = (number(0x28, 8), number(0x3c, 2));
        let mut places: Vec<_> = (0..64).chain(table..object.len()).collect();
        for header in (0..count).map(|n| table + 64 * n) {
            let is_loaded = |n| number(table + 64 * n + 8, 8) & 2 != 0;
            let is_delicate = match number(header + 4, 4) {
                // Symbols.
                2 => true,
                // Relocations without addends.
                9 => is_loaded(number(header + 44, 4)),
                _ => false,
            };
            if is_delicate {
                let first = number(header + 24, 8);
                places.extend(first..first + number(header + 32, 8));
            }
        }
        places.retain(|at| at.is_multiple_of(4));
        places
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::CASES))]

        #[test]
        fn any_bytes_are_an_object_or_are_refused_in_words(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            holds(&bytes);
        }

        #[test]
        fn a_damaged_object_is_linked_or_refused_in_words(
            which in 0..OBJECTS.len(),
            changes in changes(),
        ) {
            holds(&damaged(OBJECTS[which], &changes));
        }

        #[test]
        fn wrong_numbers_in_delicate_places_are_refused_in_words(
            which in 0..OBJECTS.len(),
            words in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::bool::ANY, number()),
                1..4,
            ),
        ) {
            let (mut object, places) = (OBJECTS[which].to_vec(), delicate(OBJECTS[which]));
            for (place, is_long, number) in words {
                let (at, bytes) = (*place.get(&places), if is_long { 8 } else { 4 });
                let new = number.to_le_bytes();
                object[at..].iter_mut().zip(&new[..bytes]).for_each(|(byte, new)| *byte = *new);
            }
            holds(&object);
        }
    }

    #[test]
    fn objects_of_clang_s_are_linked() {
        for object in OBJECTS {
            holds(object);
            link::link(object, &Options::default()).expect("a program");
        }
    }

    #[test]
    fn the_seeds_hold() {
        crate::replay("object", holds);
    }
}
