//! The device tree, read once into plain values.
//!
//! Everything in it is checked before use, and every way in which it can be wrong is a sentence:
//! a wrong tree must end in words, not in a hang.

use core::fmt;

use arena::addr::PhysAddr;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};

use super::gic;
use super::psci::Conduit;
use super::{Region, direct_ptr, uart};
use crate::arch::percpu::MAX_CPUS;

/// Memory regions kept at most.
pub const MAX_MEMORY: usize = 4;

/// What the kernel needs to know of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// RAM, in the tree's order; none empty, none wraps.
    pub memory: List<Region, MAX_MEMORY>,
    /// MPIDR affinity of each CPU; those beyond [`MAX_CPUS`] are left off.
    pub cpus: List<u64, MAX_CPUS>,
    /// How to reach the firmware.
    pub psci: Conduit,
    /// Interrupt controller.
    pub gic: gic::Description,
    /// Console.
    pub uart: uart::Description,
    /// Number of the virtual timer's PPI (0 to 15; interrupt number 16 to 31).
    pub timer_ppi: u32,
    /// QEMU's fw_cfg, if there is one.
    pub fw_cfg: Option<Region>,
    /// Kernel command line; empty if there is none.
    pub bootargs: &'static str,
    /// The tree itself: `bootargs` points into it, so it is never given to anyone.
    pub dtb: Region,
}

/// A few values of one kind.
#[derive(Clone, Copy, Debug)]
pub struct List<T, const N: usize> {
    items: [Option<T>; N],
    len: usize,
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

/// Where QEMU puts the tree when it starts an ELF.
const START_OF_RAM: u64 = 0x4000_0000;
/// The early map reaches to here.
const EARLY_MAP_END: u64 = 0x1_0000_0000;
/// The direct map has the lower half of the kernel's 48 bits.
const DIRECT_MAP_BYTES: u64 = 1 << 47;
const MAGIC: u32 = 0xd00d_feed;
/// QEMU's trees are 1 MiB; the Linux boot protocol allows 2.
const MAX_BYTES: u32 = 2 << 20;

type Result<T> = core::result::Result<T, TreeError>;

/// Reads the tree at the physical address `x0`, or at the start of RAM if that is 0.
///
/// # Errors
/// See [`TreeError`].
pub fn read(x0: u64) -> Result<Machine> {
    let data = blob(if x0 == 0 { START_OF_RAM } else { x0 })?;
    let tree = Fdt::new(data).map_err(TreeError::Broken)?;
    let root = tree.root();
    Ok(Machine {
        memory: memory(root)?,
        cpus: cpus(root)?,
        psci: psci(root)?,
        gic: interrupt_controller(root)?,
        uart: console(tree)?,
        timer_ppi: timer_ppi(root)?,
        fw_cfg: fw_cfg(root)?,
        bootargs: bootargs(root)?,
        dtb: Region {
            base: PhysAddr::new(data.as_ptr().addr() as u64 - boot::DIRECT_BASE),
            bytes: data.len() as u64,
        },
    })
}

impl Machine {
    /// The registers of every device that the kernel uses.
    pub fn devices(&self) -> impl Iterator<Item = Region> {
        let [first, second] = match self.gic {
            gic::Description::V2 { distributor, cpu_interface } => [distributor, cpu_interface],
            gic::Description::V3 { distributor, redistributors } => [distributor, redistributors],
        };
        let console = Region { base: self.uart.base, bytes: uart::REGISTER_BYTES };
        [first, second, console].into_iter().chain(self.fw_cfg)
    }
}

impl<T: Copy, const N: usize> List<T, N> {
    const fn new() -> Self {
        Self { items: [None; N], len: 0 }
    }

    /// Adds a value; false if the list is full.
    fn push(&mut self, value: T) -> bool {
        match self.items.get_mut(self.len) {
            Some(slot) => {
                *slot = Some(value);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.items.iter().take(self.len).filter_map(|item| *item)
    }
}

impl fmt::Display for Machine {
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

/// The bytes of the tree, header checked.
fn blob(address: u64) -> Result<&'static [u8]> {
    let end = address.checked_add(u64::from(MAX_BYTES));
    if address < START_OF_RAM
        || !address.is_multiple_of(8)
        || end.is_none_or(|end| end > EARLY_MAP_END)
    {
        return Err(TreeError::BadAddress(address));
    }
    let start = direct_ptr::<u32>(PhysAddr::new(address));
    // SAFETY: inside the early map, normal memory, aligned. Beyond the end of RAM QEMU answers
    // with an abort, which is reported.
    let [magic, bytes] = unsafe { start.cast::<[u32; 2]>().read_volatile() }.map(u32::from_be);
    if magic != MAGIC {
        return Err(TreeError::NotFound { address, magic });
    }
    if bytes > MAX_BYTES {
        return Err(TreeError::BadSize(bytes));
    }
    // SAFETY: mapped, initialised (it is RAM), and nobody writes to it: the region is reported
    // as `Machine::dtb`, which is never given to an allocator.
    Ok(unsafe { core::slice::from_raw_parts(start.cast::<u8>(), bytes as usize) })
}

fn memory(root: FdtNode<'static>) -> Result<List<Region, MAX_MEMORY>> {
    let mut list = List::new();
    for node in root.children().filter(|node| node.name_without_address() == "memory") {
        for region in regions(node, "reg of /memory")? {
            let region = region?;
            if region.bytes > 0 && !list.push(region) {
                return Ok(list);
            }
        }
    }
    if list.len() == 0 { Err(TreeError::Missing("/memory")) } else { Ok(list) }
}

fn cpus(root: FdtNode<'static>) -> Result<List<u64, MAX_CPUS>> {
    let node = root.child("cpus").ok_or(TreeError::Missing("/cpus"))?;
    let mut list = List::new();
    for cpu in node.children().filter(|node| node.name_without_address() == "cpu") {
        let mut reg = cpu
            .reg()
            .map_err(|_| TreeError::Malformed("reg of a CPU"))?
            .ok_or(TreeError::Missing("reg of a CPU"))?;
        let first = reg.next().ok_or(TreeError::Malformed("reg of a CPU"))?;
        let mpidr = first.address().map_err(|_| TreeError::Malformed("reg of a CPU"))?;
        if !list.push(mpidr) {
            break;
        }
    }
    if list.len() == 0 { Err(TreeError::Missing("every CPU of /cpus")) } else { Ok(list) }
}

fn psci(root: FdtNode<'static>) -> Result<Conduit> {
    let node = root.child("psci").ok_or(TreeError::Missing("/psci"))?;
    match string(node, "method") {
        Some("hvc") => Ok(Conduit::Hvc),
        Some("smc") => Ok(Conduit::Smc),
        _ => Err(TreeError::Malformed("method of /psci (not hvc or smc)")),
    }
}

fn interrupt_controller(root: FdtNode<'static>) -> Result<gic::Description> {
    let of = |compatible| root.children().find(|node| node.is_compatible(compatible));
    let two = |node| {
        let mut list = regions(node, "reg of the interrupt controller")?;
        match (list.next(), list.next()) {
            (Some(first), Some(second)) => Ok((first?, second?)),
            _ => Err(TreeError::Malformed("reg of the interrupt controller")),
        }
    };
    if let Some(node) = of("arm,gic-v3") {
        let (distributor, redistributors) = two(node)?;
        Ok(gic::Description::V3 { distributor, redistributors })
    } else if let Some(node) = of("arm,cortex-a15-gic").or_else(|| of("arm,gic-400")) {
        let (distributor, cpu_interface) = two(node)?;
        Ok(gic::Description::V2 { distributor, cpu_interface })
    } else {
        Err(TreeError::Missing("a GICv2 or GICv3 interrupt controller"))
    }
}

/// The PL011 that /chosen/stdout-path names, or else the first.
fn console(tree: Fdt<'static>) -> Result<uart::Description> {
    let root = tree.root();
    let chosen = root.child("chosen").and_then(|node| string(node, "stdout-path"));
    let node = chosen
        .and_then(|path| tree.find_node(path.split(':').next().unwrap_or(path)))
        .filter(|node| node.is_compatible("arm,pl011"))
        .or_else(|| root.children().find(|node| node.is_compatible("arm,pl011")))
        .ok_or(TreeError::Missing("a PL011 console"))?;
    let region = regions(node, "reg of the console")?
        .next()
        .ok_or(TreeError::Missing("reg of the console"))??;
    // QEMU's fixed clock is 24 MHz, reached through a phandle that always says so.
    Ok(uart::Description { base: region.base, clock_hz: 24_000_000 })
}

fn fw_cfg(root: FdtNode<'static>) -> Result<Option<Region>> {
    let Some(node) = root.children().find(|node| node.is_compatible("qemu,fw-cfg-mmio")) else {
        return Ok(None);
    };
    regions(node, "reg of fw_cfg")?.next().transpose()
}

/// The third interrupt of the generic timer (secure, physical, virtual, hypervisor), as its
/// binding fixes the order.
fn timer_ppi(root: FdtNode<'static>) -> Result<u32> {
    const WHAT: &str = "interrupts of the timer";
    let node = root
        .children()
        .find(|node| node.is_compatible("arm,armv8-timer"))
        .ok_or(TreeError::Missing("the architected timer"))?;
    let cells = node.property("interrupts").ok_or(TreeError::Missing(WHAT))?;
    let mut triples =
        cells.as_prop_encoded_array([1, 1, 1]).map_err(|_| TreeError::Malformed(WHAT))?;
    let [kind, number, _flags] = triples.nth(2).ok_or(TreeError::Malformed(WHAT))?;
    let [kind, number] =
        [kind, number].map(|cells| dtoolkit::ToCellInt::to_int::<u32>(cells).unwrap_or(u32::MAX));
    if kind == 1 && number < 16 { Ok(number) } else { Err(TreeError::Malformed(WHAT)) }
}

fn bootargs(root: FdtNode<'static>) -> Result<&'static str> {
    let Some(node) = root.child("chosen") else { return Ok("") };
    match node.property("bootargs") {
        None => Ok(""),
        Some(property) => property
            .value_as::<&'static str>()
            .map_err(|_| TreeError::Malformed("bootargs of /chosen (not a string)")),
    }
}

/// The `reg` of a node as regions that the direct map can hold.
fn regions(
    node: FdtNode<'static>,
    what: &'static str,
) -> Result<impl Iterator<Item = Result<Region>>> {
    let reg =
        node.reg().map_err(|_| TreeError::Malformed(what))?.ok_or(TreeError::Missing(what))?;
    Ok(reg.map(move |reg| {
        let (Ok(base), Ok(bytes)) = (reg.address::<u64>(), reg.size::<u64>()) else {
            return Err(TreeError::Malformed(what));
        };
        match base.checked_add(bytes) {
            Some(end) if end <= DIRECT_MAP_BYTES => Ok(Region { base: PhysAddr::new(base), bytes }),
            _ => Err(TreeError::Malformed(what)),
        }
    }))
}

fn string(node: FdtNode<'static>, name: &str) -> Option<&'static str> {
    node.property(name)?.value_as::<&'static str>().ok()
}
