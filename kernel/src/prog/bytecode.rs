//! Programs as eBPF bytecode: the interpreter of crate `bpf` on this machine.
//!
//! Each access of a program to its arena is one instruction of its width, which may fault: the fixup
//! zeroes what was to be loaded, the violation is reported, and the program goes on. Accesses that are
//! not aligned are made byte by byte, as SCTLR_EL1.A is on.

use alloc::boxed::Box;
use alloc::vec::Vec;

use arena::addr::VirtAddr;
use arena::window::Window;
use bpf::image::Image;
use bpf::insn::{Insn, Width};
use bpf::interp::{self, Start};
use bpf::vm::{self, ArenaOffset, AtomicOp, CTX_WORDS, Machine, Stack, Stop, Trace};

use crate::arch::access::{self, Faulted};
use crate::prog::dispatch::{self, Call};
use crate::prog::program::{Code, Program};
use crate::prog::running;

/// The code of a program that was loaded from an image.
pub struct Bytecode {
    insns: Box<[Insn]>,
    budget: u64,
}

/// A run of a program, as the interpreter's machine.
struct Running<'p> {
    program: &'p Program,
    window: Option<Window>,
    trace: &'p Trace,
}

impl Bytecode {
    /// Takes the code out of `image`; no run of it executes more than `budget` instructions. `None`
    /// without memory.
    pub fn new(image: &Image<'_>, budget: u64) -> Option<Self> {
        let mut insns = Vec::new();
        insns.try_reserve_exact(image.insns().len()).ok()?;
        insns.extend(image.insns());
        Some(Self { insns: insns.into_boxed_slice(), budget: image.budget().min(budget) })
    }

    /// Its instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }
}

impl Code for Bytecode {
    fn run(&self, program: &Program, argument: u64) -> u64 {
        let trace = Trace::new();
        let traced = running::trace(&trace);
        let window = program.arena().map(|arena| arena.window());
        let mut machine = Running { program, window, trace: &trace };
        let mut ctx = [0; CTX_WORDS];
        ctx[0] = argument;
        let start = Start { ctx, budget: self.budget };
        let outcome =
            interp::run(&vm::Program { insns: &self.insns }, &mut machine, &trace, &start);
        drop(traced);
        match outcome {
            Ok(value) => value,
            Err(stop) => {
                program.stopped(stop);
                0
            }
        }
    }
}

impl Running<'_> {
    /// The kernel's address of a place in the arena; `None` without an arena, which a checked program
    /// does not access.
    fn address(&self, at: ArenaOffset) -> Option<VirtAddr> {
        let base = self.window?.base().get();
        Some(VirtAddr::new(base.wrapping_add_signed(at.get())))
    }
}

impl Machine for Running<'_> {
    fn load(&mut self, at: ArenaOffset, width: Width, ordered: bool) -> u64 {
        let Some(at) = self.address(at) else { return 0 };
        if !at.get().is_multiple_of(width.bytes()) {
            // From the last byte on, and no further than the first that faults: one report.
            let bytes = (0..width.bytes()).rev().map(|n| access::probe_read_u8(at.offset(n)));
            let word = |word: u64, byte| Ok::<_, Faulted>(word << 8 | u64::from(byte?));
            return bytes.into_iter().try_fold(0, word).unwrap_or(0);
        }
        // Where nothing is mapped a load gives zero; the abort handler has reported it.
        match (width, ordered) {
            (Width::Byte, false) => access::probe_read_u8(at).unwrap_or(0).into(),
            (Width::Half, false) => access::probe_read_u16(at).unwrap_or(0).into(),
            (Width::Word, false) => access::probe_read_u32(at).unwrap_or(0).into(),
            (Width::Double, false) => access::probe_read_u64(at).unwrap_or(0),
            (Width::Byte, true) => access::probe_acquire_u8(at).unwrap_or(0).into(),
            (Width::Half, true) => access::probe_acquire_u16(at).unwrap_or(0).into(),
            (Width::Word, true) => access::probe_acquire_u32(at).unwrap_or(0).into(),
            (Width::Double, true) => access::probe_acquire_u64(at).unwrap_or(0),
        }
    }

    fn store(&mut self, at: ArenaOffset, width: Width, value: u64, ordered: bool) {
        let Some(at) = self.address(at) else { return };
        // SAFETY: an arena's window and guards hold no Rust values, and `address` leads nowhere else.
        let stored = unsafe {
            if !at.get().is_multiple_of(width.bytes()) {
                let bytes = value.to_le_bytes();
                let mut each = bytes[..width.bytes() as usize].iter().zip(0..);
                each.try_for_each(|(&byte, n)| access::probe_write_u8(at.offset(n), byte))
            } else {
                match (width, ordered) {
                    (Width::Byte, false) => access::probe_write_u8(at, value as u8),
                    (Width::Half, false) => access::probe_write_u16(at, value as u16),
                    (Width::Word, false) => access::probe_write_u32(at, value as u32),
                    (Width::Double, false) => access::probe_write_u64(at, value),
                    (Width::Byte, true) => access::probe_release_u8(at, value as u8),
                    (Width::Half, true) => access::probe_release_u16(at, value as u16),
                    (Width::Word, true) => access::probe_release_u32(at, value as u32),
                    (Width::Double, true) => access::probe_release_u64(at, value),
                }
            }
        };
        // A store to what is not mapped vanishes; the abort handler has reported it.
        let _ = stored;
    }

    fn atomic(&mut self, at: ArenaOffset, width: Width, op: AtomicOp, operand: u64) -> Option<u64> {
        let at = self.address(at)?;
        if !at.get().is_multiple_of(width.bytes()) {
            return None;
        }
        // SAFETY: as in `store`.
        let old = unsafe { access::probe_atomic(at, width == Width::Double, op, operand) };
        Some(old.unwrap_or(0))
    }

    fn call(&mut self, id: u32, args: [u64; 5], stack: &dyn Stack) -> Result<u64, Stop> {
        let call = Call { program: self.program, window: self.window, trace: self.trace, stack };
        dispatch::dispatch(id, args, &call)
    }

    fn should_stop(&self) -> bool {
        self.program.life().is_aborted()
    }
}
