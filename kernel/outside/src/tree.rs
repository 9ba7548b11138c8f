//! The device tree: plain values that can be used as they are, or words.

use ::tree::{MAX_CPUS, MAX_MEMORY, Machine, Region};
use arena::addr::PhysAddr;

use crate::is_a_sentence;

/// Where the kernel finds its tree.
const ADDRESS: PhysAddr = PhysAddr::new(0x4000_0000);
/// The first word of a tree.
const MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];
/// The direct map, in which every region must have its place.
const DIRECT_MAP_BYTES: u64 = 1 << 47;

/// Any bytes are a tree, or are refused in words, as they are and with a header that fits them; what is
/// read is in bounds.
///
/// # Panics
/// If that does not hold.
pub fn holds(bytes: &[u8]) {
    read(bytes);
    if let Some((words, rest)) = bytes.split_first_chunk::<8>() {
        let (magic, length) = words.split_at(4);
        let words = [magic, length].map(|four| u32::from_ne_bytes(four.try_into().expect("four")));
        if let Err(error) = ::tree::size(ADDRESS, words) {
            is_a_sentence(&error);
        }
        let length = (bytes.len() as u32).to_be_bytes();
        read(&[&MAGIC, &length, rest].concat());
    }
}

fn read(bytes: &[u8]) {
    match ::tree::read(bytes, ADDRESS) {
        Err(error) => is_a_sentence(&error),
        Ok(machine) => can_be_used(&machine, bytes),
    }
}

fn can_be_used(machine: &Machine<'_>, bytes: &[u8]) {
    let is_inside = |region: Region| {
        let end = region.base.get().checked_add(region.bytes);
        assert!(end.is_some_and(|end| end <= DIRECT_MAP_BYTES), "{region:?}");
    };
    assert!((1..=MAX_MEMORY).contains(&machine.memory.len()));
    assert!(machine.memory.iter().all(|region| region.bytes > 0));
    machine.memory.iter().chain(machine.devices()).for_each(is_inside);
    assert!((1..=MAX_CPUS).contains(&machine.cpus.len()) && machine.timer_ppi < 16);
    assert_eq!((machine.dtb.base, machine.dtb.bytes), (ADDRESS, bytes.len() as u64));
    let tree = bytes.as_ptr_range();
    let text = machine.bootargs.as_bytes().as_ptr_range();
    assert!(machine.bootargs.is_empty() || (tree.start <= text.start && text.end <= tree.end));
    is_a_sentence(machine);
}

#[cfg(test)]
mod build;
#[cfg(test)]
mod tests;
