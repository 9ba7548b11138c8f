//! A program that checks itself, in the manner of Linux's own tests: it returns 0, or the number of the
//! first check that did not hold.

use alloc::sync::Arc;

use bpf::asm::{Asm, R0, R1, R2, R3, R4, R5};
use bpf::insn::{Reg, Width, jmp};
use bpf::kfunc::Kfunc;

use crate::prog::load;
use crate::prog::program::Program;
use crate::runner::{Failure, Outcome, claim};

/// Where every program sees its arena.
pub const BASE: u64 = 0x1_0000_0000;
/// Bytes of a page.
pub const PAGE: u32 = 4096;
/// A program in the making.
pub struct Steps {
    /// For what is no check.
    pub asm: Asm,
    checks: i32,
}

impl Steps {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { asm: Asm::new(), checks: 0 }
    }

    /// Allocates `pages` pages, at the page `at` of the arena if that is given; keeps the pointer in
    /// `into`.
    pub fn alloc(&mut self, into: Reg, at: Option<u32>, pages: u32) -> &mut Self {
        let at = at.map_or(0, |page| BASE + u64::from(page) * u64::from(PAGE));
        self.alloc_at(into, at, pages)
    }

    /// The same at any pointer; 0 is none.
    pub fn alloc_at(&mut self, into: Reg, at: u64, pages: u32) -> &mut Self {
        self.asm.arena(R1).mov64(R2, at).mov(R3, pages as i32).mov(R4, -1).mov(R5, 0);
        self.asm.call(Kfunc::ArenaAllocPages).mov_reg(into, R0);
        self
    }

    /// Frees `pages` pages from the page in `from` on.
    pub fn free(&mut self, from: Reg, pages: u32) -> &mut Self {
        self.asm.arena(R1).mov_reg(R2, from).mov(R3, pages as i32).call(Kfunc::ArenaFreePages);
        self
    }

    /// Frees `pages` pages from the page `at` on.
    pub fn free_at(&mut self, at: u32, pages: u32) -> &mut Self {
        self.asm.mov64(R0, BASE + u64::from(at) * u64::from(PAGE));
        self.free(R0, pages)
    }

    /// Reserves `pages` pages from the page `at` on, and checks what comes of it.
    pub fn reserve(&mut self, at: u32, pages: u32, result: i32) -> &mut Self {
        self.asm.arena(R1).mov64(R2, BASE + u64::from(at) * u64::from(PAGE));
        self.asm.mov(R3, pages as i32).call(Kfunc::ArenaReservePages);
        self.is(R0, result)
    }

    /// Stores a double word.
    pub fn store(&mut self, base: Reg, off: i16, value: i32) -> &mut Self {
        self.asm.store_imm(Width::Double, base, off, value);
        self
    }

    /// Checks a double word in memory.
    pub fn holds(&mut self, base: Reg, off: i16, value: i32) -> &mut Self {
        self.asm.load(Width::Double, R0, base, off);
        self.is(R0, value)
    }

    /// Checks a double word a page away from `base`; negative: below it.
    pub fn holds_beside(&mut self, base: Reg, pages: i32, value: i32) -> &mut Self {
        self.asm.mov_reg(R1, base).add(R1, pages * PAGE as i32);
        self.holds(R1, 0, value)
    }

    /// Checks that a register holds a number.
    pub fn is(&mut self, register: Reg, value: i32) -> &mut Self {
        self.checks += 1;
        let right = self.asm.label();
        let asm = self.asm.jump_if(jmp::JEQ, register, value, right);
        asm.mov(R0, self.checks).exit().bind(right);
        self
    }

    /// Checks that a pointer is that of the page `at`.
    pub fn is_page(&mut self, register: Reg, at: u32) -> &mut Self {
        self.asm.mov64(R1, BASE + u64::from(at) * u64::from(PAGE));
        self.checks += 1;
        let right = self.asm.label();
        self.asm.jump_if_reg(jmp::JEQ, register, R1, right).mov(R0, self.checks).exit().bind(right);
        self
    }

    /// Ends the program and loads it with an arena of `pages`.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn load(&mut self, pages: u32) -> Result<Arc<Program>, Failure> {
        self.asm.mov(R0, 0).exit();
        let image = self.asm.image("parity").arena(pages).build();
        load::load(&image).map_err(Failure::of("load"))
    }

    /// Runs the program on an arena of `pages` of its own; claims that every check holds and that there
    /// are so many reports.
    pub fn pass(&mut self, pages: u32, reports: usize) -> Outcome {
        let program = self.load(pages)?;
        passes(&program)?;
        let (violations, text) = super::super::program::stderr(&program);
        let seen = violations.len();
        claim!(seen == reports && text.is_empty(), "{seen} reports for {reports}; {text}");
        program.tear_down().map_err(Failure::of_debug("teardown"))
    }
}

/// Runs a program once and claims that its checks hold.
///
/// # Errors
/// The number of the first that does not.
pub fn passes(program: &Program) -> Outcome {
    let failed = program.run(0).map_err(Failure::of_debug("run"))?;
    claim!(failed == 0, "check {failed} of the program does not hold");
    Ok(())
}
