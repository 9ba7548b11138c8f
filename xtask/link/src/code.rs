//! The code: the program's function and every function that it calls, one behind the other, with calls,
//! globals and kernel functions resolved.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, Result, bail, ensure};
use bpf::image::{self, MAX_NAME};
use bpf::insn::{CALL, GLOBAL_ARENA, GLOBAL_DATA, Insn, LD_IMM64, call, wide};
use bpf::kfunc::{Kfunc, TABLE};
use bpf::vm::MAX_INSNS;
use object::SectionIndex;

use super::data::Layout;
use super::elf::{Function, Object, Relocation, reloc};
use crate::nearest;

/// The section of functions that are no programs.
const TEXT: &str = ".text";
/// The section of maps.
const MAPS: &str = ".maps";

/// A program's code.
pub struct Code {
    /// Name of the program.
    pub name: String,
    /// Name of its section.
    pub section: String,
    /// The instructions.
    pub insns: Vec<Insn>,
    /// The functions, in order.
    pub functions: Vec<Placed>,
}

/// A function that has its place.
pub struct Placed {
    /// Its first instruction.
    pub insn: usize,
    /// Its name.
    pub name: String,
    /// Where it was: section, and byte in that.
    pub from: (SectionIndex, u64),
}

/// Links the one program of `object`.
///
/// # Errors
/// None or several programs, or something that cannot be resolved.
pub fn link(object: &Object<'_>, layout: &Layout) -> Result<Code> {
    let functions = object.functions()?;
    let (program, section) = the_program(object, &functions)?;
    let mut linker =
        Linker { object, layout, functions: &functions, code: Vec::new(), calls: vec![] };
    let mut placed = BTreeMap::new();
    let mut todo = VecDeque::from([program]);
    let mut order = Vec::new();
    while let Some(function) = todo.pop_front() {
        let key = (function.section.0, function.start);
        if placed.contains_key(&key) {
            continue;
        }
        ensure!(
            image::is_name(&function.name),
            "a function is called {}; a name has 1 to {MAX_NAME} printable ASCII characters",
            function.name
        );
        placed.insert(key, linker.code.len());
        order.push(Placed {
            insn: linker.code.len(),
            name: function.name.clone(),
            from: (function.section, function.start),
        });
        let called = linker.add(function).with_context(|| format!("function {}", function.name))?;
        todo.extend(called);
        ensure!(linker.code.len() <= MAX_INSNS, "more than {MAX_INSNS} instructions");
    }
    for (at, callee) in linker.calls {
        linker.code[at].imm = placed[&callee] as i32 - at as i32 - 1;
    }
    Ok(Code { name: program.name.clone(), section, insns: linker.code, functions: order })
}

/// The only function outside .text.
fn the_program<'f>(
    object: &Object<'_>,
    functions: &'f [Function],
) -> Result<(&'f Function, String)> {
    let mut programs = Vec::new();
    for function in functions {
        let section = object.section_name(function.section)?;
        if section != TEXT {
            programs.push((function, section));
        }
    }
    match programs.len() {
        1 => Ok(programs.remove(0)),
        0 => bail!("there is no program in it: no function with a SEC(\"...\")"),
        _ => {
            let names: Vec<_> = programs.iter().map(|(f, _)| f.name.as_str()).take(5).collect();
            let count = programs.len();
            bail!("there are {count} programs in it, and one can be run: {}", names.join(", "))
        }
    }
}

struct Linker<'a> {
    object: &'a Object<'a>,
    layout: &'a Layout,
    functions: &'a [Function],
    code: Vec<Insn>,
    /// Calls, and the section and first byte of what they call.
    calls: Vec<(usize, (usize, u64))>,
}

impl<'a> Linker<'a> {
    /// Adds a function's instructions; returns the functions that it calls.
    fn add(&mut self, function: &Function) -> Result<Vec<&'a Function>> {
        let bytes = self.object.section_bytes(function.section)?;
        let end = function.start.checked_add(function.size).context("its end is nowhere")?;
        let bytes = bytes.get(function.start as usize..end as usize).context("it is cut")?;
        let relocations: BTreeMap<u64, Relocation> =
            self.object.relocations(function.section)?.into_iter().map(|r| (r.offset, r)).collect();
        let (eights, _) = bytes.as_chunks::<8>();
        let mut called = Vec::new();
        let mut upper_half = None;
        for (n, eight) in eights.iter().enumerate() {
            let mut insn = Insn::decode(*eight);
            let offset = function.start + 8 * n as u64;
            if let Some(high) = upper_half.take() {
                insn.imm = high;
            } else if insn.code == CALL && insn.src() != call::HELPER {
                let relocation = relocations.get(&offset);
                called.extend(self.call(&mut insn, function, offset, relocation)?);
            } else if let Some(relocation) = relocations.get(&offset) {
                upper_half = Some(self.wide(&mut insn, relocation)?);
            }
            self.code.push(insn);
        }
        ensure!(upper_half.is_none(), "a wide instruction lacks its second half");
        Ok(called)
    }

    fn call(
        &mut self,
        insn: &mut Insn,
        function: &Function,
        offset: u64,
        relocation: Option<&Relocation>,
    ) -> Result<Option<&'a Function>> {
        // In instructions behind the call; clang counts from there, or from the symbol.
        let by = (i64::from(insn.imm) + 1) * 8;
        let (section, from) = match relocation {
            None => (function.section, offset),
            Some(Relocation { kind: reloc::R64_32, symbol, .. }) => match symbol.section {
                Some(section) => (section, symbol.value),
                None => {
                    *insn = Insn::new(CALL, 0, call::KFUNC, 0, kfunc(&symbol.name)?);
                    return Ok(None);
                }
            },
            Some(other) => bail!("a call of relocation {}", other.kind),
        };
        let start = from.checked_add_signed(by).context("a call to nowhere")?;
        let callee = self.functions.iter().find(|f| f.section == section && f.start == start);
        let callee = callee.with_context(|| {
            format!("the call at byte {offset} goes to no function (byte {start})")
        })?;
        *insn = Insn::new(CALL, 0, call::LOCAL, 0, 0);
        self.calls.push((self.code.len(), (section.0, start)));
        Ok(Some(callee))
    }

    /// Resolves a wide instruction's first half; returns the immediate of the second.
    fn wide(&self, insn: &mut Insn, relocation: &Relocation) -> Result<i32> {
        let name = &relocation.symbol.name;
        ensure!(
            relocation.kind == reloc::R64_64 && insn.code == LD_IMM64,
            "relocation {} of {name} is of no such instruction",
            relocation.kind
        );
        let dst = insn.dst();
        let Some(section) = relocation.symbol.section else {
            ensure!(relocation.symbol.is_weak, "{name} is not defined");
            // A weak symbol that nobody defines is null.
            *insn = Insn::new(LD_IMM64, dst, wide::CONST, 0, 0);
            return Ok(0);
        };
        if self.object.section_name(section)? == MAPS {
            *insn = Insn::new(LD_IMM64, dst, wide::MAP, 0, 0);
            return Ok(0);
        }
        let at = relocation.symbol.value.checked_add_signed(insn.imm.into());
        let place = at.and_then(|at| self.layout.place(section, at));
        let (offset, is_arena) = place.with_context(|| format!("{name} is no global"))?;
        let kind = if is_arena { GLOBAL_ARENA } else { GLOBAL_DATA };
        *insn = Insn::new(LD_IMM64, dst, wide::GLOBAL, 0, kind);
        Ok(offset as i32)
    }
}

fn kfunc(name: &str) -> Result<i32> {
    if let Some(signature) = Kfunc::from_name(name) {
        return Ok(signature.kfunc as i32);
    }
    let hint = nearest(name, TABLE.iter().map(|row| row.name))
        .map_or(String::new(), |near| format!("; did you mean {near}?"));
    bail!("there is no kernel function {name}{hint}")
}
