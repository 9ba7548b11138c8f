//! The device tree, read once into plain values: what the kernel needs to know of the machine.
//!
//! Everything in it is checked before use, and every way in which it can be wrong is a sentence:
//! a wrong tree must end in words, not in a hang. Where the bytes lie and whether they can be read is
//! the caller's business.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod list;
mod read;

use core::fmt;

use arena::addr::PhysAddr;

pub use list::List;
pub use read::{MAX_BYTES, read, size};

/// Memory regions kept at most.
pub const MAX_MEMORY: usize = 4;
/// CPUs kept at most.
pub const MAX_CPUS: usize = 8;
/// Bytes of a PL011's registers.
pub const CONSOLE_BYTES: u64 = 0x1000;

/// What the kernel needs to know of the machine.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// RAM, in the tree's order; none empty, none wraps.
    pub memory: List<Region, MAX_MEMORY>,
    /// MPIDR affinity of each CPU; those beyond [`MAX_CPUS`] are left off.
    pub cpus: List<u64, MAX_CPUS>,
    /// How to reach the firmware.
    pub psci: Conduit,
    /// Interrupt controller.
    pub gic: Gic,
    /// Console.
    pub uart: Console,
    /// Number of the virtual timer's PPI (0 to 15; interrupt number 16 to 31).
    pub timer_ppi: u32,
    /// QEMU's fw_cfg, if there is one.
    pub fw_cfg: Option<Region>,
    /// Kernel command line; empty if there is none.
    pub bootargs: &'a str,
    /// The tree itself: `bootargs` points into it, so it is never given to anyone.
    pub dtb: Region,
}

/// A run of physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First byte.
    pub base: PhysAddr,
    /// Size in bytes.
    pub bytes: u64,
}

/// The instruction that reaches the firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// HVC: the firmware is at EL2.
    Hvc,
    /// SMC: the firmware is at EL3, or stands in for it.
    Smc,
}

/// The interrupt controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gic {
    /// GICv2.
    V2 {
        /// GICD.
        distributor: Region,
        /// GICC.
        cpu_interface: Region,
    },
    /// GICv3 or v4.
    V3 {
        /// GICD.
        distributor: Region,
        /// GICR of all CPUs.
        redistributors: Region,
    },
}

/// The console: a PL011.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Console {
    /// Registers.
    pub base: PhysAddr,
    /// Reference clock in Hz.
    pub clock_hz: u32,
}

/// Why a device tree cannot be used.
#[derive(Debug)]
pub enum TreeError {
    /// No tree at the address.
    NotFound {
        /// Where it was looked for.
        address: u64,
        /// The word found there; 0xd00dfeed marks a tree.
        magic: u32,
    },
    /// The address is not one that the early map can read.
    BadAddress(u64),
    /// The header's size is impossible.
    BadSize(u32),
    /// The structure is broken.
    Broken(dtoolkit::error::FdtParseError),
    /// A node or property that must be there.
    Missing(&'static str),
    /// A property whose value makes no sense.
    Malformed(&'static str),
}

impl Machine<'_> {
    /// The registers of every device that the kernel uses.
    pub fn devices(&self) -> impl Iterator<Item = Region> {
        let [first, second] = match self.gic {
            Gic::V2 { distributor, cpu_interface } => [distributor, cpu_interface],
            Gic::V3 { distributor, redistributors } => [distributor, redistributors],
        };
        let console = Region { base: self.uart.base, bytes: CONSOLE_BYTES };
        [first, second, console].into_iter().chain(self.fw_cfg)
    }
}

impl fmt::Display for Machine<'_> {
    /// One line, for the boot report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.memory.iter().map(|region| region.bytes).sum();
        write!(
            f,
            "cpus={} {} psci={} mem={}MiB timer=ppi{} dtb={:#x}",
            self.cpus.len(),
            self.gic,
            self.psci,
            bytes >> 20,
            self.timer_ppi,
            self.dtb.base.get()
        )
    }
}

impl fmt::Display for Conduit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hvc => "hvc",
            Self::Smc => "smc",
        })
    }
}

impl fmt::Display for Gic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 { .. } => "gic=v2",
            Self::V3 { .. } => "gic=v3",
        })
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { address, magic } => {
                write!(f, "none at {address:#x}: found {magic:#010x} where 0xd00dfeed should be")
            }
            Self::BadAddress(address) => {
                write!(
                    f,
                    "its address {address:#x} is not an aligned address in the first 3 GiB of RAM"
                )
            }
            Self::BadSize(bytes) => {
                write!(f, "its header says {bytes} bytes; at most {MAX_BYTES} are believed")
            }
            Self::Broken(error) => write!(f, "{error}"),
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::Malformed(what) => write!(f, "{what} makes no sense"),
        }
    }
}
