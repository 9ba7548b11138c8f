//! Loading: from the bytes of an image to a program that can be attached or run.

use alloc::sync::Arc;
use core::fmt;

use arena::addr::PAGE_SIZE;
use arena::arena::{AllocError, CreateError};
use arena::stream::DEFAULT_BYTES;
use bpf::check::{self, Rejection};
use bpf::image::{BadImage, Globals, Image, MAX_BUDGET};
use bpf::vm;

use crate::arch::access;
use crate::mem::arena::KernelArena;
use crate::mem::fallible::try_box;
use crate::prog::bytecode::Bytecode;
use crate::prog::program::Program;

/// Why an image was not loaded. Nothing is left of it.
#[derive(Debug)]
pub enum LoadError {
    /// The bytes are no image.
    Image(BadImage),
    /// The program is not let in.
    Rejected(Rejection),
    /// Its arena could not be made.
    Arena(CreateError),
    /// Its globals could not be placed.
    Globals(AllocError),
    /// No memory for the program.
    NoMemory,
}

/// What a program gets that its image does not say.
pub struct Terms {
    /// The arena that it shares with others, if it wants one; `None`: one of its own.
    pub arena: Option<Arc<KernelArena>>,
    /// Bytes of each stream.
    pub stream_bytes: usize,
    /// Instructions of a run, unless the image asks for fewer.
    pub budget: u64,
}

impl Terms {
    /// An arena of its own, streams as large as Linux's, and the budget that it asks for.
    pub const USUAL: Self = Self { arena: None, stream_bytes: DEFAULT_BYTES, budget: MAX_BUDGET };
}

/// Loads a program with an arena of its own, if it wants one, filled with its globals.
///
/// # Errors
/// [`LoadError`].
pub fn load(bytes: &[u8]) -> Result<Arc<Program>, LoadError> {
    load_on(Terms::USUAL, bytes)
}

/// The same on other terms.
///
/// # Errors
/// [`LoadError`].
pub fn load_on(terms: Terms, bytes: &[u8]) -> Result<Arc<Program>, LoadError> {
    let image = Image::parse(bytes).map_err(LoadError::Image)?;
    // Before the arena is made: what is refused costs nothing.
    let code = checked(&image, terms.budget)?;
    let arena = match (image.arena_pages(), terms.arena) {
        (0, _) => None,
        (_, Some(shared)) => Some(shared),
        (pages, None) => {
            let arena = KernelArena::create(pages).map_err(LoadError::Arena)?;
            arena.set_fault_on_unallocated(image.segv_on_fault());
            Some(arena)
        }
    };
    if let Some(arena) = &arena {
        image.globals().try_for_each(|part| place(arena, part)).map_err(LoadError::Globals)?;
    }
    let code = try_box(code).map_err(|_| LoadError::NoMemory)?;
    Program::load_owned(image.name(), code, arena, terms.stream_bytes)
        .map_err(|_| LoadError::NoMemory)
}

/// The tracepoint that the image of a loaded program names; empty if it is run directly.
pub fn attach_point(bytes: &[u8]) -> &str {
    Image::parse(bytes).map_or("", |image| image.attach())
}

/// The code of `image`, let in.
fn checked(image: &Image<'_>, budget: u64) -> Result<Bytecode, LoadError> {
    let code = Bytecode::new(image, budget).ok_or(LoadError::NoMemory)?;
    check::check(&vm::Program { insns: code.insns() }, image.arena_pages() > 0)
        .map_err(LoadError::Rejected)?;
    Ok(code)
}

/// Allocates the pages of a part of the globals and fills them.
fn place(arena: &KernelArena, part: Globals<'_>) -> Result<(), AllocError> {
    let pages = (part.bytes.len() as u64).div_ceil(PAGE_SIZE).max(1) as u32;
    let at = arena.window().base().offset(part.offset);
    arena.alloc(Some(at), pages)?;
    for (byte, n) in part.bytes.iter().zip(0..) {
        // SAFETY: the page was allocated above, for nobody but this program, which is not loaded yet.
        let _ = unsafe { access::probe_write_u8(at.offset(n), *byte) };
    }
    Ok(())
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(bad) => write!(f, "program image: {bad}"),
            Self::Rejected(rejection) => write!(f, "program rejected: {rejection}"),
            Self::Arena(error) => error.fmt(f),
            Self::Globals(error) => write!(f, "globals: {error}"),
            Self::NoMemory => f.write_str("no memory for the program"),
        }
    }
}
