//! The records of a stream, as values and as words.
//!
//! A record is a header and the words behind it. The header's low byte is the kind, never 0; the
//! rest of it and the words are laid out below. GDB's reader of streams decodes the same layout.
//!
//! | kind | header bits | words |
//! | --- | --- | --- |
//! | 1, text | 8-23: length in bytes | the bytes, little-endian, padded with zeroes |
//! | 2, violation | 8: write, 12-15: depth of the backtrace, 16-19: program frames, 32-63: CPU | address, pc, program, slot before, slot after, 8 return addresses, 8 instruction numbers in 4 words |

use core::fmt;
use core::ops::Deref;

use super::ring::Slot;
use crate::sync::Ordering;

/// Longest text of one record in bytes.
pub const TEXT_MAX: usize = 256;

/// One record, as the reader gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// Bytes, UTF-8 only if the program wrote UTF-8.
    Text(Text),
    /// An access that arena recovery answered.
    Violation(Violation),
}

/// Up to [`TEXT_MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text {
    bytes: [u8; TEXT_MAX],
    len: usize,
}

/// An access to unmapped arena memory that was answered with scratch or a zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What happened.
    pub facts: Facts,
    /// Who called, in the kernel.
    pub backtrace: Backtrace,
    /// Where the program's functions stood, if it is bytecode.
    pub frames: Frames,
}

/// What is known of a [`Violation`] but who called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The access was a write.
    pub write: bool,
    /// Where, as the program sees it.
    pub address: u64,
    /// The instruction that made the access.
    pub pc: u64,
    /// Number of the program that was running.
    pub program: u64,
    /// The CPU that took the fault.
    pub cpu: u32,
    /// The descriptor as the handler found it.
    pub slot_before: u64,
    /// The descriptor as the handler left it.
    pub slot_after: u64,
}

/// Return addresses, innermost first; those beyond [`Backtrace::MOST`] are left out.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Backtrace {
    addresses: [u64; Self::MOST],
    depth: u8,
}

/// Instructions at which a program's functions stand, innermost first; those beyond [`Frames::MOST`]
/// are left out.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Frames {
    insns: [u32; Self::MOST],
    depth: u8,
}

/// A place in code, for [`Violation::render`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Number of an instruction of the program.
    Program(u32),
    /// An address in the kernel.
    Kernel(u64),
}

/// Words of a violation, header included.
pub(super) const VIOLATION_WORDS: usize = 6 + Backtrace::MOST + Frames::MOST / 2;

const TEXT: u64 = 1;
const VIOLATION: u64 = 2;

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Backtrace {
    /// Most return addresses that are kept.
    pub const MOST: usize = 8;

    /// No address.
    pub const fn new() -> Self {
        Self { addresses: [0; Self::MOST], depth: 0 }
    }

    /// Adds the next outer address. Returns whether there was room.
    pub fn push(&mut self, address: u64) -> bool {
        match self.addresses.get_mut(usize::from(self.depth)) {
            Some(place) => {
                *place = address;
                self.depth += 1;
                true
            }
            None => false,
        }
    }

    /// The addresses, innermost first.
    pub fn as_slice(&self) -> &[u64] {
        &self.addresses[..usize::from(self.depth)]
    }
}

impl Frames {
    /// Most frames that are kept: as many as a program can have.
    pub const MOST: usize = 8;

    /// The first few of `insns`.
    pub fn new(insns: impl Iterator<Item = u32>) -> Self {
        let mut frames = Self::default();
        for (place, insn) in frames.insns.iter_mut().zip(insns) {
            *place = insn;
            frames.depth += 1;
        }
        frames
    }

    /// The instructions, innermost first.
    pub fn as_slice(&self) -> &[u32] {
        &self.insns[..usize::from(self.depth)]
    }
}

/// The facts are read as the violation's own.
impl Deref for Violation {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl Violation {
    /// Writes the report as text, in the wording of Linux's `bpf_prog_report_arena_violation`
    /// and `bpf_stream_stage_dump_stack` where they say the same. `print` prints one place
    /// in code on a line, with its symbol where it knows one: the program's first, then the kernel's.
    ///
    /// # Errors
    /// What `out` or `print` return.
    pub fn render(
        &self,
        out: &mut dyn fmt::Write,
        print: &mut dyn FnMut(&mut dyn fmt::Write, Code) -> fmt::Result,
    ) -> fmt::Result {
        let Facts { write, address, pc, program, cpu, slot_before, slot_after } = &self.facts;
        let access = if *write { "WRITE" } else { "READ" };
        writeln!(out, "ERROR: Arena {access} access at unmapped address {address:#x}")?;
        writeln!(out, "CPU: {cpu} Program: {program}")?;
        writeln!(out, "Slot: {slot_before:#x} -> {slot_after:#x}")?;
        writeln!(out, "Call trace:")?;
        let frames = self.frames.as_slice().iter().map(|&insn| Code::Program(insn));
        let calls = core::iter::once(pc).chain(self.backtrace.as_slice());
        for code in frames.chain(calls.map(|&pc| Code::Kernel(pc))) {
            print(out, code)?;
            writeln!(out)?;
        }
        writeln!(out)
    }
}

/// Words of a text of `bytes` bytes, header included.
pub(super) fn text_words(bytes: usize) -> usize {
    1 + bytes.div_ceil(8)
}

/// Words of the record with this header, header included. `None` if there is no record.
pub(super) fn words(header: u64) -> Option<usize> {
    match header & 0xff {
        TEXT => Some(text_words(text_len(header))),
        VIOLATION => Some(VIOLATION_WORDS),
        _ => None,
    }
}

pub(super) fn encode_text(slot: Slot<'_>, text: &[u8]) {
    let (whole, rest) = text.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    slot.fill(whole.iter().chain(last).map(|bytes| u64::from_le_bytes(*bytes)));
    slot.publish(TEXT | (text.len() as u64) << 8);
}

/// Straight from where they come from into the ring: on the fault path a copy in between would cost
/// as much as the rest.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn encode_violation(
    slot: Slot<'_>,
    facts: &Facts,
    calls: impl Iterator<Item = u64>,
    insns: impl Iterator<Item = u32>,
) {
    // The same twice: where the record does not wrap, which is nearly always, a store needs no look at
    // the ring's end.
    let header = match slot.straight::<VIOLATION_WORDS>() {
        Some(words) => violation_words(facts, calls, insns, |offset, value| {
            // Relaxed: see `Slot::store`.
            words[offset % VIOLATION_WORDS].store(value, Ordering::Relaxed);
        }),
        None => violation_words(facts, calls, insns, |offset, value| slot.store(offset, value)),
    };
    slot.publish(header);
}

/// Stores the words of a violation but the header, which it returns.
#[cfg_attr(not(debug_assertions), inline(always))]
fn violation_words(
    facts: &Facts,
    calls: impl Iterator<Item = u64>,
    insns: impl Iterator<Item = u32>,
    store: impl Fn(usize, u64),
) -> u64 {
    let Facts { write, address, pc, program, cpu, slot_before, slot_after } = *facts;
    let words = [address, pc, program, slot_before, slot_after];
    words.into_iter().zip(1..).for_each(|(word, offset)| store(offset, word));
    let mut depth = 0;
    for call in calls.take(Backtrace::MOST) {
        store(6 + depth, call);
        depth += 1;
    }
    let (mut frames, mut pair) = (0, 0);
    for insn in insns.take(Frames::MOST) {
        pair = if frames % 2 == 0 { u64::from(insn) } else { pair | u64::from(insn) << 32 };
        store(6 + Backtrace::MOST + frames / 2, pair);
        frames += 1;
    }
    let depths = (depth as u64) << 12 | (frames as u64) << 16;
    VIOLATION | u64::from(write) << 8 | depths | u64::from(cpu) << 32
}

/// The record with this header; `word` reads the words behind it, from 1.
pub(super) fn decode(header: u64, word: impl Fn(usize) -> u64) -> Option<Record> {
    match header & 0xff {
        TEXT => Some(Record::Text(decode_text(text_len(header), word))),
        VIOLATION => Some(Record::Violation(decode_violation(header, word))),
        _ => None,
    }
}

fn decode_text(len: usize, word: impl Fn(usize) -> u64) -> Text {
    let mut text = Text { bytes: [0; TEXT_MAX], len };
    for (index, part) in text.bytes[..len].chunks_mut(8).enumerate() {
        part.copy_from_slice(&word(1 + index).to_le_bytes()[..part.len()]);
    }
    text
}

fn decode_violation(header: u64, word: impl Fn(usize) -> u64) -> Violation {
    let mut backtrace = Backtrace::new();
    for index in 0..(header >> 12 & 0xf) as usize {
        backtrace.push(word(6 + index));
    }
    let insns = (0..usize::min((header >> 16 & 0xf) as usize, Frames::MOST))
        .map(|index| (word(6 + Backtrace::MOST + index / 2) >> (32 * (index % 2))) as u32);
    let facts = Facts {
        write: header >> 8 & 1 == 1,
        address: word(1),
        pc: word(2),
        program: word(3),
        cpu: (header >> 32) as u32,
        slot_before: word(4),
        slot_after: word(5),
    };
    Violation { facts, backtrace, frames: Frames::new(insns) }
}

fn text_len(header: u64) -> usize {
    usize::min((header >> 8 & 0xffff) as usize, TEXT_MAX)
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_bytes(), f)
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl fmt::Debug for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}
