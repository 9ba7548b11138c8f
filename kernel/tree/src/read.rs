//! From bytes to a [`Machine`].

use arena::addr::PhysAddr;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};

use crate::list::List;
use crate::{Conduit, Console, Gic, MAX_CPUS, MAX_MEMORY, Machine, Region, TreeError};

const MAGIC: u32 = 0xd00d_feed;
/// QEMU's trees are 1 MiB; the Linux boot protocol allows 2.
pub const MAX_BYTES: u32 = 2 << 20;
/// The direct map has the lower half of the kernel's 48 bits.
const DIRECT_MAP_BYTES: u64 = 1 << 47;

type Result<T> = core::result::Result<T, TreeError>;

/// How many bytes the tree at `address` has, by its first two words.
///
/// # Errors
/// [`TreeError::NotFound`] and [`TreeError::BadSize`].
pub fn size(address: PhysAddr, words: [u32; 2]) -> Result<usize> {
    let [magic, bytes] = words.map(u32::from_be);
    if magic != MAGIC {
        return Err(TreeError::NotFound { address: address.get(), magic });
    }
    if bytes > MAX_BYTES {
        return Err(TreeError::BadSize(bytes));
    }
    Ok(bytes as usize)
}

/// Reads the tree in `bytes`, which lie at `address`.
///
/// # Errors
/// See [`TreeError`].
pub fn read(bytes: &[u8], address: PhysAddr) -> Result<Machine<'_>> {
    let tree = Fdt::new(bytes).map_err(TreeError::Broken)?;
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
        dtb: Region { base: address, bytes: bytes.len() as u64 },
    })
}

fn memory(root: FdtNode<'_>) -> Result<List<Region, MAX_MEMORY>> {
    let mut list = List::new();
    for node in root.children().filter(|node| node.name_without_address() == "memory") {
        for region in regions(node, "reg of /memory")? {
            let region = region?;
            if region.bytes > 0 && !list.push(region) {
                return Ok(list);
            }
        }
    }
    if list.is_empty() { Err(TreeError::Missing("/memory")) } else { Ok(list) }
}

fn cpus(root: FdtNode<'_>) -> Result<List<u64, MAX_CPUS>> {
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
    if list.is_empty() { Err(TreeError::Missing("every CPU of /cpus")) } else { Ok(list) }
}

fn psci(root: FdtNode<'_>) -> Result<Conduit> {
    let node = root.child("psci").ok_or(TreeError::Missing("/psci"))?;
    match string(node, "method") {
        Some("hvc") => Ok(Conduit::Hvc),
        Some("smc") => Ok(Conduit::Smc),
        _ => Err(TreeError::Malformed("method of /psci (not hvc or smc)")),
    }
}

fn interrupt_controller(root: FdtNode<'_>) -> Result<Gic> {
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
        Ok(Gic::V3 { distributor, redistributors })
    } else if let Some(node) = of("arm,cortex-a15-gic").or_else(|| of("arm,gic-400")) {
        let (distributor, cpu_interface) = two(node)?;
        Ok(Gic::V2 { distributor, cpu_interface })
    } else {
        Err(TreeError::Missing("a GICv2 or GICv3 interrupt controller"))
    }
}

/// The PL011 that /chosen/stdout-path names, or else the first.
fn console(tree: Fdt<'_>) -> Result<Console> {
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
    Ok(Console { base: region.base, clock_hz: 24_000_000 })
}

fn fw_cfg(root: FdtNode<'_>) -> Result<Option<Region>> {
    let Some(node) = root.children().find(|node| node.is_compatible("qemu,fw-cfg-mmio")) else {
        return Ok(None);
    };
    regions(node, "reg of fw_cfg")?.next().transpose()
}

/// The third interrupt of the generic timer (secure, physical, virtual, hypervisor), as its
/// binding fixes the order.
fn timer_ppi(root: FdtNode<'_>) -> Result<u32> {
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

fn bootargs<'a>(root: FdtNode<'a>) -> Result<&'a str> {
    let Some(node) = root.child("chosen") else { return Ok("") };
    match node.property("bootargs") {
        None => Ok(""),
        Some(property) => property
            .value_as::<&'a str>()
            .map_err(|_| TreeError::Malformed("bootargs of /chosen (not a string)")),
    }
}

/// The `reg` of a node as regions that the direct map can hold.
fn regions<'a>(
    node: FdtNode<'a>,
    what: &'static str,
) -> Result<impl Iterator<Item = Result<Region>> + use<'a>> {
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

fn string<'a>(node: FdtNode<'a>, name: &str) -> Option<&'a str> {
    node.property(name)?.value_as::<&'a str>().ok()
}
