//! Programs that a person brings: from an object file of `clang -target bpf` to the image that the
//! guest loads.

mod btf;
mod data;
mod elf;
mod lines;
mod link;
mod map;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bpf::check;
use bpf::image::Builder;
use bpf::insn::Insn;
use bpf::vm;

use crate::cli::Prog;
use crate::machine::nearest;
use map::Arena;

/// Tracepoints that the kernel has.
const TRACEPOINTS: &[&str] = &["mm_page_alloc", "mm_page_free", "sched_tick"];

/// A program, ready for the guest.
pub struct Linked {
    /// The image.
    pub image: Vec<u8>,
    /// Where its instructions come from.
    places: Vec<Place>,
}

/// Where an instruction comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The first instruction of which this is true.
    pub insn: usize,
    /// The function.
    pub function: String,
    /// File and line; empty without debug information.
    pub line: String,
}

/// Links the program of `options`.
///
/// # Errors
/// What is wrong with the object, or why the program would be refused, in one line.
pub fn link(options: &Prog) -> Result<Linked> {
    let path = options.prog.as_deref().context("no object file was named")?;
    let bytes =
        std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    link_bytes(&bytes, options).with_context(|| format!("{}", path.display()))
}

/// [`link()`] for the contents of an object file.
///
/// # Errors
/// As [`link()`].
pub fn link_bytes(bytes: &[u8], options: &Prog) -> Result<Linked> {
    let object = elf::Object::parse(bytes)?;
    let layout = data::Layout::of(&object)?;
    let code = link::link(&object, &layout)?;
    let attach = attach_point(options.attach.as_deref(), &code.section)?;
    let arena = object.arena()?;
    let pages = arena_pages(arena, &layout, options.arena_pages)?;
    let places = lines::places(&object, &code);
    let_in(&code.insns, pages > 0, &places)?;
    let mut image = Builder::new(&code.name, &code.insns);
    image.attach(attach);
    if pages > 0 {
        image.arena(pages);
    }
    if arena.is_some_and(|arena| arena.segv_on_fault) {
        image.segv_on_fault();
    }
    if !layout.bytes.is_empty() {
        image.globals(0, &layout.bytes);
    }
    for function in &code.functions {
        image.function(function.insn as u32, &function.name);
    }
    if let Some(budget) = options.budget {
        image.budget(budget);
    }
    Ok(Linked { image: image.build(), places })
}

impl Linked {
    /// What a line of the guest's log says of an instruction (`insn 12`), in the words of the source.
    pub fn place_in(&self, line: &str) -> Option<String> {
        let number = line.split_once("insn ")?.1;
        let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
        describe(&self.places, digits.parse().ok()?)
    }
}

/// Function and line of an instruction.
fn describe(places: &[Place], insn: usize) -> Option<String> {
    let place = places.iter().rev().find(|place| place.insn <= insn)?;
    Some(match place.line.as_str() {
        "" => place.function.clone(),
        line => format!("{} at {line}", place.function),
    })
}

/// The guest's own check, before anything is booted.
fn let_in(insns: &[Insn], has_arena: bool, places: &[Place]) -> Result<()> {
    check::check(&vm::Program { insns }, has_arena).map_err(|rejection| {
        let place = describe(places, rejection.insn).map_or(String::new(), |at| format!(" ({at})"));
        anyhow::anyhow!("the program is rejected: {rejection}{place}")
    })
}

/// What `--attach` says, or else the name of the program's section.
fn attach_point<'a>(asked: Option<&'a str>, section: &'a str) -> Result<&'a str> {
    let name = match asked {
        Some(name) => name,
        None if matches!(section, "syscall" | "run") => return Ok(""),
        None => match section.split_once('/') {
            Some(("tp" | "tp_btf" | "raw_tp" | "tracepoint", name)) => {
                name.rsplit('/').next().unwrap_or(name)
            }
            _ => bail!(
                "section {section} names no tracepoint; say which with --attach ({})",
                TRACEPOINTS.join(", ")
            ),
        },
    };
    if TRACEPOINTS.contains(&name) {
        return Ok(name);
    }
    let hint = nearest(name, TRACEPOINTS.iter().copied())
        .map_or(String::new(), |near| format!("; did you mean {near}?"));
    bail!("there is no tracepoint {name}{hint} (there are {})", TRACEPOINTS.join(", "))
}

/// Pages of the arena: what was asked for, else what the map says, else what the globals need.
fn arena_pages(arena: Option<Arena>, layout: &data::Layout, asked: Option<u32>) -> Result<u32> {
    let needed = layout.bytes.len().div_ceil(data::PAGE) as u32;
    let pages = asked.or(arena.map(|arena| arena.pages)).unwrap_or(needed);
    ensure!(pages >= needed, "its globals take {needed} pages of an arena of {pages}");
    Ok(pages)
}

/// Where the guest is handed the image.
pub fn qemu_arguments(file: &Path) -> [String; 2] {
    ["-fw_cfg".into(), format!("name=opt/org.faultline/prog,file={}", file.display())]
}

#[cfg(test)]
mod tests;
