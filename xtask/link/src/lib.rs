//! Programs that a person brings: from an object file of `clang -target bpf` to the image that the
//! guest loads.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod btf;
mod code;
mod data;
mod elf;
mod lines;
mod map;

use anyhow::{Result, bail, ensure};
use bpf::check;
use bpf::image::Builder;
use bpf::insn::Insn;
use bpf::vm;

use map::Arena;

/// Tracepoints that the kernel has.
const TRACEPOINTS: &[&str] = &["mm_page_alloc", "mm_page_free", "sched_tick"];

/// Characters of a name that is told.
const LONGEST: usize = 100;

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

/// What a person says of a program that its object does not, or says otherwise.
#[derive(Clone, Default, Debug)]
pub struct Options {
    /// The tracepoint that it is attached to.
    pub attach: Option<String>,
    /// Pages of its arena.
    pub arena_pages: Option<u32>,
    /// Instructions that a run may execute.
    pub budget: Option<u64>,
}

/// Links the program in the bytes of an object file.
///
/// # Errors
/// What is wrong with the object, or why the program would be refused, in one line.
pub fn link(bytes: &[u8], options: &Options) -> Result<Linked> {
    let object = elf::Object::parse(bytes)?;
    let layout = data::Layout::of(&object)?;
    let code = code::link(&object, &layout)?;
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

/// A name of the object's as it can be told: what is no printable character is one all the same, and
/// what is too long for a line is cut.
fn shown(name: &str) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    name.chars().take(LONGEST).map(plain).collect()
}

/// The known name that is most like `name`, if any is.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests;
