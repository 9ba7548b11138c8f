//! Source lines of instructions, from .BTF.ext where the object has it.

use std::collections::BTreeMap;

use super::Place;
use super::btf::Line;
use super::code::Code;
use super::elf::Object;

/// Where instructions come from: a place for each function, and for each line where lines are known.
pub fn places(object: &Object<'_>, code: &Code) -> Vec<Place> {
    // Of several that hold from one byte on, the last is told.
    let by_place = object.lines().into_iter().map(|line| ((line.section, line.offset), line));
    let lines: BTreeMap<_, _> = by_place.collect();
    let mut places = Vec::new();
    for (n, function) in code.functions.iter().enumerate() {
        let next = code.functions.get(n + 1).map_or(code.insns.len(), |next| next.insn);
        let bytes = 8 * (next - function.insn) as u64;
        let place = |insn, line| Place { insn, function: function.name.clone(), line };
        places.push(place(function.insn, String::new()));
        let Ok(section) = object.section_name(function.from.0) else { continue };
        let start = function.from.1;
        let byte = |at: u64| (section.as_str(), u32::try_from(at).unwrap_or(u32::MAX));
        for (_, Line { offset, file, line, .. }) in lines.range(byte(start)..byte(start + bytes)) {
            let inside = u64::from(*offset) - start;
            places.push(place(function.insn + inside as usize / 8, format!("{file}:{line}")));
        }
    }
    // Stable: of two that begin at one instruction the line comes last, and is found.
    places.sort_by_key(|place| place.insn);
    places
}
