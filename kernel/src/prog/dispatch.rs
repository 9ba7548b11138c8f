//! Kernel functions by number: what a program's `call` reaches.
//!
//! A pointer into the arena comes as the program has it, in either form; its low 32 bits are an offset
//! from the window's base, so it cannot point outside the window. Whether anything is mapped there is
//! checked by nobody: the abort handler answers. Pointers to words are aligned down, because an
//! unaligned access is another kind of fault, which is nobody's to recover.

use core::fmt::Write;

use arena::addr::VirtAddr;
use arena::arena::AllocError;
use arena::stream::Stream;
use arena::window::Window;
use bpf::kfunc::Kfunc;
use bpf::vm::{Stack, Stop, Trace};

use crate::arch::access;
use crate::prog::program::Program;
use crate::prog::{kfunc, printk};

/// Bytes that `fill_mask` may go past its pointer: a guard's width, so that it stays in the window.
const MASK_BYTES: u64 = arena::window::GUARD_BYTES;
/// Nodes that `follow_list` looks at, at most.
const MOST_NODES: u64 = 4096;
/// What functions return where Linux's do (asm-generic/errno-base.h).
mod errno {
    pub const NOENT: i64 = -2;
    pub const NOMEM: i64 = -12;
    pub const BUSY: i64 = -16;
    pub const INVAL: i64 = -22;
    pub const NOSPC: i64 = -28;
}
/// Any NUMA node: the only one there is (Linux `NUMA_NO_NODE`).
const NO_NODE: u32 = u32::MAX;

/// Who calls.
pub struct Call<'a> {
    /// The program.
    pub program: &'a Program,
    /// Its arena's window.
    pub window: Option<Window>,
    /// Where it stands.
    pub trace: &'a Trace,
    /// Its stack.
    pub stack: &'a dyn Stack,
}

/// Calls the kernel function `id`.
///
/// # Errors
/// [`Stop::Aborted`] if there is none such; a checked program calls no other.
pub fn dispatch(id: u32, args: [u64; 5], call: &Call<'_>) -> Result<u64, Stop> {
    let Some(signature) = Kfunc::from_id(id) else { return Err(Stop::Aborted) };
    let [a, b, c, d, e] = args;
    Ok(match signature.kfunc {
        Kfunc::ArenaAllocPages => call.alloc_pages(b, c as u32, d as u32, e),
        Kfunc::ArenaFreePages => call.free_pages(b, c as u32),
        Kfunc::ArenaReservePages => call.reserve_pages(b, c as u32) as u64,
        Kfunc::StreamPrintk => call.print(a, b, c, d as u32) as u64,
        Kfunc::StreamPrintStack => call.print_stack(a) as u64,
        Kfunc::ReadStruct => call.words(a).map_or(0, kfunc::read_struct),
        Kfunc::WriteStruct => call.words(a).map_or(0, |at| kfunc::write_struct(at, b)),
        Kfunc::FillMask => {
            call.words(a).map_or(0, |at| kfunc::fill_mask(at, b.min(8 * MASK_BYTES)))
        }
        Kfunc::FollowList => call.follow(a, b.min(MOST_NODES)),
        Kfunc::LeafRead => call.words(a).map_or(0, |at| kfunc::leaf_read_word(at.get())),
    })
}

impl Call<'_> {
    /// The kernel's address of an arena pointer.
    pub fn kernel(&self, pointer: u64) -> Option<VirtAddr> {
        Some(self.window?.base().offset(pointer & 0xffff_ffff))
    }

    /// The same for a pointer to words.
    fn words(&self, pointer: u64) -> Option<VirtAddr> {
        self.kernel(pointer & !7)
    }

    /// Copies memory that a program points to, its stack or its arena; `None` if it is neither or not
    /// mapped.
    pub fn copy(&self, pointer: u64, into: &mut [u8]) -> Option<()> {
        if self.stack.read(pointer, into) {
            return Some(());
        }
        let at = self.kernel(pointer)?;
        into.iter_mut().zip(0..).try_for_each(|(byte, n)| {
            *byte = access::probe_read_u8(at.offset(n)).ok()?;
            Some(())
        })
    }

    fn alloc_pages(&self, at: u64, pages: u32, node: u32, flags: u64) -> u64 {
        let Some(arena) = self.program.arena() else { return 0 };
        if flags != 0 || (node != NO_NODE && node != 0) {
            return 0;
        }
        let at = match at {
            0 => None,
            at => self.kernel(at),
        };
        let given = kfunc::arena_alloc_pages(self.program, at, pages);
        given.map_or(0, |page| arena.window().to_user(page).get())
    }

    /// The range is cut at the window's end, as Linux cuts it; nothing is freed for no pages and for a
    /// null pointer.
    fn free_pages(&self, at: u64, pages: u32) -> u64 {
        let (Some(arena), Some(from)) = (self.program.arena(), self.words(at & !0xfff)) else {
            return 0;
        };
        let first = ((at & 0xffff_ffff) >> 12) as u32;
        let pages = pages.min(arena.max_pages().saturating_sub(first));
        if at != 0 && pages > 0 {
            // A range that is the arena's cannot be refused.
            let _ = kfunc::arena_free_pages(self.program, from, pages);
        }
        0
    }

    fn reserve_pages(&self, at: u64, pages: u32) -> i64 {
        let (Some(arena), Some(from)) = (self.program.arena(), self.kernel(at)) else {
            return errno::INVAL;
        };
        if pages == 0 {
            return 0;
        }
        match arena.reserve(from, pages) {
            Ok(()) => 0,
            Err(AllocError::InUse | AllocError::Lock(_)) => errno::BUSY,
            Err(AllocError::NoMemory) => errno::NOMEM,
            Err(_) => errno::INVAL,
        }
    }

    fn stream(&self, id: u64) -> Option<&Stream> {
        match id as u32 {
            1 => Some(&self.program.stdout),
            2 => Some(&self.program.stderr),
            _ => None,
        }
    }

    fn print(&self, stream: u64, format: u64, args: u64, bytes: u32) -> i64 {
        let Some(stream) = self.stream(stream) else { return errno::NOENT };
        match printk::format(self, format, args, bytes) {
            None => errno::INVAL,
            Some(text) if !stream.put_text(text.as_bytes()) => errno::NOSPC,
            Some(text) => text.as_bytes().len() as i64,
        }
    }

    fn print_stack(&self, stream: u64) -> i64 {
        let Some(stream) = self.stream(stream) else { return errno::NOENT };
        let mut out = stream.writer();
        // A writer never fails: what does not fit is counted by the stream.
        let _ = out.write_str("Call trace:\n");
        for insn in self.trace.frames() {
            let _ = out.write_fmt(format_args!("  insn {insn}\n"));
        }
        0
    }

    /// The sum of the words behind the pointers of a list. A node that a wild pointer leads to is
    /// scratch, whose next pointer is whatever was left there; the count ends it.
    fn follow(&self, head: u64, most: u64) -> u64 {
        let (mut node, mut sum) = (head, 0u64);
        for _ in 0..most {
            if node & 0xffff_ffff == 0 {
                break;
            }
            let Some(at) = self.words(node) else { break };
            node = kfunc::read_word(at);
            sum = sum.wrapping_add(kfunc::read_word(at.offset(8)));
        }
        sum
    }
}
