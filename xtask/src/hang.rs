//! What a guest that hangs is doing: every CPU's place, whether its tick still comes, the locks
//! held and the programs running, asked of QEMU before it is killed.

mod interface;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::qmp::{Monitor, Socket};
use crate::symbol::Symbols;
use interface::Interface;

/// How long the guest runs between two looks at its ticks: twenty ticks of a CPU that is well.
const PULSE: Duration = Duration::from_millis(200);
/// Callers of a CPU's place that are told.
const CALLERS: usize = 6;

/// PSTATE: IRQs are masked.
const IRQS_MASKED: u64 = 1 << 7;

/// A CPU as QEMU shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Registers {
    index: usize,
    pc: u64,
    frame: u64,
    pstate: u64,
}

/// The ticks of a CPU at two looks, and what it holds.
struct Pulse {
    cpu: interface::Cpu,
    ticks: u64,
    seconds: f32,
}

/// Lines about a guest that hangs, each beginning `hang: `. The guest is left stopped. What cannot
/// be learnt is said in a line too.
pub fn sample(socket: &Result<Socket>, elf: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let looked = match socket {
        Ok(socket) => look(socket, elf, &mut lines),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    if let Err(error) = looked {
        lines.push(format!("hang: no more is known: {error:#}"));
    }
    lines
}

fn look(socket: &Socket, elf: &Path, lines: &mut Vec<String>) -> Result<()> {
    let mut monitor = socket.connect()?;
    monitor.stop()?;
    let registers = parse_registers(&monitor.ask(0, "info registers -a")?);
    let symbols = Symbols::of(elf);
    let pulses =
        Interface::of(elf).and_then(|interface| Ok((pulses(&mut monitor, &interface)?, interface)));
    match pulses {
        Ok((pulses, interface)) => {
            for cpu in &registers {
                lines.push(place(cpu, pulse_of(&pulses, cpu.index), &symbols));
                let mut read = |address, length| monitor.memory(address, length);
                let callers = interface.backtrace(&mut read, cpu.frame, CALLERS);
                lines.extend(callers.iter().map(|pc| caller(cpu, *pc, &symbols)));
            }
            lines.extend(holdings(&pulses, interface.records_locks()));
            Ok(())
        }
        Err(error) => {
            // The kernel's own word is missing: too early in boot, or damaged. QEMU's stands.
            lines.extend(registers.iter().map(|cpu| place(cpu, None, &symbols)));
            Err(error)
        }
    }
}

/// What the kernel says of its CPUs, and how their ticks went on in a piece of time.
fn pulses(monitor: &mut Monitor<'_>, interface: &Interface) -> Result<Vec<Pulse>> {
    let before = interface.cpus(&mut |address, length| monitor.memory(address, length))?;
    let running = Instant::now();
    monitor.cont()?;
    monitor.wait(PULSE)?;
    monitor.stop()?;
    let seconds = running.elapsed().as_secs_f32();
    let after = interface.cpus(&mut |address, length| monitor.memory(address, length))?;
    Ok(beats(before, &after, seconds))
}

/// What each CPU held at the first look, and how far its ticks went to the second.
fn beats(before: Vec<interface::Cpu>, after: &[interface::Cpu], seconds: f32) -> Vec<Pulse> {
    let beat = |cpu: interface::Cpu| {
        // No CPU goes offline again; one that seems to has a damaged mark, and no pulse.
        let later = after.iter().find(|later| later.index == cpu.index)?;
        Some(Pulse { ticks: later.ticks.wrapping_sub(cpu.ticks), cpu, seconds })
    };
    before.into_iter().filter_map(beat).collect()
}

fn pulse_of(pulses: &[Pulse], index: usize) -> Option<&Pulse> {
    pulses.iter().find(|pulse| pulse.cpu.index == index)
}

/// Where a CPU is, in which state, and whether it is alive.
fn place(cpu: &Registers, pulse: Option<&Pulse>, symbols: &Symbols) -> String {
    let irqs = if cpu.pstate & IRQS_MASKED == 0 { "open" } else { "masked" };
    let level = cpu.pstate >> 2 & 3;
    let ticks = match pulse {
        None => "not online".to_string(),
        Some(Pulse { ticks: 0, seconds, .. }) => format!("no tick in {seconds:.1} s"),
        Some(Pulse { ticks, seconds, .. }) => format!("{ticks} ticks in {seconds:.1} s"),
    };
    let at = named(symbols, cpu.pc, cpu.pc);
    format!("hang: cpu{} at {at}, EL{level}, IRQs {irqs}, {ticks}", cpu.index)
}

fn caller(cpu: &Registers, pc: u64, symbols: &Symbols) -> String {
    // A return address names the instruction behind the call: look at the call.
    format!("hang: cpu{}   called by {}", cpu.index, named(symbols, pc, pc.wrapping_sub(4)))
}

/// An address, and the function and line around `inside`, what is inlined there first.
fn named(symbols: &Symbols, pc: u64, inside: u64) -> String {
    let frames = symbols.of_address(inside);
    if frames.is_empty() { format!("{pc:#x}") } else { frames.join(" in ") }
}

/// The locks and programs of all CPUs.
fn holdings(pulses: &[Pulse], records_locks: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for Pulse { cpu, .. } in pulses {
        let index = cpu.index;
        let locks = cpu.locks.iter().map(|lock| format!("hang: lock {lock} held by cpu{index}"));
        lines.extend(locks);
        let programs =
            cpu.programs.iter().map(|program| format!("hang: program {program} ran on cpu{index}"));
        lines.extend(programs);
    }
    let no_locks = pulses.iter().all(|pulse| pulse.cpu.locks.is_empty());
    match (records_locks, no_locks) {
        (false, _) => lines.push("hang: this kernel does not record its locks".into()),
        (true, true) => lines.push("hang: no lock is held".into()),
        (true, false) => {}
    }
    lines
}

/// The CPUs of `info registers -a`. A register that is not there is 0.
fn parse_registers(text: &str) -> Vec<Registers> {
    let mut cpus = Vec::new();
    for part in text.split("CPU#").skip(1) {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let Ok(index) = part[..digits].parse() else { continue };
        let value = |name: &str| {
            let word = part.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0)
        };
        let (pc, frame, pstate) = (value("PC="), value("X29="), value("PSTATE="));
        cpus.push(Registers { index, pc, frame, pstate });
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERS: &str = "\r\nCPU#0\r\n PC=ffff00004021c530 X00=ffff000040001c27 \
        X01=0000000000000004\r\nX29=ffff00004026f800 X30=ffff00004021e87c  SP=ffff00004026f5f0\r\n\
        PSTATE=600003c5 -ZC- EL1h    FPU disabled\r\n\r\nCPU#1\r\n PC=0000000040000000 \
        X00=0000000000000000\r\nPSTATE=00000048 ---- EL2t    FPU disabled\r\n";

    fn symbols() -> Symbols {
        Symbols::of(Path::new("/nowhere"))
    }

    fn pulse(index: usize, ticks: u64, locks: &[&str]) -> Pulse {
        let locks = locks.iter().map(ToString::to_string).collect();
        let programs = Vec::new();
        Pulse { cpu: interface::Cpu { index, ticks: 5, locks, programs }, ticks, seconds: 0.21 }
    }

    #[test]
    fn registers_are_read_by_cpu() {
        let (pc, frame) = (0xffff_0000_4021_c530, 0xffff_0000_4026_f800);
        let first = Registers { index: 0, pc, frame, pstate: 0x6000_03c5 };
        let second = Registers { index: 1, pc: 0x4000_0000, frame: 0, pstate: 0x48 };
        assert_eq!(parse_registers(REGISTERS), [first, second]);
        assert_eq!(parse_registers("unknown command: 'info registers'\r\n"), []);
    }

    #[test]
    fn a_line_tells_level_mask_and_ticks() {
        let [first, second] = parse_registers(REGISTERS)[..] else { panic!("two CPUs") };
        let line = place(&first, Some(&pulse(0, 0, &[])), &symbols());
        let says = "cpu0 at 0xffff00004021c530, EL1, IRQs masked, no tick in 0.2 s";
        assert_eq!(line, format!("hang: {says}"));
        let line = place(&second, Some(&pulse(1, 20, &[])), &symbols());
        assert_eq!(line, "hang: cpu1 at 0x40000000, EL2, IRQs open, 20 ticks in 0.2 s");
        assert!(place(&second, None, &symbols()).ends_with("not online"));
    }

    #[test]
    fn a_pulse_is_what_the_ticks_went_on_by() {
        let cpus = |ticks: [u64; 2]| {
            let cpu = |(index, ticks)| interface::Cpu { ticks, ..pulse(index, 0, &[]).cpu };
            ticks.into_iter().enumerate().map(cpu).collect::<Vec<_>>()
        };
        let pulses = beats(cpus([7, 30]), &cpus([7, 50]), 0.2);
        assert_eq!(pulses.iter().map(|pulse| pulse.ticks).collect::<Vec<_>>(), [0, 20]);
    }

    #[test]
    fn each_lock_is_told_with_its_owner() {
        let pulses = [pulse(0, 1, &["kmap"]), pulse(1, 0, &["arena", "frames"])];
        let told = ["kmap held by cpu0", "arena held by cpu1", "frames held by cpu1"];
        assert_eq!(holdings(&pulses, true), told.map(|text| format!("hang: lock {text}")));
        assert_eq!(holdings(&[pulse(0, 1, &[])], true), ["hang: no lock is held"]);
        let unknown = holdings(&[pulse(0, 1, &[])], false);
        assert_eq!(unknown, ["hang: this kernel does not record its locks"]);
    }

    #[test]
    fn a_qemu_that_is_gone_is_said_in_one_line() {
        let lines = sample(&Socket::new(), Path::new("/nowhere"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("hang: no more is known: QEMU's monitor is gone"),
            "{lines:?}"
        );
    }
}
