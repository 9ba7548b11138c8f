//! The image of a program: read or refused, and what the check lets in runs to its end or to the end
//! of its budget, over instructions that there are.

use bpf::check;
use bpf::image::{self, Image, MAGIC};
use bpf::insn::{Insn, Width};
use bpf::interp::{self, Start};
use bpf::vm::{ArenaOffset, AtomicOp, MAX_INSNS, Machine, Program, Stack, Stop, Trace};

use crate::is_a_sentence;

/// Bytes of the header: magic, length, sum.
const HEADER: usize = 16;
/// Instructions of a run.
const BUDGET: u64 = 2000;
/// Bytes of arena that are there.
const ARENA: usize = 4096;

/// Any bytes are an image or are refused in words, as they are and with a header that fits them.
///
/// # Panics
/// If that does not hold.
pub fn holds(bytes: &[u8]) {
    read(bytes);
    if bytes.len() >= HEADER {
        let mut sealed = bytes.to_vec();
        sealed[..MAGIC.len()].copy_from_slice(&MAGIC);
        image::seal(&mut sealed);
        read(&sealed);
    }
}

fn read(bytes: &[u8]) {
    match Image::parse(bytes) {
        Err(bad) => is_a_sentence(&bad),
        Ok(image) => {
            assert!(!image.name().is_empty() && image.functions().all(|f| !f.name.is_empty()));
            let inside = u64::from(image.arena_pages()) * 4096;
            let ends = image.globals().map(|part| part.offset + part.bytes.len() as u64);
            assert!(ends.into_iter().all(|end| end <= inside), "globals outside the arena");
            let insns: Vec<_> = image.insns().collect();
            assert!((1..=MAX_INSNS).contains(&insns.len()));
            run(&insns, image.arena_pages() > 0);
        }
    }
}

/// Checks a program, and runs it if it is let in.
fn run(insns: &[Insn], has_arena: bool) {
    let program = Program { insns };
    if let Err(rejection) = check::check(&program, has_arena) {
        assert!(rejection.insn < insns.len(), "rejected for an instruction that is not there");
        return is_a_sentence(&rejection);
    }
    let mut machine = Arena { bytes: [0; ARENA] };
    let start = Start { ctx: [1, 2, 3, u64::MAX], budget: BUDGET };
    match interp::run(&program, &mut machine, &Trace::new(), &start) {
        Ok(_) => {}
        Err(Stop::Bad(at)) => panic!("let in, and instruction {at} is bad: {insns:x?}"),
        Err(stop) => is_a_sentence(&stop),
    }
}

/// A machine with the first page of an arena and kernel functions that return their first argument.
struct Arena {
    bytes: [u8; ARENA],
}

impl Arena {
    fn get(&mut self, at: ArenaOffset, width: Width) -> Option<&mut [u8]> {
        let at = usize::try_from(at.get()).ok()?;
        self.bytes.get_mut(at..at + width.bytes() as usize)
    }
}

impl Machine for Arena {
    fn load(&mut self, at: ArenaOffset, width: Width, _: bool) -> u64 {
        let bytes = self.get(at, width).map(|bytes| &*bytes).unwrap_or_default();
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn store(&mut self, at: ArenaOffset, width: Width, value: u64, _: bool) {
        let bytes = self.get(at, width).unwrap_or_default();
        bytes.iter_mut().zip(value.to_le_bytes()).for_each(|(byte, new)| *byte = new);
    }

    fn atomic(&mut self, at: ArenaOffset, width: Width, op: AtomicOp, operand: u64) -> Option<u64> {
        let old = self.load(at, width, true);
        let new = match op {
            AtomicOp::Add => old.wrapping_add(operand),
            AtomicOp::Or => old | operand,
            AtomicOp::And => old & operand,
            AtomicOp::Xor => old ^ operand,
            AtomicOp::Exchange => operand,
            AtomicOp::CompareExchange(expected) if expected == old => operand,
            AtomicOp::CompareExchange(_) => old,
        };
        self.store(at, width, new, true);
        (at.get() % width.bytes() as i64 == 0).then_some(old)
    }

    fn call(&mut self, _: u32, [first, ..]: [u64; 5], stack: &dyn Stack) -> Result<u64, Stop> {
        let mut bytes = [0; 8];
        Ok(if stack.read(first, &mut bytes) { u64::from_le_bytes(bytes) } else { first })
    }

    fn should_stop(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use bpf::image::Builder;
    use bpf::insn::EXIT;
    use bpf::random::{self, Rng};
    use proptest::prelude::*;

    use super::*;
    use crate::damage::{changes, damaged};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::CASES))]

        #[test]
        fn any_bytes_are_an_image_or_are_refused_in_words(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            holds(&bytes);
        }

        #[test]
        fn sections_of_any_contents_are_an_image_or_are_refused_in_words(
            sections in prop::collection::vec(
                (0..10_u32, prop::collection::vec(any::<u8>(), 0..24)),
                0..8,
            ),
        ) {
            let mut bytes = vec![0; HEADER];
            for (kind, contents) in sections {
                bytes.extend(kind.to_le_bytes());
                bytes.extend((contents.len() as u32).to_le_bytes());
                bytes.extend(contents);
                bytes.resize(bytes.len().next_multiple_of(8), 0);
            }
            holds(&bytes);
        }

        #[test]
        fn globals_at_any_place_are_inside_the_arena_or_refused(
            pages in prop::option::of(0..4_u32),
            page in 0..5_u64,
            length in 0..9000_usize,
        ) {
            let mut builder = Builder::new("globals", &[Insn::new(EXIT, 0, 0, 0, 0)]);
            if let Some(pages) = pages {
                builder.arena(pages);
            }
            holds(&builder.globals(page << 12, &vec![7; length]).build());
        }

        #[test]
        fn a_damaged_image_is_refused_or_runs_over_instructions_that_there_are(
            seed in any::<u64>(),
            changes in changes(),
        ) {
            let image = random::image(&mut Rng::new(seed), 4, true);
            holds(&damaged(&image, &changes));
        }
    }

    #[test]
    fn the_seeds_hold() {
        crate::replay("image", holds);
    }
}
