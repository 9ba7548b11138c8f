//! Globals: every data section has its place in the first pages of the arena, those of address space 1
//! behind the others.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bpf::vm::ARENA_USER_BASE;
use object::SectionIndex;

use super::elf::{Object, reloc};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Bytes before the first global: no global has the address of a null pointer.
const BEFORE: u64 = 64;
/// Most bytes of globals.
const MOST: u64 = 4 << 20;
/// The section of globals that programs know by their user form.
const ARENA_SECTION: &str = ".addr_space.1";

/// Where each data section lies.
pub struct Layout {
    places: BTreeMap<usize, Section>,
    /// The initial contents, from the arena's base on; empty without globals.
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Section {
    offset: u64,
    size: u64,
    is_arena: bool,
}

impl Layout {
    /// Gives every data section its place, and fills it.
    ///
    /// # Errors
    /// Too much, a section that is cut, or a relocation that cannot be.
    pub fn of(object: &Object<'_>) -> Result<Self> {
        let mut sections = object.data_sections()?;
        sections.sort_by_key(|(_, name, ..)| name.starts_with(ARENA_SECTION));
        let (mut places, mut end) = (BTreeMap::new(), BEFORE);
        for (index, name, size, align) in &sections {
            ensure!(align.is_power_of_two(), "section {name} is aligned to {align}");
            let offset = end.checked_next_multiple_of(*align).context("too many globals")?;
            end =
                offset.checked_add(*size).filter(|end| *end <= MOST).context("too many globals")?;
            let is_arena = name.starts_with(ARENA_SECTION);
            places.insert(index.0, Section { offset, size: *size, is_arena });
        }
        let mut layout = Self { places, bytes: Vec::new() };
        if sections.is_empty() {
            return Ok(layout);
        }
        layout.bytes.resize(end as usize, 0);
        for (index, name, ..) in &sections {
            layout.fill(object, *index).with_context(|| format!("section {name}"))?;
        }
        Ok(layout)
    }

    /// Where byte `at` of a section lies in the arena, and whether programs know it by its user form.
    /// `None` if the section holds no globals or ends before.
    pub fn place(&self, section: SectionIndex, at: u64) -> Option<(u64, bool)> {
        let place = self.places.get(&section.0)?;
        // One past the end is a pointer that programs make.
        (at <= place.size).then(|| (place.offset + at, place.is_arena))
    }

    fn fill(&mut self, object: &Object<'_>, index: SectionIndex) -> Result<()> {
        let offset = self.places[&index.0].offset as usize;
        if !object.is_bss(index) {
            let bytes = object.section_bytes(index)?;
            let room = self.bytes.get_mut(offset..offset + bytes.len());
            room.context("longer than it says")?.copy_from_slice(bytes);
        }
        for relocation in object.relocations(index)? {
            ensure!(relocation.kind == reloc::ABS64, "a pointer of relocation {}", relocation.kind);
            let size = self.places[&index.0].size;
            let is_inside = relocation.offset.checked_add(8).is_some_and(|end| end <= size);
            ensure!(is_inside, "a pointer behind its end");
            let at = offset + relocation.offset as usize;
            let word = self.bytes[at..].first_chunk::<8>().context("a pointer behind its end")?;
            let addend = u64::from_le_bytes(*word);
            let name = &relocation.symbol.name;
            let target = relocation.symbol.value.wrapping_add(addend);
            let place = relocation.symbol.section.and_then(|section| self.place(section, target));
            let (place, is_arena) = place.with_context(|| format!("{name} is no global"))?;
            let base = if is_arena { ARENA_USER_BASE } else { 0 };
            self.bytes[at..at + 8].copy_from_slice(&(base + place).to_le_bytes());
        }
        Ok(())
    }
}
