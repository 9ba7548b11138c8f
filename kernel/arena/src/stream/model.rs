//! The stream against a queue, under any interleaving of calls, interrupted producers included.

use std::collections::VecDeque;
use std::vec::Vec;

use proptest::prelude::*;

use super::ring::Slot;
use super::*;

#[derive(Clone, Copy, Debug)]
enum Call {
    /// A whole record of so many bytes.
    Put(usize),
    PutViolation,
    /// A producer takes room for so many bytes and is interrupted.
    Interrupt(usize),
    /// One of the interrupted producers goes on.
    Resume(usize),
    Read(usize),
}

/// A record that is in the ring: its words, and its text once it is published.
struct Entry {
    words: usize,
    published: Option<Vec<u8>>,
    id: u8,
}

#[derive(Default)]
struct Model {
    capacity: usize,
    queue: VecDeque<Entry>,
    dropped_records: u64,
    dropped_bytes: u64,
}

impl Model {
    fn add(&mut self, words: usize, bytes: usize, id: u8, published: Option<Vec<u8>>) -> bool {
        let used: usize = self.queue.iter().map(|entry| entry.words).sum();
        let fits = used + words <= self.capacity;
        if fits {
            self.queue.push_back(Entry { words, published, id });
        } else {
            self.dropped_records += 1;
            self.dropped_bytes += bytes as u64;
        }
        fits
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        self.queue.front()?.published.as_ref()?;
        self.queue.pop_front()?.published
    }
}

fn text(id: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| id.wrapping_add(index as u8)).collect()
}

fn violation(id: u8) -> Violation {
    let word = u64::from(id);
    let facts = Facts {
        write: id.is_multiple_of(2),
        address: word,
        pc: !word,
        program: word,
        cpu: 0,
        slot_before: 0,
        slot_after: word,
    };
    Violation { facts, backtrace: Backtrace::new(), frames: Frames::default() }
}

/// What stands for a record in the model.
fn image(record: Record) -> Vec<u8> {
    match record {
        Record::Text(text) => text.as_bytes().to_vec(),
        Record::Violation(found) => {
            let id = found.address as u8;
            assert_eq!(found, violation(id));
            [b"violation".as_slice(), &[id]].concat()
        }
    }
}

fn compare(words: usize, calls: &[Call]) -> Result<(), TestCaseError> {
    let stream = Stream::with_capacity(words * 8).unwrap();
    let mut model = Model { capacity: words, ..Model::default() };
    let mut interrupted: Vec<(u8, usize, Slot<'_>)> = Vec::new();
    for (id, &call) in calls.iter().enumerate() {
        let id = id as u8;
        match call {
            Call::Put(bytes) => {
                let words = record::text_words(bytes);
                let fits = model.add(words, bytes, id, Some(text(id, bytes)));
                prop_assert_eq!(stream.put_text(&text(id, bytes)), fits);
            }
            Call::PutViolation => {
                let words = record::VIOLATION_WORDS;
                let expected = image(Record::Violation(violation(id)));
                let fits = model.add(words, words * 8, id, Some(expected));
                prop_assert_eq!(stream.put_violation(&violation(id)), fits);
            }
            Call::Interrupt(bytes) => {
                let words = record::text_words(bytes);
                let slot = stream.ring.reserve(words);
                let fits = model.add(words, bytes, id, None);
                prop_assert_eq!(slot.is_some(), fits);
                match slot {
                    Some(slot) => interrupted.push((id, bytes, slot)),
                    None => drop(stream.drop_record(bytes)),
                }
            }
            Call::Resume(_) if interrupted.is_empty() => {}
            Call::Resume(which) => {
                let (id, bytes, slot) = interrupted.swap_remove(which % interrupted.len());
                record::encode_text(slot, &text(id, bytes));
                let entry = model.queue.iter_mut().find(|entry| entry.id == id).unwrap();
                entry.published = Some(text(id, bytes));
            }
            Call::Read(count) => {
                let mut reader = stream.reader().unwrap();
                for _ in 0..count {
                    prop_assert_eq!(reader.next().map(image), model.read());
                }
            }
        }
        let dropped = Dropped { records: model.dropped_records, bytes: model.dropped_bytes };
        prop_assert_eq!(stream.dropped(), dropped);
    }
    Ok(())
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        5 => (1..60usize).prop_map(Call::Put),
        2 => Just(Call::PutViolation),
        1 => (1..60usize).prop_map(Call::Interrupt),
        2 => any::<usize>().prop_map(Call::Resume),
        3 => (1..4usize).prop_map(Call::Read),
    ];
    prop::collection::vec(call, 0..250)
}

proptest! {
    #[test]
    fn any_interleaving_matches_a_queue(words in 0..80usize, calls in calls()) {
        compare(words, &calls)?;
    }

    #[test]
    fn any_header_decodes_or_stops_the_reader(header: u64) {
        prop_assert_eq!(record::words(header).is_some(), record::decode(header, |_| 0).is_some());
    }
}
