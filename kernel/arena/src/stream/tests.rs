use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, thread, vec};

use super::*;

fn texts(stream: &Stream) -> Vec<String> {
    let reader = stream.reader().unwrap();
    reader
        .map(|record| match record {
            Record::Text(text) => String::from_utf8(text.as_bytes().to_vec()).unwrap(),
            Record::Violation(_) => "violation".to_string(),
        })
        .collect()
}

fn violation() -> Violation {
    let mut backtrace = Backtrace::new();
    (1..=3).for_each(|number| assert!(backtrace.push(0x10 * number)));
    let facts = Facts {
        write: true,
        address: 0x1_0000_0040,
        pc: 0xffff_0000_4020_1234,
        program: 7,
        cpu: 3,
        slot_before: 0,
        slot_after: 0x0060_0000_4100_0703,
    };
    Violation { facts, backtrace, frames: Frames::new([12, 3].into_iter()) }
}

#[test]
fn text_comes_out_as_it_went_in() {
    let stream = Stream::with_capacity(1000).unwrap();
    for text in ["a", "12345678", "123456789", ""] {
        assert!(stream.put_text(text.as_bytes()));
    }
    assert_eq!(texts(&stream), ["a", "12345678", "123456789"], "an empty text is no record");
    assert_eq!(texts(&stream), [""; 0]);
}

#[test]
fn a_violation_comes_out_as_it_went_in() {
    let stream = Stream::with_capacity(1000).unwrap();
    let mut other = violation();
    (other.facts.write, other.facts.cpu) = (false, u32::MAX);
    (3..Backtrace::MOST).for_each(|_| assert!(other.backtrace.push(u64::MAX)));
    other.frames = Frames::new(core::iter::repeat(u32::MAX));
    assert!(stream.put_violation(&violation()) && stream.put_violation(&other));
    let read: Vec<Record> = stream.reader().unwrap().collect();
    assert_eq!(read, [Record::Violation(violation()), Record::Violation(other)]);
}

#[test]
fn a_violation_reads_as_linux_words_it() {
    let render = |violation: &Violation| {
        let mut text = String::new();
        let written = violation.render(&mut text, &mut |out, code| match code {
            Code::Program(insn) => write!(out, "<{insn}>"),
            Code::Kernel(pc) => write!(out, "<{pc:#x}>"),
        });
        written.unwrap();
        text
    };
    assert_eq!(
        render(&violation()),
        "ERROR: Arena WRITE access at unmapped address 0x100000040\n\
         CPU: 3 Program: 7\n\
         Slot: 0x0 -> 0x60000041000703\n\
         Call trace:\n<12>\n<3>\n<0xffff000040201234>\n<0x10>\n<0x20>\n<0x30>\n\n"
    );
    let mut read = violation();
    (read.facts.write, read.facts.address) = (false, 0);
    assert!(render(&read).starts_with("ERROR: Arena READ access at unmapped address 0x0\n"));
}

#[test]
fn a_backtrace_keeps_the_innermost_addresses() {
    let mut backtrace = Backtrace::new();
    let kept = (0..10).filter(|&address| backtrace.push(address)).count();
    assert_eq!((kept, backtrace.as_slice()), (8, [0, 1, 2, 3, 4, 5, 6, 7].as_slice()));
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let stream = Stream::with_capacity(32).unwrap();
    assert!(stream.put_text(b"12345678") && stream.put_text(b"x"));
    assert!(!stream.put_text(b"lost") && !stream.put_violation(&violation()));
    let bytes = 4 + record::VIOLATION_WORDS as u64 * 8;
    assert_eq!(stream.dropped(), Dropped { records: 2, bytes });
    assert_eq!(texts(&stream), ["12345678", "x"]);
    assert!(stream.put_text(b"room again"));
    assert_eq!(texts(&stream), ["room again"]);
}

#[test]
fn a_small_record_fits_where_a_large_one_did_not() {
    let stream = Stream::with_capacity(40).unwrap();
    assert!(stream.put_text(b"123456789"));
    assert!(!stream.put_text(b"123456789"));
    assert!(stream.put_text(b"1"));
    assert_eq!(texts(&stream), ["123456789", "1"]);
}

#[test]
fn records_wrap_around_the_end() {
    let stream = Stream::with_capacity(7 * 8).unwrap();
    for round in 0..50 {
        let text = format!("{round:017}");
        assert!(stream.put_text(text.as_bytes()));
        assert_eq!(texts(&stream), [text]);
    }
    assert_eq!(stream.dropped(), Dropped { records: 0, bytes: 0 });
}

#[test]
fn a_stream_without_room_drops_everything() {
    for bytes in [0, 7, 8] {
        let stream = Stream::with_capacity(bytes).unwrap();
        assert!(!stream.put_text(b"a"));
        assert_eq!(stream.dropped(), Dropped { records: 1, bytes: 1 });
        assert_eq!(texts(&stream), [""; 0]);
    }
}

#[test]
fn a_stream_that_memory_cannot_hold_is_refused() {
    assert_eq!(Stream::with_capacity(usize::MAX).err(), Some(NoMemory));
}

#[test]
fn the_default_holds_100_000_bytes() {
    let stream = Stream::with_capacity(DEFAULT_BYTES).unwrap();
    assert_eq!(stream.capacity(), 100_000);
    let kept = (0..10_000).take_while(|_| stream.put_violation(&violation())).count();
    assert_eq!(kept, 100_000 / (record::VIOLATION_WORDS * 8));
}

#[test]
fn an_interrupted_producer_stops_the_reader_and_nobody_else() {
    let stream = Stream::with_capacity(1000).unwrap();
    stream.put_text(b"before");
    let interrupted = stream.ring.reserve(record::text_words(4)).unwrap();
    assert!(stream.put_text(b"after") && stream.put_violation(&violation()));
    assert_eq!(texts(&stream), ["before"]);
    assert_eq!(texts(&stream), [""; 0]);
    record::encode_text(interrupted, b"late");
    assert_eq!(texts(&stream), ["late", "after", "violation"]);
}

#[test]
fn an_interrupted_producer_lets_the_ring_fill_and_recover() {
    let stream = Stream::with_capacity(64).unwrap();
    let interrupted = stream.ring.reserve(record::text_words(1)).unwrap();
    let kept = (0..10).filter(|_| stream.put_text(b"x")).count();
    assert_eq!((kept, stream.dropped().records), (3, 7));
    record::encode_text(interrupted, b"y");
    assert_eq!(texts(&stream), ["y", "x", "x", "x"]);
    assert!(stream.put_text(b"z"));
    assert_eq!(texts(&stream), ["z"]);
}

#[test]
fn one_reader_at_a_time() {
    let stream = Stream::with_capacity(100).unwrap();
    let reader = stream.reader().unwrap();
    assert!(stream.reader().is_none());
    drop(reader);
    assert!(stream.reader().is_some());
}

#[test]
fn a_write_is_one_record() {
    let stream = Stream::with_capacity(1000).unwrap();
    let mut writer = stream.writer();
    write!(writer, "{}-{:?}", 1, Some("two")).unwrap();
    writeln!(writer, "three").unwrap();
    writer.write_str("rest").unwrap();
    drop(writer);
    assert_eq!(texts(&stream), ["1-Some(\"two\")", "three\n", "rest"]);
}

#[test]
fn long_text_becomes_several_records() {
    let stream = Stream::with_capacity(2000).unwrap();
    let long: String = ('a'..='z').cycle().take(2 * TEXT_MAX + 1).collect();
    assert!(stream.put_text(long.as_bytes()));
    let lengths = |texts: &[String]| texts.iter().map(String::len).collect::<Vec<_>>();
    let read = texts(&stream);
    assert_eq!((lengths(&read), read.concat()), (vec![256, 256, 1], long.clone()));
    write!(stream.writer(), "-{long}").unwrap();
    let read = texts(&stream);
    assert_eq!((lengths(&read), read.concat()), (vec![256, 256, 2], format!("-{long}")));
}

#[test]
fn text_is_kept_only_if_all_of_it_is() {
    let stream = Stream::with_capacity(64).unwrap();
    let (lost, kept) = (vec![b'x'; TEXT_MAX], b"kept");
    assert!(!stream.put_text(&[&lost, kept.as_slice()].concat()));
    assert_eq!(stream.dropped(), Dropped { records: 1, bytes: TEXT_MAX as u64 });
    assert_eq!(texts(&stream), ["kept"]);
}

#[test]
fn a_program_that_is_formatted_out_of_room_does_not_fail() {
    let stream = Stream::with_capacity(16).unwrap();
    write!(stream.writer(), "{:100}", 1).unwrap();
    assert_eq!(stream.dropped(), Dropped { records: 1, bytes: 100 });
}

/// Several threads write as fast as they can through a ring that is too small, one reads.
#[test]
fn every_record_of_every_producer_is_read_in_order_or_counted() {
    const PRODUCERS: u32 = 4;
    const EACH: u64 = 20_000;
    let stream = Stream::with_capacity(100 * 8).unwrap();
    let done = AtomicBool::new(false);
    let mut next = [0; PRODUCERS as usize];
    let mut read = 0;
    let mut check = |record| {
        let (producer, number) = origin(&record);
        assert_eq!(record, from(producer, number), "torn");
        assert!(number >= next[producer as usize], "out of order");
        next[producer as usize] = number + 1;
        read += 1;
    };
    let ring = &stream;
    let kept: u64 = thread::scope(|scope| {
        let producers: Vec<_> =
            (0..PRODUCERS).map(|cpu| scope.spawn(move || produce(ring, cpu, EACH))).collect();
        let reader = scope.spawn(|| {
            // One more look after the last producer has finished.
            let mut last = false;
            while !last {
                last = done.load(Ordering::Acquire);
                stream.reader().unwrap().for_each(&mut check);
                thread::yield_now();
            }
        });
        let kept: Vec<_> = producers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Release);
        reader.join().unwrap();
        kept.into_iter().map(Result::unwrap).sum()
    });
    let dropped = stream.dropped().records;
    assert_eq!((read, kept + dropped), (kept, u64::from(PRODUCERS) * EACH));
    assert!(read > 0, "the ring was never written");
}

fn produce(stream: &Stream, cpu: u32, count: u64) -> u64 {
    let put = |number| match from(cpu, number) {
        Record::Violation(violation) => stream.put_violation(&violation),
        Record::Text(text) => stream.put_text(text.as_bytes()),
    };
    (0..count).filter(|&number| put(number)).count() as u64
}

/// What producer `cpu` writes as its record `number`: every word tells which it is.
fn from(cpu: u32, number: u64) -> Record {
    let word = u64::from(cpu) << 32 | number;
    if !number.is_multiple_of(3) {
        let text = Stream::with_capacity(1000).unwrap();
        let length = 16 + (number % 40) as usize;
        let bytes: Vec<u8> = word.to_le_bytes().into_iter().cycle().take(length).collect();
        text.put_text(&bytes);
        return text.reader().unwrap().next().unwrap();
    }
    let mut backtrace = Backtrace::new();
    (0..number % 9).for_each(|_| assert!(backtrace.push(word)));
    let facts = Facts {
        write: !number.is_multiple_of(2),
        address: word,
        pc: word,
        program: word,
        cpu,
        slot_before: word,
        slot_after: word,
    };
    let frames = Frames::new((0..number % 9).map(|insn| insn as u32));
    Record::Violation(Violation { facts, backtrace, frames })
}

fn origin(record: &Record) -> (u32, u64) {
    let word = match record {
        Record::Violation(violation) => violation.address,
        Record::Text(text) => u64::from_le_bytes(text.as_bytes()[..8].try_into().unwrap()),
    };
    ((word >> 32) as u32, word & 0xffff_ffff)
}
