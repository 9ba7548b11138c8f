//! QEMU's trees and our own, as they are and damaged.

use ::tree::{Conduit, Gic};
use proptest::prelude::*;

use super::build::Tree;
use super::*;
use crate::damage::{changes, damaged};

const TREES: [&[u8]; 2] =
    [include_bytes!("../../seed/tree/virt-gic2"), include_bytes!("../../seed/tree/virt-gic3")];

fn region(base: u64, bytes: u64) -> Region {
    Region { base: PhysAddr::new(base), bytes }
}

/// What a tree of the tests' own says.
#[derive(Clone, Debug)]
struct Said {
    memory: Vec<(u64, u64)>,
    cpus: Vec<u64>,
    is_smc: bool,
    is_v3: bool,
    gic: [(u64, u64); 2],
    console: u64,
    timer: u32,
    fw_cfg: Option<(u64, u64)>,
    bootargs: Option<String>,
    padded: bool,
}

impl Said {
    fn tree(&self) -> Vec<u8> {
        let mut tree = Tree::default();
        tree.node("", |root| {
            root.cells("#address-cells", &[2]).cells("#size-cells", &[2]);
            if self.padded {
                root.nothing().nothing();
            }
            for (n, memory) in self.memory.iter().enumerate() {
                root.node(&format!("memory@{n}"), |node| {
                    node.regions("reg", &[*memory]);
                });
            }
            root.node("cpus", |cpus| {
                cpus.cells("#address-cells", &[2]).cells("#size-cells", &[0]);
                for cpu in &self.cpus {
                    let cells = [(cpu >> 32) as u32, *cpu as u32];
                    cpus.node(&format!("cpu@{cpu:x}"), |node| {
                        node.cells("reg", &cells);
                    });
                }
            });
            let method = if self.is_smc { "smc" } else { "hvc" };
            root.node("psci", |node| {
                node.text("method", method);
            });
            root.node("intc", |node| {
                let compatible = if self.is_v3 { "arm,gic-v3" } else { "arm,cortex-a15-gic" };
                node.text("compatible", compatible).regions("reg", &self.gic);
            });
            root.node("pl011@1", |node| {
                node.property("compatible", b"arm,pl011\0arm,primecell\0");
                node.regions("reg", &[(self.console, 0x1000)]);
            });
            root.node("timer", |node| {
                let cells = [1, 13, 4, 1, 14, 4, 1, self.timer, 4, 1, 10, 4];
                node.text("compatible", "arm,armv8-timer").cells("interrupts", &cells);
            });
            if let Some(device) = self.fw_cfg {
                root.node("fw-cfg@2", |node| {
                    node.text("compatible", "qemu,fw-cfg-mmio").regions("reg", &[device]);
                });
            }
            root.node("chosen", |node| {
                node.text("stdout-path", "/pl011@1:115200");
                if let Some(text) = &self.bootargs {
                    node.text("bootargs", text);
                }
            });
        });
        tree.flatten()
    }
}

fn place() -> impl Strategy<Value = (u64, u64)> {
    (0..1_u64 << 46, prop_oneof![1 => Just(0), 3 => 0..1_u64 << 46])
}

fn said() -> impl Strategy<Value = Said> {
    let memory = prop::collection::vec(place(), 1..6);
    let cpus = prop::collection::vec(any::<u64>(), 1..12);
    let optional = (prop::option::of(place()), prop::option::of("[ -~]{0,40}"));
    (memory, cpus, any::<[bool; 3]>(), [place(), place()], place(), 0..16_u32, optional).prop_map(
        |(memory, cpus, [is_smc, is_v3, padded], gic, (console, _), timer, (fw_cfg, bootargs))| {
            Said { memory, cpus, is_smc, is_v3, gic, console, timer, fw_cfg, bootargs, padded }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::CASES))]

    #[test]
    fn what_a_tree_says_is_what_is_read(said in said()) {
        let bytes = said.tree();
        let filled: Vec<_> =
            said.memory.iter().filter(|(_, size)| *size > 0).take(MAX_MEMORY).collect();
        let machine = match ::tree::read(&bytes, ADDRESS) {
            Ok(machine) => machine,
            Err(error) => {
                prop_assert!(filled.is_empty(), "{error}");
                return Ok(());
            }
        };
        prop_assert!(machine.memory.iter().eq(filled.iter().map(|(at, size)| region(*at, *size))));
        prop_assert!(machine.cpus.iter().eq(said.cpus.iter().copied().take(MAX_CPUS)));
        prop_assert_eq!(machine.psci == Conduit::Smc, said.is_smc);
        let [distributor, other] = said.gic.map(|(at, size)| region(at, size));
        let gic = match said.is_v3 {
            true => Gic::V3 { distributor, redistributors: other },
            false => Gic::V2 { distributor, cpu_interface: other },
        };
        prop_assert_eq!(machine.gic, gic);
        prop_assert_eq!((machine.uart.base.get(), machine.timer_ppi), (said.console, said.timer));
        prop_assert_eq!(machine.fw_cfg, said.fw_cfg.map(|(at, size)| region(at, size)));
        prop_assert_eq!(machine.bootargs, said.bootargs.unwrap_or_default());
    }

    #[test]
    fn any_bytes_are_a_tree_or_are_refused_in_words(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        holds(&bytes);
    }

    #[test]
    fn a_damaged_tree_is_read_or_refused_in_words(said in said(), changes in changes()) {
        holds(&damaged(&said.tree(), &changes));
    }

    #[test]
    fn a_damaged_tree_of_qemu_s_is_read_or_refused_in_words(
        which in 0..TREES.len(),
        changes in changes(),
    ) {
        holds(&damaged(TREES[which], &changes));
    }
}

#[test]
fn qemu_s_trees_are_read() {
    let [v2, v3] = TREES.map(|tree| ::tree::read(tree, ADDRESS).unwrap());
    for (machine, cpus) in [(&v2, 2), (&v3, 3)] {
        assert!(machine.memory.iter().eq([region(0x4000_0000, 256 << 20)]));
        assert!(machine.cpus.iter().eq(0..cpus));
        assert_eq!((machine.psci, machine.timer_ppi), (Conduit::Hvc, 11));
        assert_eq!((machine.uart.base.get(), machine.uart.clock_hz), (0x900_0000, 24_000_000));
        assert_eq!(machine.fw_cfg, Some(region(0x902_0000, 0x18)));
        assert_eq!(machine.bootargs, "aa-fault");
    }
    let distributor = region(0x800_0000, 0x1_0000);
    let cpu_interface = region(0x801_0000, 0x1_0000);
    assert_eq!(v2.gic, Gic::V2 { distributor, cpu_interface });
    let redistributors = region(0x80a_0000, 0xf6_0000);
    assert_eq!(v3.gic, Gic::V3 { distributor, redistributors });
    assert_eq!(v2.to_string(), "cpus=2 gic=v2 psci=hvc mem=256MiB timer=ppi11 dtb=0x40000000");
}

#[test]
fn a_truncated_tree_is_refused_in_words() {
    for tree in TREES {
        for length in (0..tree.len()).step_by(61) {
            holds(&tree[..length]);
            is_a_sentence(&::tree::read(&tree[..length], ADDRESS).unwrap_err());
        }
    }
}

#[test]
fn each_node_that_is_missing_is_named() {
    let whole = String::from_utf8_lossy(TREES[0]).into_owned();
    for (name, says) in [
        ("memory@", "/memory is missing"),
        ("cpus\0", "/cpus is missing"),
        ("psci\0\0\0\0\0\0\0\x03", "/psci is missing"),
        ("arm,cortex-a15-gic", "a GICv2 or GICv3 interrupt controller is missing"),
        ("arm,pl011", "a PL011 console is missing"),
        ("arm,armv8-timer", "the architected timer is missing"),
    ] {
        assert!(whole.contains(name), "{name:?}");
        let mut tree = TREES[0].to_vec();
        for at in 0..tree.len() - name.len() {
            if tree[at..].starts_with(name.as_bytes()) {
                tree[at] = b'X';
            }
        }
        assert_eq!(::tree::read(&tree, ADDRESS).unwrap_err().to_string(), says);
    }
}

#[test]
fn the_seeds_hold() {
    crate::replay("tree", holds);
}
