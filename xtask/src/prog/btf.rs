//! The BPF type format, as much of it as tells of maps and of source lines (Linux
//! Documentation/bpf/btf.rst). The crates that read it refuse sections that they do not know, or are not
//! under our licence.

use anyhow::{Context, Result};

use super::map::Map;

/// Kinds of types.
mod kind {
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const ENUM64: u32 = 19;
}

const MAGIC: u32 = 0xeb9f;

/// Types and strings of an object.
pub struct Btf<'a> {
    types: Vec<Type<'a>>,
    strings: &'a [u8],
}

/// One type: its common words, and those of its kind behind them.
#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    /// Number of members, variables, ...
    len: u32,
    /// Size, or the type that it is about.
    about: u32,
    words: &'a [u8],
}

/// A line of the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Section of the instructions.
    pub section: String,
    /// Byte in that from which it holds.
    pub offset: u32,
    /// `file:line`.
    pub text: String,
}

impl<'a> Btf<'a> {
    /// Reads section `.BTF`.
    ///
    /// # Errors
    /// It is cut, or no BTF.
    pub fn parse(section: &'a [u8]) -> Result<Self> {
        let parts = parse(section);
        parts.context("section .BTF is cut or of another version")
    }

    /// The maps that section `.maps` defines.
    ///
    /// # Errors
    /// One that does not say its type.
    pub fn maps(&self) -> Result<Vec<Map>> {
        let is_maps =
            |t: &&Type<'_>| t.kind == kind::DATASEC && self.string(t.name) == Some(".maps");
        let Some(section) = self.types.iter().find(is_maps) else { return Ok(Vec::new()) };
        let variables =
            (0..section.len as usize).filter_map(|n| self.get(word(section.words, 3 * n)?));
        variables.filter(|variable| variable.kind == kind::VAR).map(|v| self.map(v)).collect()
    }

    /// The lines that section `.BTF.ext` knows; none if it is cut.
    pub fn lines(&self, ext: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        // What was read before a cut is right.
        let _ = self.read_lines(ext, &mut lines);
        lines
    }

    fn map(&self, variable: Type<'_>) -> Result<Map> {
        let name = self.string(variable.name).unwrap_or("?").to_string();
        let definition = self.get(variable.about).filter(|t| t.kind == kind::STRUCT);
        let definition = definition.with_context(|| format!("map {name} is no struct"))?;
        let number = |wanted: &str| {
            let members = (0..definition.len as usize).map(|n| 3 * n);
            let member = |at: &usize| {
                let name = word(definition.words, *at)?;
                self.string(name).filter(|name| *name == wanted)
            };
            let at = members.into_iter().find(|at| member(at).is_some())?;
            self.number(self.get(word(definition.words, at + 1)?)?)
        };
        let kind = number("type").with_context(|| format!("map {name} does not say its type"))?;
        let or_zero = |wanted| number(wanted).unwrap_or(0);
        Ok(Map {
            name,
            kind,
            max_entries: or_zero("max_entries"),
            key_size: or_zero("key_size"),
            value_size: or_zero("value_size"),
            map_flags: or_zero("map_flags"),
            map_extra: or_zero("map_extra"),
        })
    }

    /// The number that a member's type stands for: `int (*name)[number]`, or the only value of an
    /// enumeration, which can have 64 bits.
    fn number(&self, of: Type<'_>) -> Option<u64> {
        match of.kind {
            kind::PTR => {
                let array = self.get(of.about).filter(|to| to.kind == kind::ARRAY)?;
                word(array.words, 2).map(u64::from)
            }
            kind::ENUM => word(of.words, 1).map(u64::from),
            kind::ENUM64 => {
                let (low, high) = (word(of.words, 1)?, word(of.words, 2)?);
                Some(u64::from(high) << 32 | u64::from(low))
            }
            _ => None,
        }
    }

    fn read_lines(&self, ext: &[u8], lines: &mut Vec<Line>) -> Option<()> {
        let header = word(ext, 1)? as usize;
        let (offset, length) = (word(ext, 4)? as usize, word(ext, 5)? as usize);
        let info = ext.get(header.checked_add(offset)?..)?.get(..length)?;
        let record = word(info, 0)? as usize;
        let mut at = 4;
        while record >= 16 && at + 8 <= info.len() {
            let section = self.string(word(&info[at..], 0)?)?;
            let count = word(&info[at..], 1)? as usize;
            at += 8;
            for _ in 0..count {
                let fields = info.get(at..)?;
                let file = self.string(word(fields, 1)?)?;
                let file = file.rsplit('/').next().unwrap_or(file);
                let text = format!("{file}:{}", word(fields, 3)? >> 10);
                lines.push(Line { section: section.into(), offset: word(fields, 0)?, text });
                at += record;
            }
        }
        Some(())
    }

    /// The type with this number; 0 is none.
    fn get(&self, id: u32) -> Option<Type<'a>> {
        self.types.get((id as usize).checked_sub(1)?).copied()
    }

    fn string(&self, offset: u32) -> Option<&'a str> {
        let bytes = self.strings.get(offset as usize..)?.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(bytes).ok()
    }
}

fn parse(section: &[u8]) -> Option<Btf<'_>> {
    if word(section, 0)? & 0xffff != MAGIC {
        return None;
    }
    let header = word(section, 1)? as usize;
    let part = |n: usize| {
        let (offset, length) = (word(section, n)? as usize, word(section, n + 1)? as usize);
        section.get(header.checked_add(offset)?..)?.get(..length)
    };
    let (mut rest, strings) = (part(2)?, part(4)?);
    let mut types = Vec::new();
    while !rest.is_empty() {
        let info = word(rest, 1)?;
        let (kind, len) = (info >> 24 & 0x1f, info & 0xffff);
        let bytes = extra(kind, len as usize)?;
        let words = rest.get(12..)?.get(..bytes)?;
        types.push(Type { name: word(rest, 0)?, kind, len, about: word(rest, 2)?, words });
        rest = &rest[12 + bytes..];
    }
    Some(Btf { types, strings })
}

/// Bytes behind the common words of a type.
fn extra(of_kind: u32, len: usize) -> Option<usize> {
    Some(match of_kind {
        // Pointers, forwards, typedefs, qualifiers, functions, floats, type tags.
        kind::PTR | 7..=12 | 16 | 18 => 0,
        // Integers, variables, declaration tags.
        1 | kind::VAR | 17 => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * len,
        // Enumerations, prototypes.
        kind::ENUM | 13 => 8 * len,
        _ => return None,
    })
}

/// The `n`th word.
fn word(bytes: &[u8], n: usize) -> Option<u32> {
    let four = bytes.get(4 * n..)?.get(..4)?.try_into().ok()?;
    Some(u32::from_le_bytes(four))
}
