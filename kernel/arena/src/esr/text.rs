//! The sentence that a syndrome prints. Oopses carry it, scenarios and the host tool match on it:
//! a change of wording here is a change of interface.

use core::fmt;

use super::{Class, DataAbort, FaultStatus, InstructionAbort, Origin, Syndrome};

/// One sentence, the parts divided by `; `: `data abort, same EL; translation fault, level 3;
/// read`.
impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class.name())?;
        match self.class {
            Class::DataAbort(abort) => write!(f, "{abort}")?,
            Class::InstructionAbort(abort) => write!(f, "{abort}")?,
            Class::Breakpoint(origin) | Class::SoftwareStep(origin) | Class::Watchpoint(origin) => {
                write!(f, ", {origin}")?;
            }
            Class::Svc(immediate) | Class::SvcAarch32(immediate) => write!(f, " {immediate:#x}")?,
            Class::Brk(immediate) | Class::Bkpt(immediate) => write!(f, " {immediate:#x}")?,
            Class::Other(code) => write!(f, " {code:#04x}, ISS {:#x}", self.iss())?,
            _ if self.iss() != 0 => write!(f, ", ISS {:#x}", self.iss())?,
            _ => {}
        }
        let lacks_far = self.status().is_some() && !self.far_valid();
        if lacks_far { f.write_str("; FAR not valid") } else { Ok(()) }
    }
}

impl fmt::Display for DataAbort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", {}; {}", self.origin, self.status)?;
        f.write_str(match (self.cache_maintenance, self.write) {
            (true, _) => "; cache maintenance",
            (false, true) => "; write",
            (false, false) => "; read",
        })?;
        if let Some(access) = self.access {
            let prefix = if access.wide_register { 'x' } else { 'w' };
            let signed = if access.sign_extend { " sign-extended" } else { "" };
            write!(f, " of {} bytes{signed}, {prefix}{}", access.bytes, access.register)?;
        }
        if self.stage1_walk { f.write_str("; on the stage 1 walk") } else { Ok(()) }
    }
}

impl fmt::Display for InstructionAbort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", {}; {}", self.origin, self.status)?;
        if self.stage1_walk { f.write_str("; on the stage 1 walk") } else { Ok(()) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lower => "lower EL",
            Self::Same => "same EL",
        })
    }
}

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressSize(level) => write!(f, "address size fault, level {level}"),
            Self::Translation(level) => write!(f, "translation fault, level {level}"),
            Self::AccessFlag(level) => write!(f, "access flag fault, level {level}"),
            Self::Permission(level) => write!(f, "permission fault, level {level}"),
            Self::SyncExternal => f.write_str("external abort"),
            Self::SyncExternalOnWalk(level) => {
                write!(f, "external abort on the table walk, level {level}")
            }
            Self::TagCheck => f.write_str("tag check fault"),
            Self::Parity => f.write_str("parity or ECC error"),
            Self::ParityOnWalk(level) => {
                write!(f, "parity or ECC error on the table walk, level {level}")
            }
            Self::Alignment => f.write_str("alignment fault"),
            Self::GranuleProtection => f.write_str("granule protection fault"),
            Self::GranuleProtectionOnWalk(level) => {
                write!(f, "granule protection fault on the table walk, level {level}")
            }
            Self::TlbConflict => f.write_str("TLB conflict abort"),
            Self::UnsupportedAtomicUpdate => f.write_str("unsupported atomic hardware update"),
            Self::Lockdown => f.write_str("lockdown fault"),
            Self::UnsupportedExclusive => f.write_str("unsupported exclusive or atomic access"),
            Self::Other(code) => write!(f, "reserved fault status {code:#04x}"),
        }
    }
}

impl Class {
    /// What kind of exception, without its particulars.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown reason, such as an undefined instruction",
            Self::WfxTrap => "trapped WFI or WFE",
            Self::Cp15Trap => "trapped MCR or MRC, coprocessor 15",
            Self::Cp15PairTrap => "trapped MCRR or MRRC, coprocessor 15",
            Self::Cp14Trap => "trapped MCR or MRC, coprocessor 14",
            Self::LdcStcTrap => "trapped LDC or STC",
            Self::FpTrap => "trapped SIMD or floating-point access",
            Self::InstructionTrap => "trapped instruction",
            Self::Cp14PairTrap => "trapped MRRC, coprocessor 14",
            Self::BranchTarget => "branch target exception",
            Self::IllegalState => "illegal execution state",
            Self::SvcAarch32(_) => "SVC (AArch32)",
            Self::SystemPairTrap => "trapped MSRR or MRRS",
            Self::Svc(_) => "SVC",
            Self::SystemTrap => "trapped MSR, MRS or system instruction",
            Self::SveTrap => "trapped SVE access",
            Self::TstartTrap => "trapped TSTART",
            Self::PointerAuthentication => "pointer authentication failure",
            Self::SmeTrap => "trapped SME access",
            Self::InstructionAbort(_) => "instruction abort",
            Self::PcAlignment => "PC alignment fault",
            Self::DataAbort(_) => "data abort",
            Self::SpAlignment => "SP alignment fault",
            Self::MemoryCopy => "memory copy or set exception",
            Self::FpExceptionAarch32 => "floating-point exception (AArch32)",
            Self::FpException => "floating-point exception",
            Self::GuardedControlStack => "guarded control stack exception",
            Self::SError => "SError",
            Self::Breakpoint(_) => "breakpoint",
            Self::SoftwareStep(_) => "software step",
            Self::Watchpoint(_) => "watchpoint",
            Self::Bkpt(_) => "BKPT",
            Self::Brk(_) => "BRK",
            Self::Profiling => "PMU exception",
            Self::Other(_) => "exception class",
        }
    }
}
