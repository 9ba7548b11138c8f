//! The commands, one file each.

pub mod bench;
pub mod doctor;
pub mod explore;
pub mod gdb;
pub mod lint;
pub mod litmus;
pub mod proof;
pub mod qemu;
pub mod selftest;
pub mod test;
