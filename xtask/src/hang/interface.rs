//! The kernel's debug interface, read out of a stopped guest's memory. The layout is that of
//! `kernel/src/debug.rs`; `xtask/gdb` reads the same.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSegment, ObjectSymbol};

/// The root of everything.
const SYMBOL: &str = "faultline_debug";
/// First word of the interface.
const MAGIC: &[u8] = b"faultlin";
/// Version of the layout that is read here.
const VERSION: u64 = 1;
/// Words of the interface behind magic and version.
const WORDS: usize = 23;
/// Bytes of a name that are read.
const NAME_LIMIT: usize = 80;
/// Words of a program's element up to its name: state, address, number, name, its length.
const PROGRAM_WORDS: usize = 5;
/// Where the virt machine's memory begins: below are devices, which a read may change.
const RAM: u64 = 0x4000_0000;

/// Reads guest memory: physical address, length.
pub type Read<'a> = dyn FnMut(u64, usize) -> Result<Vec<u8>> + 'a;

/// The interface as the image has it: constant, and complete before the guest starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Virtual address of the interface itself.
    at: u64,
    lab: u64,
    direct_base: u64,
    online: u64,
    cpus: Table,
    held: Table,
    held_depth: u64,
    running: Table,
    running_depth: u64,
    programs: Table,
}

/// What the kernel says of a CPU that is online.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Its index.
    pub index: usize,
    /// Ticks of its timer since its start.
    pub ticks: u64,
    /// Names of the locks that it holds, first taken first.
    pub locks: Vec<String>,
    /// Programs that run on it, outermost first.
    pub programs: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Table {
    first: u64,
    stride: u64,
    len: u64,
}

impl Interface {
    /// Of the kernel at `elf`.
    ///
    /// # Errors
    /// The file is no kernel of ours, or one of another version.
    pub fn of(elf: &Path) -> Result<Self> {
        let data = std::fs::read(elf)
            .with_context(|| format!("the kernel {} cannot be read", elf.display()))?;
        let file = object::File::parse(&*data)?;
        let at = file
            .symbol_by_name(SYMBOL)
            .with_context(|| format!("the kernel has no symbol {SYMBOL}"))?
            .address();
        let bytes = file.segments().find_map(|segment| {
            let offset = usize::try_from(at.checked_sub(segment.address())?).ok()?;
            segment.data().ok()?.get(offset..offset.checked_add(16 + 8 * WORDS)?)
        });
        Self::decode(at, bytes.with_context(|| format!("{SYMBOL} lies in no segment"))?)
    }

    fn decode(at: u64, bytes: &[u8]) -> Result<Self> {
        let (head, rest) = bytes.split_at_checked(16).context("the interface is cut off")?;
        ensure!(head.starts_with(MAGIC), "{SYMBOL} does not begin with its magic word");
        let version = words(head)[1];
        ensure!(version == VERSION, "{SYMBOL} has version {version}, not {VERSION}");
        let Ok(word) = <[u64; WORDS]>::try_from(words(rest)) else {
            bail!("the interface is cut off");
        };
        let table = |n: usize| Table { first: word[n], stride: word[n + 1], len: word[n + 2] };
        Ok(Self {
            at,
            lab: word[0],
            direct_base: word[2],
            online: word[4],
            cpus: table(5),
            held: table(8),
            held_depth: word[11],
            running: table(12),
            running_depth: word[15],
            programs: table(19),
        })
    }

    /// Whether held locks are recorded.
    pub fn records_locks(&self) -> bool {
        self.lab != 0
    }

    /// What the kernel says of each CPU that is online.
    ///
    /// # Errors
    /// The guest's memory does not hold this image, or cannot be read.
    pub fn cpus(&self, read: &mut Read<'_>) -> Result<Vec<Cpu>> {
        let magic = self.bytes(read, self.at, MAGIC.len())?;
        ensure!(magic == MAGIC, "the guest's memory does not hold the kernel that was started");
        let online = self.bytes(read, self.online, 1)?;
        let programs = self.program_names(read)?;
        let mut cpus = Vec::new();
        for index in (0..self.cpus.len.min(8)).filter(|index| online[0] >> index & 1 == 1) {
            let block = self.words(read, self.cpus.element(index), 4)?;
            let mut locks = Vec::new();
            for name in self.stack(read, self.held.element(index), self.held_depth)? {
                let text = self.words(read, name, 2)?;
                locks.push(self.text(read, text[0], text[1])?);
            }
            let running = self.stack(read, self.running.element(index), self.running_depth)?;
            let name_of = |address: &u64| {
                let known = programs.iter().find(|(program, _)| program == address);
                known.map_or_else(|| format!("{address:#x}"), |(_, name)| name.clone())
            };
            let programs = running.iter().map(name_of).collect();
            cpus.push(Cpu { index: index as usize, ticks: block[3], locks, programs });
        }
        Ok(cpus)
    }

    /// Return addresses from the chain of frame records at `frame`, innermost first, at most
    /// `limit`. Ends at the first that lies nowhere or does not go up: stacks grow down.
    pub fn backtrace(&self, read: &mut Read<'_>, mut frame: u64, limit: usize) -> Vec<u64> {
        let mut all = Vec::new();
        while all.len() < limit && frame.is_multiple_of(8) {
            let Ok(record) = self.words(read, frame, 2) else { break };
            if record[1] == 0 {
                break;
            }
            all.push(record[1]);
            if record[0] <= frame {
                break;
            }
            frame = record[0];
        }
        all
    }

    /// Addresses and names of the programs that are listed.
    fn program_names(&self, read: &mut Read<'_>) -> Result<Vec<(u64, String)>> {
        let mut names = Vec::new();
        for index in 0..self.programs.len.min(64) {
            let words = self.words(read, self.programs.element(index), PROGRAM_WORDS)?;
            if let [1, address, number, name, length] = words[..] {
                let name = self.text(read, name, length)?;
                names.push((address, format!("{name} #{number}")));
            }
        }
        Ok(names)
    }

    /// The addresses in a record of one CPU: their count, then each. Null for a moment while one
    /// is pushed.
    fn stack(&self, read: &mut Read<'_>, record: u64, depth: u64) -> Result<Vec<u64>> {
        let words = self.words(read, record, 1 + depth.min(64) as usize)?;
        let count = words[0].min(depth) as usize;
        Ok(words.into_iter().skip(1).take(count).filter(|&address| address != 0).collect())
    }

    fn text(&self, read: &mut Read<'_>, at: u64, length: u64) -> Result<String> {
        let bytes = self.bytes(read, at, NAME_LIMIT.min(usize::try_from(length)?))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn words(&self, read: &mut Read<'_>, at: u64, count: usize) -> Result<Vec<u64>> {
        Ok(words(&self.bytes(read, at, 8 * count)?))
    }

    /// Everything that is read lies in the direct map: no table of the guest's is trusted.
    fn bytes(&self, read: &mut Read<'_>, at: u64, length: usize) -> Result<Vec<u8>> {
        match at.checked_sub(self.direct_base) {
            Some(physical @ RAM..0x1_0000_0000_0000) => read(physical, length),
            _ => bail!("the guest's memory is damaged: {at:#x} is no address of its RAM"),
        }
    }
}

impl Table {
    fn element(&self, index: u64) -> u64 {
        self.first.wrapping_add(self.stride.wrapping_mul(index))
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap_or([0; 8])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_0000_0000_0000;
    const AT: u64 = BASE + RAM;

    /// A guest's memory from [`RAM`] on, and the interface in it: CPU 1 of two holds a lock and
    /// runs a program.
    fn guest() -> Vec<u8> {
        let mut memory = vec![0; 0x1000];
        let mut put = |at: usize, words: &[u64]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            memory[at..at + bytes.len()].copy_from_slice(&bytes);
        };
        put(0, &[u64::from_le_bytes(*b"faultlin"), VERSION, 1, 0, BASE, 4096, AT + 0x200]);
        put(56, &[AT + 0x300, 64, 2, AT + 0x400, 64, 2, 2, AT + 0x500, 64, 2, 2]);
        put(168, &[AT + 0x600, 64, 2, 0]);
        put(0x200, &[0b11]);
        put(0x300, &[0, 0, 0, 7]);
        put(0x340, &[1, 0, 1, 9]);
        put(0x440, &[1, AT + 0x700]);
        put(0x540, &[2, 0xaaaa, 0xbbbb]);
        put(0x640, &[1, 0xaaaa, 4, AT + 0x720, 4]);
        put(0x700, &[AT + 0x710, 5]);
        memory[0x710..0x715].copy_from_slice(b"arena");
        memory[0x720..0x724].copy_from_slice(b"leaf");
        memory
    }

    fn reader(memory: &[u8]) -> impl FnMut(u64, usize) -> Result<Vec<u8>> {
        move |at, length| {
            let start = (at - RAM) as usize;
            memory.get(start..start + length).map(<[u8]>::to_vec).context("outside")
        }
    }

    fn interface(memory: &[u8]) -> Interface {
        Interface::decode(AT, &memory[..16 + 8 * WORDS]).unwrap()
    }

    #[test]
    fn ticks_locks_and_programs_are_read_by_cpu() {
        let memory = guest();
        let cpus = interface(&memory).cpus(&mut reader(&memory)).unwrap();
        let idle = Cpu { index: 0, ticks: 7, locks: vec![], programs: vec![] };
        let (locks, programs) = (vec!["arena".into()], vec!["leaf #4".into(), "0xbbbb".into()]);
        assert_eq!(cpus, [idle, Cpu { index: 1, ticks: 9, locks, programs }]);
    }

    #[test]
    fn a_cpu_that_is_not_online_is_not_read() {
        let mut memory = guest();
        memory[0x200] = 0b10;
        let cpus = interface(&memory).cpus(&mut reader(&memory)).unwrap();
        assert_eq!(cpus.iter().map(|cpu| cpu.index).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn another_image_or_version_is_refused() {
        let good = guest();
        let interface = interface(&good);
        let error = interface.cpus(&mut reader(&[0; 0x1000])).unwrap_err().to_string();
        assert!(error.contains("does not hold the kernel"), "{error}");
        let mut newer = good.clone();
        newer[8] = 2;
        assert!(Interface::decode(AT, &newer[..16 + 8 * WORDS]).is_err());
        assert!(Interface::decode(AT, &good[..100]).is_err());
        assert!(Interface::decode(AT, &good[..7]).is_err());
    }

    #[test]
    fn a_damaged_pointer_is_said_and_not_followed() {
        let mut memory = guest();
        memory[0x448..0x450].copy_from_slice(&(BASE + 0x900_0000).to_le_bytes());
        let error = interface(&memory).cpus(&mut reader(&memory)).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("0xffff000009000000"), "{error}");
    }

    #[test]
    fn a_backtrace_ends_wherever_its_records_do() {
        let mut memory = guest();
        let mut put = |at: usize, words: [u64; 2]| {
            memory[at..at + 8].copy_from_slice(&words[0].to_le_bytes());
            memory[at + 8..at + 16].copy_from_slice(&words[1].to_le_bytes());
        };
        put(0x800, [AT + 0x820, 0x111]);
        put(0x820, [AT + 0x820, 0x222]);
        let interface = interface(&memory);
        let walk = |frame, limit| interface.backtrace(&mut reader(&memory), frame, limit);
        assert_eq!(walk(AT + 0x800, 9), [0x111, 0x222]);
        assert_eq!(walk(AT + 0x800, 1), [0x111]);
        assert!(walk(AT + 0x801, 9).is_empty());
        assert!(walk(0, 9).is_empty());
    }
}
