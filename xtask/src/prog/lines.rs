//! Source lines of instructions, from .BTF.ext where the object has it.

use super::Place;
use super::btf::Line;
use super::elf::Object;
use super::link::Code;

/// Where instructions come from: a place for each function, and for each line where lines are known.
pub fn places(object: &Object<'_>, code: &Code) -> Vec<Place> {
    let lines = object.lines();
    let mut places = Vec::new();
    for (n, function) in code.functions.iter().enumerate() {
        let next = code.functions.get(n + 1).map_or(code.insns.len(), |next| next.insn);
        let bytes = 8 * (next - function.insn) as u64;
        let place = |insn, line| Place { insn, function: function.name.clone(), line };
        places.push(place(function.insn, String::new()));
        let Ok(section) = object.section_name(function.from.0) else { continue };
        for Line { offset, text, .. } in lines.iter().filter(|line| line.section == section) {
            let inside = u64::from(*offset).checked_sub(function.from.1);
            if let Some(inside) = inside.filter(|inside| *inside < bytes) {
                places.push(place(function.insn + inside as usize / 8, text.clone()));
            }
        }
    }
    // Stable: of two that begin at one instruction the line comes last, and is found.
    places.sort_by_key(|place| place.insn);
    places
}
