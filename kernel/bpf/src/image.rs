//! The image of a program: what the host makes of an object file, or the assembler of its
//! instructions, and what the kernel loads.
//!
//! All numbers are little-endian. Sections follow the header, each padded to a multiple of eight bytes.
//!
//! | bytes | header |
//! | --- | --- |
//! | 0-7 | [`MAGIC`] |
//! | 8-11 | length of the image |
//! | 12-15 | FNV-1a, 32 bits, of everything behind |
//!
//! | bytes | section |
//! | --- | --- |
//! | 0-3 | kind |
//! | 4-7 | length of what follows, padding left out |
//!
//! | kind | section holds | how often |
//! | --- | --- | --- |
//! | 1 | name of the program | once |
//! | 2 | name of the tracepoint to attach to; empty: run directly | at most once |
//! | 3 | instructions | once |
//! | 4 | initial globals: offset from the arena's base (8 bytes, of a page), then bytes | any |
//! | 5 | pages of the arena (4 bytes); none: the program has no arena | at most once |
//! | 6 | a function: its first instruction (4 bytes), then its name | any |
//! | 7 | instruction budget (8 bytes) | at most once |
//! | 8 | of its arena: a task's touch of a page that is not allocated ends the task (no bytes) | at most once |

use alloc::vec::Vec;
use core::fmt;

use crate::insn::Insn;
use crate::vm::MAX_INSNS;

/// The first bytes of an image.
pub const MAGIC: [u8; 8] = *b"FLBPF\x01\0\0";
/// Bytes of the header.
const HEADER: usize = 16;
/// Bytes of an arena page.
const PAGE: u64 = 4096;
/// Most pages of an arena: 4 GiB.
const MAX_PAGES: u32 = 1 << 20;
/// Longest name of a program, a function or a tracepoint.
pub const MAX_NAME: usize = 63;
/// Instructions that a run may execute where the image does not say.
pub const DEFAULT_BUDGET: u64 = 1_000_000;
/// Most that an image may ask for: a few seconds, with whatever lock the attach point holds.
pub const MAX_BUDGET: u64 = 100_000_000;

mod kind {
    pub const NAME: u32 = 1;
    pub const ATTACH: u32 = 2;
    pub const CODE: u32 = 3;
    pub const GLOBALS: u32 = 4;
    pub const ARENA: u32 = 5;
    pub const FUNCTION: u32 = 6;
    pub const BUDGET: u32 = 7;
    pub const SEGV_ON_FAULT: u32 = 8;
}

/// An image that was found well-formed. Its instructions were not checked.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    name: &'a str,
    attach: &'a str,
    code: &'a [u8],
    arena_pages: u32,
    budget: u64,
    segv_on_fault: bool,
}

/// Initial contents of a part of the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Globals<'a> {
    /// Bytes from the arena's base; a multiple of the page size.
    pub offset: u64,
    /// The contents.
    pub bytes: &'a [u8],
}

/// A function of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function<'a> {
    /// Its first instruction.
    pub insn: u32,
    /// Its name.
    pub name: &'a str,
}

/// Why bytes are no image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadImage {
    /// They do not begin with [`MAGIC`].
    Magic,
    /// There are fewer than the header says.
    Truncated {
        /// Bytes that the header says.
        said: u32,
        /// Bytes that there are.
        found: usize,
    },
    /// The sum does not fit.
    Sum,
    /// The section at this byte is cut, of an unknown kind, or there twice.
    Section(usize),
    /// The section at this byte has contents that it cannot have.
    Contents(usize),
    /// No name or no instructions.
    Missing(&'static str),
}

impl<'a> Image<'a> {
    /// Reads an image; bytes behind its length are left alone.
    ///
    /// # Errors
    /// [`BadImage`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadImage> {
        if bytes.get(..8) != Some(&MAGIC) {
            return Err(BadImage::Magic);
        }
        let (said, sum) = (word(bytes, 8), word(bytes, 12));
        let (Some(said), Some(sum)) = (said, sum) else {
            return Err(BadImage::Truncated { said: HEADER as u32, found: bytes.len() });
        };
        let whole = bytes.get(..said as usize).filter(|whole| whole.len() >= HEADER);
        let bytes = whole.ok_or(BadImage::Truncated { said, found: bytes.len() })?;
        if fnv(&bytes[HEADER..]) != sum {
            return Err(BadImage::Sum);
        }
        let mut image = Self {
            bytes,
            name: "",
            attach: "",
            code: &[],
            arena_pages: 0,
            budget: DEFAULT_BUDGET,
            segv_on_fault: false,
        };
        let mut seen = 0;
        let mut sections = Sections { bytes, at: HEADER };
        while let Some((at, kind, contents)) = sections.next()? {
            if kind != kind::GLOBALS && kind != kind::FUNCTION {
                if seen & 1 << (kind & 31) != 0 {
                    return Err(BadImage::Section(at));
                }
                seen |= 1 << (kind & 31);
            }
            image.take(at, kind, contents)?;
        }
        image.whole()
    }

    fn take(&mut self, at: usize, kind: u32, contents: &'a [u8]) -> Result<(), BadImage> {
        let bad = BadImage::Contents(at);
        match kind {
            kind::NAME => self.name = name(contents).ok_or(bad)?,
            kind::ATTACH if contents.is_empty() => {}
            kind::ATTACH => self.attach = name(contents).ok_or(bad)?,
            kind::CODE => {
                let whole = contents.len().is_multiple_of(8) && !contents.is_empty();
                self.code = Some(contents)
                    .filter(|_| whole && contents.len() / 8 <= MAX_INSNS)
                    .ok_or(bad)?;
            }
            kind::GLOBALS => drop(globals(contents).ok_or(bad)?),
            kind::ARENA => {
                let pages = word(contents, 0).filter(|_| contents.len() == 4).ok_or(bad)?;
                self.arena_pages =
                    Some(pages).filter(|n| (1..=MAX_PAGES).contains(n)).ok_or(bad)?;
            }
            kind::FUNCTION => drop(function(contents).ok_or(bad)?),
            kind::BUDGET => {
                let bytes = contents.try_into().map_err(|_| bad)?;
                let budget = u64::from_le_bytes(bytes);
                self.budget = Some(budget).filter(|n| (1..=MAX_BUDGET).contains(n)).ok_or(bad)?;
            }
            kind::SEGV_ON_FAULT if contents.is_empty() => self.segv_on_fault = true,
            kind::SEGV_ON_FAULT => return Err(bad),
            _ => return Err(BadImage::Section(at)),
        }
        Ok(())
    }

    fn whole(self) -> Result<Self, BadImage> {
        let end = u64::from(self.arena_pages) * PAGE;
        let inside =
            |part: Globals<'_>| part.offset < end && part.bytes.len() as u64 <= end - part.offset;
        match () {
            () if self.name.is_empty() => Err(BadImage::Missing("name")),
            () if self.code.is_empty() => Err(BadImage::Missing("instructions")),
            () if !self.globals().all(inside) => Err(BadImage::Missing("arena for its globals")),
            () => Ok(self),
        }
    }

    /// Name of the program.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The tracepoint that it is for; empty if it is run directly.
    pub fn attach(&self) -> &'a str {
        self.attach
    }

    /// The instructions, at most [`MAX_INSNS`].
    pub fn insns(&self) -> impl ExactSizeIterator<Item = Insn> + use<'a> {
        let (eights, _) = self.code.as_chunks::<8>();
        eights.iter().map(|bytes| Insn::decode(*bytes))
    }

    /// Pages of its arena; 0 if it has none.
    pub fn arena_pages(&self) -> u32 {
        self.arena_pages
    }

    /// Instructions that a run may execute.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Whether a task that touches an unallocated page of the arena is ended; else the page is allocated
    /// (Linux `BPF_F_SEGV_ON_FAULT`).
    pub fn segv_on_fault(&self) -> bool {
        self.segv_on_fault
    }

    /// Initial contents of the arena.
    pub fn globals(&self) -> impl Iterator<Item = Globals<'a>> + use<'a> {
        self.sections(kind::GLOBALS).filter_map(globals)
    }

    /// Its functions.
    pub fn functions(&self) -> impl Iterator<Item = Function<'a>> + use<'a> {
        self.sections(kind::FUNCTION).filter_map(function)
    }

    fn sections(&self, wanted: u32) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut sections = Sections { bytes: self.bytes, at: HEADER };
        // Every section was found whole before.
        core::iter::from_fn(move || sections.next().ok().flatten())
            .filter_map(move |(_, kind, contents)| (kind == wanted).then_some(contents))
    }
}

/// Makes an image, section by section.
pub struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// An image of the program `name`, which consists of `insns`.
    pub fn new(name: &str, insns: &[Insn]) -> Self {
        let mut bytes = Vec::from(MAGIC);
        bytes.resize(HEADER, 0);
        let mut builder = Self { bytes };
        builder.section(kind::NAME, &[name.as_bytes()]);
        let code: Vec<u8> = insns.iter().flat_map(|insn| insn.encode()).collect();
        builder.section(kind::CODE, &[&code]);
        builder
    }

    /// Attaches it to the tracepoint `name`.
    pub fn attach(&mut self, name: &str) -> &mut Self {
        self.section(kind::ATTACH, &[name.as_bytes()])
    }

    /// Gives it an arena of so many pages.
    pub fn arena(&mut self, pages: u32) -> &mut Self {
        self.section(kind::ARENA, &[&pages.to_le_bytes()])
    }

    /// Fills the arena from `offset` on, which is a multiple of the page size.
    pub fn globals(&mut self, offset: u64, bytes: &[u8]) -> &mut Self {
        self.section(kind::GLOBALS, &[&offset.to_le_bytes(), bytes])
    }

    /// Names the function that begins at `insn`.
    pub fn function(&mut self, insn: u32, name: &str) -> &mut Self {
        self.section(kind::FUNCTION, &[&insn.to_le_bytes(), name.as_bytes()])
    }

    /// Has a task that touches an unallocated page of the arena ended.
    pub fn segv_on_fault(&mut self) -> &mut Self {
        self.section(kind::SEGV_ON_FAULT, &[])
    }

    /// Lets a run execute so many instructions.
    pub fn budget(&mut self, insns: u64) -> &mut Self {
        self.section(kind::BUDGET, &[&insns.to_le_bytes()])
    }

    /// The finished image.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        seal(&mut bytes);
        bytes
    }

    fn section(&mut self, kind: u32, parts: &[&[u8]]) -> &mut Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((length as u32).to_le_bytes());
        parts.iter().for_each(|part| self.bytes.extend(*part));
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self
    }
}

/// Place, kind and contents of a section.
type Section<'a> = (usize, u32, &'a [u8]);

/// The sections of an image, in order.
struct Sections<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Sections<'a> {
    fn next(&mut self) -> Result<Option<Section<'a>>, BadImage> {
        let at = self.at;
        if at >= self.bytes.len() {
            return Ok(None);
        }
        let cut = BadImage::Section(at);
        let kind = word(self.bytes, at).ok_or(cut)?;
        let length = word(self.bytes, at + 4).ok_or(cut)? as usize;
        let contents = self.bytes[at + 8..].get(..length).ok_or(cut)?;
        self.at = (at + 8 + length).next_multiple_of(8);
        Ok(Some((at, kind, contents)))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.get(..4)?.try_into().ok()?;
    Some(u32::from_le_bytes(four))
}

fn name(bytes: &[u8]) -> Option<&str> {
    core::str::from_utf8(bytes).ok().filter(|text| is_name(text))
}

/// Whether an image can carry this name of a program, a function or a tracepoint: 1 to [`MAX_NAME`]
/// printable ASCII characters.
pub fn is_name(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= MAX_NAME;
    // What is printed in a log must not break its lines.
    fits && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn globals(bytes: &[u8]) -> Option<Globals<'_>> {
    let (offset, bytes) = bytes.split_first_chunk::<8>()?;
    let offset = u64::from_le_bytes(*offset);
    offset.is_multiple_of(PAGE).then_some(Globals { offset, bytes })
}

fn function(bytes: &[u8]) -> Option<Function<'_>> {
    let (insn, rest) = bytes.split_first_chunk::<4>()?;
    Some(Function { insn: u32::from_le_bytes(*insn), name: name(rest)? })
}

/// Writes length and sum of what lies behind the header, whatever that is.
///
/// # Panics
/// If there is no room for a header.
pub fn seal(bytes: &mut [u8]) {
    let (length, sum) = (bytes.len() as u32, fnv(&bytes[HEADER..]));
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes[12..HEADER].copy_from_slice(&sum.to_le_bytes());
}

/// FNV-1a, 32 bits: notices what was cut, flipped or swapped on the way, not malice.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl fmt::Display for BadImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it does not begin as a program image does"),
            Self::Truncated { said, found } => {
                write!(f, "it is cut: {found} bytes of {said}")
            }
            Self::Sum => f.write_str("its bytes were changed on the way"),
            Self::Section(at) => {
                write!(f, "the section at byte {at} is cut, unknown, or there twice")
            }
            Self::Contents(at) => write!(f, "the section at byte {at} has contents that it cannot"),
            Self::Missing(what) => write!(f, "it lacks its {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::EXIT;

    fn sample() -> Vec<u8> {
        let mut builder = Builder::new("sample", &[Insn::new(EXIT, 0, 0, 0, 0); 3]);
        builder.arena(16).globals(4096, &[1, 2, 3]).function(2, "tail").budget(77);
        builder.segv_on_fault().attach("mm_page_alloc").build()
    }

    #[test]
    fn an_image_survives_its_bytes() {
        let bytes = sample();
        let image = Image::parse(&bytes).unwrap();
        assert_eq!((image.name(), image.attach()), ("sample", "mm_page_alloc"));
        assert_eq!((image.insns().len(), image.arena_pages(), image.budget()), (3, 16, 77));
        assert!(image.segv_on_fault());
        assert!(image.globals().eq([Globals { offset: 4096, bytes: &[1, 2, 3] }]));
        assert!(image.functions().eq([Function { insn: 2, name: "tail" }]));
    }

    #[test]
    fn an_image_cut_anywhere_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Image::parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Image::parse(&flipped).is_err(), "{bit}");
        }
    }

    #[test]
    fn what_an_image_says_must_make_sense() {
        let exit = [Insn::new(EXIT, 0, 0, 0, 0)];
        let refusal = |fill: &dyn Fn(&mut Builder)| {
            let mut builder = Builder::new("p", &exit);
            fill(&mut builder);
            Image::parse(&builder.build()).err()
        };
        assert_eq!(refusal(&|_| ()), None);
        assert_eq!(
            refusal(&|b| drop(b.globals(0, &[1]).build())),
            Some(BadImage::Missing("arena for its globals"))
        );
        assert!(matches!(refusal(&|b| drop(b.arena(0).build())), Some(BadImage::Contents(_))));
        assert!(matches!(
            refusal(&|b| drop(b.arena(2).arena(2).build())),
            Some(BadImage::Section(_))
        ));
        // Nothing at all, far outside.
        assert_eq!(
            refusal(&|b| drop(b.arena(1).globals(1 << 63, &[]).build())),
            Some(BadImage::Missing("arena for its globals"))
        );
        for budget in [0, MAX_BUDGET + 1] {
            let bad = refusal(&|b| drop(b.budget(budget).build()));
            assert!(matches!(bad, Some(BadImage::Contents(_))), "{budget}");
        }
        let shifted = |b: &mut Builder| drop(b.arena(2).globals(8, &[1]).build());
        assert!(matches!(refusal(&shifted), Some(BadImage::Contents(_))));
        assert!(matches!(
            refusal(&|b| drop(b.attach("two words").build())),
            Some(BadImage::Contents(_))
        ));
        assert_eq!(
            Image::parse(&Builder::new("p", &[]).build())
                .err()
                .map(|e| matches!(e, BadImage::Contents(_))),
            Some(true)
        );
    }
}
