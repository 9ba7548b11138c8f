//! The BPF type format, as much of it as tells of maps and of source lines (Linux
//! Documentation/bpf/btf.rst). The crates that read it refuse sections that they do not know, or are not
//! under our licence.

use anyhow::{Context, Result, ensure};

use super::map::Map;
use super::shown;

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
/// Longest text that is read: what is longer is no name, and would be gone through for each that asks.
const LONGEST: usize = 1024;
/// Most variables of section `.maps` that are looked at.
const MOST_MAPS: u32 = 8;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    /// Section of the instructions.
    pub section: &'a str,
    /// Byte in that from which it holds.
    pub offset: u32,
    /// Name of the file, without folders.
    pub file: &'a str,
    /// Number of the line.
    pub line: u32,
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
        let is_maps = |t: &&Type<'_>| t.kind == kind::DATASEC && self.is_called(t.name, ".maps");
        let Some(section) = self.types.iter().find(is_maps) else { return Ok(Vec::new()) };
        ensure!(section.len <= MOST_MAPS, "the program has {} maps; it may have one", section.len);
        let variables =
            (0..section.len as usize).filter_map(|n| self.get(word(section.words, 3 * n)?));
        variables.filter(|variable| variable.kind == kind::VAR).map(|v| self.map(v)).collect()
    }

    /// The lines that section `.BTF.ext` knows; none if it is cut.
    pub fn lines(&self, ext: &[u8]) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        // What was read before a cut is right.
        let _ = self.read_lines(ext, &mut lines);
        lines
    }

    fn map(&self, variable: Type<'_>) -> Result<Map> {
        let name = shown(self.string(variable.name).unwrap_or("?"));
        let definition = self.get(variable.about).filter(|t| t.kind == kind::STRUCT);
        let definition = definition.with_context(|| format!("map {name} is no struct"))?;
        let number = |wanted: &str| {
            let members = (0..definition.len as usize).map(|n| 3 * n);
            let is_it = |at: &usize| {
                word(definition.words, *at).is_some_and(|name| self.is_called(name, wanted))
            };
            let at = members.into_iter().find(is_it)?;
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

    fn read_lines(&self, ext: &[u8], lines: &mut Vec<Line<'a>>) -> Option<()> {
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
                let (offset, line) = (word(fields, 0)?, word(fields, 3)? >> 10);
                lines.push(Line { section, offset, file, line });
                at += record;
            }
        }
        Some(())
    }

    /// The type with this number; 0 is none.
    fn get(&self, id: u32) -> Option<Type<'a>> {
        self.types.get((id as usize).checked_sub(1)?).copied()
    }

    fn is_called(&self, offset: u32, name: &str) -> bool {
        let rest = self.strings.get(offset as usize..);
        rest.and_then(|bytes| bytes.strip_prefix(name.as_bytes()))
            .is_some_and(|b| b.first() == Some(&0))
    }

    fn string(&self, offset: u32) -> Option<&'a str> {
        let bytes = self.strings.get(offset as usize..)?;
        let end = bytes.iter().take(LONGEST + 1).position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Section .BTF of these types and strings.
    fn section(types: &[u8], strings: &[u8]) -> Vec<u8> {
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        let header = words(&[MAGIC, 24, 0, types_len, types_len, strings_len]);
        [&header, types, strings].concat()
    }

    /// Was gigabytes: a file's name was copied for each line, and could be as long as the object.
    #[test]
    fn a_text_of_any_length_is_not_copied_for_each_line() {
        let section = section(&[], &[&[b'a'; 1 << 20][..], b"\0.text\0"].concat());
        let btf = Btf::parse(&section).unwrap();
        let records = 50_000;
        let mut info = words(&[16, (1 << 20) + 1, records]);
        (0..records).for_each(|n| info.extend(words(&[8 * n, 0, 0, 7 << 10])));
        let ext = [words(&[MAGIC, 24, 0, 0, 0, info.len() as u32]), info].concat();
        assert_eq!(btf.lines(&ext), []);
        // The end of the same text is a name.
        let mut near = ext;
        near[24 + 12 + 4..][..4].copy_from_slice(&((1 << 20) - 3_u32).to_le_bytes());
        let [Line { section, file, line, .. }] = btf.lines(&near)[..] else { panic!("no line") };
        assert_eq!((section, file, line), (".text", "aaa", 7));
    }

    /// Was hours: each of many maps was looked for in all members of one large struct.
    #[test]
    fn a_crowd_of_maps_is_refused() {
        let count = 0xffff;
        let mut types = words(&[0, kind::STRUCT << 24 | count, 0]);
        types.extend(vec![0; 12 * count as usize]);
        types.extend(words(&[1, kind::VAR << 24, 1, 0]));
        types.extend(words(&[1, kind::DATASEC << 24 | count, 0]));
        types.extend(words(&[2, 0, 0]).repeat(count as usize));
        let section = section(&types, b"\0.maps\0");
        let error = Btf::parse(&section).unwrap().maps().unwrap_err().to_string();
        assert_eq!(error, "the program has 65535 maps; it may have one");
    }
}
