//! What this CPU can do, from its ID registers.

use core::fmt;

use aarch64_cpu::registers::{
    ID_AA64ISAR0_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1, ID_AA64PFR1_EL1,
    MIDR_EL1, Readable,
};
use spin::Once;

/// The ID registers that the kernel decides by, as read.
#[derive(Clone, Copy, Default, Debug)]
pub struct IdRegisters {
    /// MIDR_EL1.
    pub midr: u64,
    /// ID_AA64ISAR0_EL1.
    pub isar0: u64,
    /// ID_AA64MMFR0_EL1.
    pub mmfr0: u64,
    /// ID_AA64MMFR1_EL1.
    pub mmfr1: u64,
    /// ID_AA64MMFR2_EL1.
    pub mmfr2: u64,
    /// ID_AA64PFR1_EL1.
    pub pfr1: u64,
}

/// The features that the kernel uses or reports. Arm ARM D24.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuFeatures {
    /// MIDR_EL1: implementer, part and revision.
    pub midr: u64,
    /// Bits of physical address.
    pub pa_bits: u8,
    /// ID_AA64MMFR0_EL1.PARange, the encoding of TCR_EL1.IPS.
    pub pa_range: u8,
    /// 16-bit ASIDs.
    pub asid16: bool,
    /// Granules: 4, 16 and 64 KiB.
    pub granule: [bool; 3],
    /// FEAT_LSE: CAS, SWP, LDADD.
    pub lse: bool,
    /// FEAT_PAN: EL1 cannot touch EL0's pages by accident.
    pub pan: bool,
    /// FEAT_UAO.
    pub uao: bool,
    /// FEAT_BTI.
    pub bti: bool,
    /// FEAT_HAFDBS: 0 none, 1 access flag, 2 dirty state too.
    pub hafdbs: u8,
    /// FEAT_ETS2: a fault on a slot that another CPU has made valid is ruled out
    /// (litmus H5 and H7).
    pub ets2: bool,
    /// FEAT_BBM level: what a change of block size may leave out.
    pub bbm: u8,
}

impl IdRegisters {
    /// Of the CPU that executes this.
    pub fn read() -> Self {
        Self {
            midr: MIDR_EL1.get(),
            isar0: ID_AA64ISAR0_EL1.get(),
            mmfr0: ID_AA64MMFR0_EL1.get(),
            mmfr1: ID_AA64MMFR1_EL1.get(),
            mmfr2: ID_AA64MMFR2_EL1.get(),
            pfr1: ID_AA64PFR1_EL1.get(),
        }
    }
}

impl CpuFeatures {
    /// Of the CPU that executes this.
    pub fn current() -> Self {
        Self::decode(&IdRegisters::read())
    }

    /// Whether code that relies on `other` may run on this CPU: the same answers to everything that
    /// the kernel decides by.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let mut same = *self;
        // The only fields that nothing is decided by.
        (same.midr, same.granule, same.bbm) = (other.midr, other.granule, other.bbm);
        same == *other
    }

    /// What the registers say; total over all values.
    pub const fn decode(id: &IdRegisters) -> Self {
        let pa_range = field(id.mmfr0, 0);
        Self {
            midr: id.midr,
            pa_bits: pa_bits(pa_range),
            pa_range,
            asid16: field(id.mmfr0, 4) == 2,
            granule: [
                // TGran4 and TGran64 are signed: 0xf means absent. TGran16: 0 means absent.
                field(id.mmfr0, 28) < 8,
                field(id.mmfr0, 20) != 0,
                field(id.mmfr0, 24) < 8,
            ],
            lse: field(id.isar0, 20) >= 2,
            pan: field(id.mmfr1, 20) >= 1,
            uao: field(id.mmfr2, 4) >= 1,
            bti: field(id.pfr1, 0) >= 1,
            hafdbs: field(id.mmfr1, 0),
            ets2: field(id.mmfr1, 36) >= 2,
            bbm: field(id.mmfr2, 52),
        }
    }
}

impl fmt::Display for CpuFeatures {
    /// One line, for the boot report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "midr={:#x} pa={} asid={}", self.midr, self.pa_bits, 8 << u8::from(self.asid16))?;
        write!(f, " granules=")?;
        for (present, name) in self.granule.iter().zip(["4K", "16K", "64K"]) {
            if *present {
                write!(f, "{}{name}", if name == "4K" { "" } else { "," })?;
            }
        }
        let flags = [
            (self.lse, "lse"),
            (self.pan, "pan"),
            (self.uao, "uao"),
            (self.bti, "bti"),
            (self.ets2, "ets2"),
        ];
        for (_, name) in flags.iter().filter(|(present, _)| *present) {
            write!(f, " {name}")?;
        }
        write!(f, " hafdbs={} bbm={}", self.hafdbs, self.bbm)
    }
}

/// [`CpuFeatures::hafdbs`] of a CPU whose hardware keeps dirty state.
pub const DIRTY_STATE: u8 = 2;

static SYSTEM: Once<CpuFeatures> = Once::new();

/// Fixes what all CPUs must offer: the boot CPU's features. Once, before other CPUs run.
pub fn init() -> &'static CpuFeatures {
    SYSTEM.call_once(CpuFeatures::current)
}

/// What all CPUs offer.
///
/// # Panics
/// Before [`init`].
pub fn system() -> &'static CpuFeatures {
    SYSTEM.get().expect("features::init comes first")
}

/// The four-bit field of `register` whose lowest bit is `shift`.
const fn field(register: u64, shift: u32) -> u8 {
    (register >> shift & 0xf) as u8
}

const fn pa_bits(pa_range: u8) -> u8 {
    match pa_range {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        6 => 52,
        _ => 56,
    }
}
