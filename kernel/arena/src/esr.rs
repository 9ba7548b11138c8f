//! What a synchronous exception says about itself: `ESR_EL1`, decoded once into types.
//!
//! [`Syndrome::decode`] is pure and total: every 64-bit word gives a value, reserved encodings
//! included, because the handler that decodes must never itself fail. Raw bits do not travel
//! further than this file; the fault path matches on [`Class`] and [`FaultStatus`].
//!
//! Layout and names: Arm ARM (DDI 0487) D24.2.40, `ESR_EL1`. The ISS of aborts is that of
//! "ISS encoding for an exception from a Data Abort" and "... from an Instruction Abort". The words
//! that a person reads are in `text`.

use tock_registers::{LocalRegisterCopy, register_bitfields};

mod quick;
#[cfg(test)]
mod tests;
mod text;

pub use quick::Esr;

register_bitfields![u64,
    /// Arm ARM D24.2.40. The bits of the ISS are those of a data abort; an instruction abort and
    /// a watchpoint use a subset of them in the same places.
    ESR_EL1 [
        EC OFFSET(26) NUMBITS(6) [],
        IL OFFSET(25) NUMBITS(1) [],
        ISS OFFSET(0) NUMBITS(25) [],
        ISV OFFSET(24) NUMBITS(1) [],
        SAS OFFSET(22) NUMBITS(2) [],
        SSE OFFSET(21) NUMBITS(1) [],
        SRT OFFSET(16) NUMBITS(5) [],
        SF OFFSET(15) NUMBITS(1) [],
        FNV OFFSET(10) NUMBITS(1) [],
        EA OFFSET(9) NUMBITS(1) [],
        CM OFFSET(8) NUMBITS(1) [],
        S1PTW OFFSET(7) NUMBITS(1) [],
        WNR OFFSET(6) NUMBITS(1) [],
        FSC OFFSET(0) NUMBITS(6) []
    ]
];

type Word = LocalRegisterCopy<u64, ESR_EL1::Register>;

/// One decoded `ESR_EL1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syndrome {
    /// The word as the CPU gave it.
    pub raw: u64,
    /// What happened.
    pub class: Class,
    /// `IL`: the instruction was 32 bits long. Always set for A64 code and for aborts.
    pub long_instruction: bool,
}

/// `EC`, with the decoded ISS where the class has one that this kernel acts on. Classes that are
/// only ever taken to EL2 or EL3 (HVC, SMC, trapped ERET) fall under [`Class::Other`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// 0x00: no reason recorded. An undefined instruction is reported so.
    Unknown,
    /// 0x01: trapped WFI, WFE, WFIT or WFET.
    WfxTrap,
    /// 0x03: trapped MCR or MRC to coprocessor 15 (AArch32).
    Cp15Trap,
    /// 0x04: trapped MCRR or MRRC to coprocessor 15 (AArch32).
    Cp15PairTrap,
    /// 0x05: trapped MCR or MRC to coprocessor 14 (AArch32).
    Cp14Trap,
    /// 0x06: trapped LDC or STC (AArch32).
    LdcStcTrap,
    /// 0x07: access to SVE, Advanced SIMD or floating point trapped by `CPACR_EL1.FPEN`.
    FpTrap,
    /// 0x0a: trapped execution of an instruction without a class of its own (FEAT_LS64 and later).
    InstructionTrap,
    /// 0x0c: trapped MRRC to coprocessor 14 (AArch32).
    Cp14PairTrap,
    /// 0x0d: branch to a place that is no branch target (FEAT_BTI).
    BranchTarget,
    /// 0x0e: illegal execution state (`PSTATE.IL`).
    IllegalState,
    /// 0x11: SVC in AArch32 state, with its immediate.
    SvcAarch32(u16),
    /// 0x14: trapped MSRR, MRRS or a 128-bit system instruction (FEAT_D128).
    SystemPairTrap,
    /// 0x15: SVC in AArch64 state, with its immediate.
    Svc(u16),
    /// 0x18: trapped MSR, MRS or system instruction.
    SystemTrap,
    /// 0x19: access to SVE trapped by `CPACR_EL1.ZEN`.
    SveTrap,
    /// 0x1b: trapped TSTART (FEAT_TME).
    TstartTrap,
    /// 0x1c: pointer authentication failed (FEAT_FPAC).
    PointerAuthentication,
    /// 0x1d: access to SME trapped.
    SmeTrap,
    /// 0x20, 0x21: an instruction fetch aborted.
    InstructionAbort(InstructionAbort),
    /// 0x22: misaligned PC.
    PcAlignment,
    /// 0x24, 0x25: a data access aborted.
    DataAbort(DataAbort),
    /// 0x26: misaligned SP.
    SpAlignment,
    /// 0x27: memory copy or memory set (FEAT_MOPS).
    MemoryCopy,
    /// 0x28: trapped floating-point exception in AArch32 state.
    FpExceptionAarch32,
    /// 0x2c: trapped floating-point exception in AArch64 state.
    FpException,
    /// 0x2d: guarded control stack (FEAT_GCS).
    GuardedControlStack,
    /// 0x2f: SError.
    SError,
    /// 0x30, 0x31: hardware breakpoint.
    Breakpoint(Origin),
    /// 0x32, 0x33: software step.
    SoftwareStep(Origin),
    /// 0x34, 0x35: watchpoint.
    Watchpoint(Origin),
    /// 0x38: BKPT in AArch32 state, with its comment.
    Bkpt(u16),
    /// 0x3c: BRK, with its immediate.
    Brk(u16),
    /// 0x3d: PMU exception (FEAT_EBEP).
    Profiling,
    /// Any other value of `EC`: reserved, or not taken to EL1.
    Other(u8),
}

/// Where the exception was taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A lower exception level: EL0.
    Lower,
    /// EL1 itself.
    Same,
}

/// ISS of a data abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataAbort {
    /// The level that made the access.
    pub origin: Origin,
    /// `DFSC`.
    pub status: FaultStatus,
    /// `WnR`: the access was a write. Cache maintenance and address translation set it too
    /// without writing: ask [`Syndrome::is_write`].
    pub write: bool,
    /// `CM`: a cache maintenance or address translation instruction.
    pub cache_maintenance: bool,
    /// `S1PTW`: a stage 2 fault on the walk of stage 1.
    pub stage1_walk: bool,
    /// `EA`: implementation defined class of an external abort.
    pub external_type: bool,
    /// `FnV`: FAR holds nothing. Has a meaning for [`FaultStatus::SyncExternal`] only.
    pub far_not_valid: bool,
    /// The access, when `ISV` says that the ISS describes it. To EL1 the architecture gives it
    /// for very few aborts; absence is the common case.
    pub access: Option<Access>,
}

/// The access that aborted, from `SAS`, `SSE`, `SRT` and `SF`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// `SAS`: size in bytes: 1, 2, 4 or 8.
    pub bytes: u8,
    /// `SSE`: the load extends the sign.
    pub sign_extend: bool,
    /// `SRT`: number of the register that is loaded or stored; 31 is XZR.
    pub register: u8,
    /// `SF`: the register is used as a 64-bit one.
    pub wide_register: bool,
}

/// ISS of an instruction abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InstructionAbort {
    /// The level that fetched.
    pub origin: Origin,
    /// `IFSC`.
    pub status: FaultStatus,
    /// `S1PTW`: a stage 2 fault on the walk of stage 1.
    pub stage1_walk: bool,
    /// `EA`: implementation defined class of an external abort.
    pub external_type: bool,
    /// `FnV`: FAR holds nothing. Has a meaning for [`FaultStatus::SyncExternal`] only.
    pub far_not_valid: bool,
}

/// `DFSC` or `IFSC`. The level is that of the translation table, -2 (FEAT_D128) to 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultStatus {
    /// An address in the table or in TTBR is wider than the configured size.
    AddressSize(i8),
    /// No valid descriptor.
    Translation(i8),
    /// The access flag is clear and hardware does not set it.
    AccessFlag(i8),
    /// The descriptor forbids the access.
    Permission(i8),
    /// Synchronous external abort on the access itself.
    SyncExternal,
    /// Synchronous external abort on the table walk.
    SyncExternalOnWalk(i8),
    /// Allocation tag mismatch (FEAT_MTE).
    TagCheck,
    /// Parity or ECC error on the access itself.
    Parity,
    /// Parity or ECC error on the table walk.
    ParityOnWalk(i8),
    /// Misaligned access.
    Alignment,
    /// Granule protection fault on the access itself (FEAT_RME).
    GranuleProtection,
    /// Granule protection fault on the table walk (FEAT_RME).
    GranuleProtectionOnWalk(i8),
    /// Two translations of one address live in the TLB: break-before-make was broken.
    TlbConflict,
    /// Hardware could not update the access flag or dirty state atomically.
    UnsupportedAtomicUpdate,
    /// Implementation defined: cache lockdown.
    Lockdown,
    /// Implementation defined: exclusive or atomic access to memory that does not support it.
    UnsupportedExclusive,
    /// Any other code: reserved.
    Other(u8),
}

impl Syndrome {
    /// Decodes `raw`, the value of `ESR_EL1`. Total, pure, allocates nothing: callable from
    /// any context, the abort handler first of all.
    pub fn decode(raw: u64) -> Self {
        let word = Word::new(raw);
        Self { raw, class: class(word), long_instruction: word.is_set(ESR_EL1::IL) }
    }

    /// The fault status, if this is an abort.
    pub fn status(&self) -> Option<FaultStatus> {
        match self.class {
            Class::DataAbort(abort) => Some(abort.status),
            Class::InstructionAbort(abort) => Some(abort.status),
            _ => None,
        }
    }

    /// Whether a load or store at EL1 aborted: the only exceptions that anything but an oops may
    /// answer.
    pub fn is_kernel_data_abort(&self) -> bool {
        matches!(self.class, Class::DataAbort(abort) if abort.origin == Origin::Same)
    }

    /// Whether a data access or fetch met no valid descriptor, at whatever level. The only kind
    /// of fault that arena recovery may answer.
    pub fn is_translation_fault(&self) -> bool {
        matches!(self.status(), Some(FaultStatus::Translation(_)))
    }

    /// Whether a data access tried to write. False for cache maintenance, which sets `WnR`
    /// without writing anything.
    pub fn is_write(&self) -> bool {
        matches!(self.class, Class::DataAbort(abort) if abort.write && !abort.cache_maintenance)
    }

    /// Whether `FAR_EL1` holds the address of this exception (Arm ARM, `FAR_EL1`: instruction and
    /// data aborts, PC alignment, watchpoints; otherwise its value is stale or unknown).
    pub fn far_valid(&self) -> bool {
        match self.class {
            Class::DataAbort(abort) => !(abort.status.may_lack_far() && abort.far_not_valid),
            Class::InstructionAbort(abort) => !(abort.status.may_lack_far() && abort.far_not_valid),
            Class::Watchpoint(_) => !Word::new(self.raw).is_set(ESR_EL1::FNV),
            Class::PcAlignment => true,
            _ => false,
        }
    }

    /// The instruction specific syndrome, undecoded: 25 bits.
    pub fn iss(&self) -> u32 {
        Word::new(self.raw).read(ESR_EL1::ISS) as u32
    }
}

impl FaultStatus {
    /// Decodes the 6 bits of `DFSC` or `IFSC`; higher bits are ignored.
    pub fn decode(code: u8) -> Self {
        let code = code & 0x3f;
        let level = (code & 3) as i8;
        match code {
            0x00..=0x03 => Self::AddressSize(level),
            0x04..=0x07 => Self::Translation(level),
            0x08..=0x0b => Self::AccessFlag(level),
            0x0c..=0x0f => Self::Permission(level),
            0x10 => Self::SyncExternal,
            0x11 => Self::TagCheck,
            0x12 | 0x13 => Self::SyncExternalOnWalk(level - 4),
            0x14..=0x17 => Self::SyncExternalOnWalk(level),
            0x18 => Self::Parity,
            0x1b => Self::ParityOnWalk(-1),
            0x1c..=0x1f => Self::ParityOnWalk(level),
            0x21 => Self::Alignment,
            0x22 | 0x23 => Self::GranuleProtectionOnWalk(level - 4),
            0x24..=0x27 => Self::GranuleProtectionOnWalk(level),
            0x28 => Self::GranuleProtection,
            0x29 => Self::AddressSize(-1),
            0x2a => Self::Translation(-2),
            0x2b => Self::Translation(-1),
            0x2c => Self::AddressSize(-2),
            0x30 => Self::TlbConflict,
            0x31 => Self::UnsupportedAtomicUpdate,
            0x34 => Self::Lockdown,
            0x35 => Self::UnsupportedExclusive,
            other => Self::Other(other),
        }
    }

    /// `FnV` has a meaning for this code alone and is RES0 for all others.
    fn may_lack_far(self) -> bool {
        self == Self::SyncExternal
    }
}

fn class(word: Word) -> Class {
    match word.read(ESR_EL1::EC) as u8 {
        0x00 => Class::Unknown,
        0x01 => Class::WfxTrap,
        0x03 => Class::Cp15Trap,
        0x04 => Class::Cp15PairTrap,
        0x05 => Class::Cp14Trap,
        0x06 => Class::LdcStcTrap,
        0x07 => Class::FpTrap,
        0x0a => Class::InstructionTrap,
        0x0c => Class::Cp14PairTrap,
        0x0d => Class::BranchTarget,
        0x0e => Class::IllegalState,
        0x11 => Class::SvcAarch32(immediate(word)),
        0x14 => Class::SystemPairTrap,
        0x15 => Class::Svc(immediate(word)),
        0x18 => Class::SystemTrap,
        0x19 => Class::SveTrap,
        0x1b => Class::TstartTrap,
        0x1c => Class::PointerAuthentication,
        0x1d => Class::SmeTrap,
        0x20 => Class::InstructionAbort(instruction_abort(word, Origin::Lower)),
        0x21 => Class::InstructionAbort(instruction_abort(word, Origin::Same)),
        0x22 => Class::PcAlignment,
        0x24 => Class::DataAbort(data_abort(word, Origin::Lower)),
        0x25 => Class::DataAbort(data_abort(word, Origin::Same)),
        0x26 => Class::SpAlignment,
        0x27 => Class::MemoryCopy,
        0x28 => Class::FpExceptionAarch32,
        0x2c => Class::FpException,
        0x2d => Class::GuardedControlStack,
        0x2f => Class::SError,
        0x30 => Class::Breakpoint(Origin::Lower),
        0x31 => Class::Breakpoint(Origin::Same),
        0x32 => Class::SoftwareStep(Origin::Lower),
        0x33 => Class::SoftwareStep(Origin::Same),
        0x34 => Class::Watchpoint(Origin::Lower),
        0x35 => Class::Watchpoint(Origin::Same),
        0x38 => Class::Bkpt(immediate(word)),
        0x3c => Class::Brk(immediate(word)),
        0x3d => Class::Profiling,
        other => Class::Other(other),
    }
}

/// `imm16` of SVC, `Comment` of BRK and BKPT: ISS bits 15 to 0.
fn immediate(word: Word) -> u16 {
    word.read(ESR_EL1::ISS) as u16
}

fn instruction_abort(word: Word, origin: Origin) -> InstructionAbort {
    InstructionAbort {
        origin,
        status: FaultStatus::decode(word.read(ESR_EL1::FSC) as u8),
        stage1_walk: word.is_set(ESR_EL1::S1PTW),
        external_type: word.is_set(ESR_EL1::EA),
        far_not_valid: word.is_set(ESR_EL1::FNV),
    }
}

fn data_abort(word: Word, origin: Origin) -> DataAbort {
    DataAbort {
        origin,
        status: FaultStatus::decode(word.read(ESR_EL1::FSC) as u8),
        write: word.is_set(ESR_EL1::WNR),
        cache_maintenance: word.is_set(ESR_EL1::CM),
        stage1_walk: word.is_set(ESR_EL1::S1PTW),
        external_type: word.is_set(ESR_EL1::EA),
        far_not_valid: word.is_set(ESR_EL1::FNV),
        access: word.is_set(ESR_EL1::ISV).then(|| access(word)),
    }
}

fn access(word: Word) -> Access {
    Access {
        bytes: 1 << word.read(ESR_EL1::SAS),
        sign_extend: word.is_set(ESR_EL1::SSE),
        register: word.read(ESR_EL1::SRT) as u8,
        wide_register: word.is_set(ESR_EL1::SF),
    }
}
