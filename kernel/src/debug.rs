//! The binary interface to debuggers: what a script may read of a stopped guest.
//!
//! A script finds the static [`faultline_debug`] by its symbol, checks its first two words, and
//! follows the addresses in it. It needs no type information and no code of the guest's. Beside
//! that the kernel promises the symbols `fault_entry`, which every synchronous exception of EL1
//! enters, `oops_entry`, `deadlock_found`, `claim_failed` and `panic_entry`, one of which every
//! bad end enters, and `machine_exit`, which every end enters; the symbols `boot_el1_*` of the
//! vectors and the layout of the [`TrapFrame`](crate::arch::trap::TrapFrame) that they save; and
//! nothing else.
//!
//! The readers are `xtask/gdb` and `xtask/src/hang/interface.rs`. A change of layout raises
//! [`VERSION`] here and there.
//!
//! Words are 64 bits, little-endian, unless their type says otherwise; addresses are virtual. A
//! table is three words: address of its first element, distance of two elements in bytes, number
//! of elements. The elements:
//!
//! | table | words of an element |
//! | --- | --- |
//! | `cpus` | index of the CPU, -, MPIDR affinity, ticks, IRQs, SGIs; TPIDR_EL1 of a CPU points here |
//! | `held` | locks that the CPU holds, then the address of each one's name, first taken first; a name is the address and length of a text |
//! | `running` | programs that run on the CPU, then the address of each, outermost first |
//! | `arenas` | by room: see [`list_arena`] |
//! | `programs` | in no order: see [`Listing::list`] |
//!
//! Elements of the last two begin with a state word: the rest holds something if it is
//! [`LISTED`]. All of it is written by plain atomic stores, so a stop at any instruction leaves a
//! readable picture. Streams are addresses of a ring's words as `arena::stream` lays them out.

use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use arena::arena::AnyArena;
use arena::stream::Stream;
use arena::window::GUARD_BYTES;

use crate::arch::percpu::{CpuLocal, MAX_CPUS, PerCpu};
use crate::arch::smp;
use crate::mem::{self, held, kmap};
use crate::prog::program::Program;
use crate::prog::running;

/// Version of the layout.
pub const VERSION: u64 = 1;
/// Programs that can be listed at one time; later ones run unlisted and are counted.
pub const PROGRAMS: usize = 32;
/// Words of an arena's element behind its state.
pub const ARENA_WORDS: usize = 16;
/// Words of a program's element behind its state.
pub const PROGRAM_WORDS: usize = OWN_WORDS + 2 * STREAM_WORDS;

/// State word: nothing is here.
const FREE: u64 = 0;
/// State word: the element's words hold.
const LISTED: u64 = 1;
/// State word: the element is being written.
const CLAIMED: u64 = 2;
/// In place of an arena's room: the program has no arena.
const NO_ARENA: u64 = u64::MAX;
/// In place of an index of `programs`: the program was never listed.
const NOT_LISTED: usize = usize::MAX;
/// In place of an index of `programs`: there was no room for the program.
const NO_ROOM: usize = usize::MAX - 1;
/// Words of a program that say nothing of its streams.
const OWN_WORDS: usize = 7;
/// Words of a stream.
const STREAM_WORDS: usize = 6;

/// The root of everything a script reads. Constant.
#[repr(C)]
pub struct Interface {
    magic: [u8; 8],
    version: u64,
    /// 1 if held locks are recorded, which measured images do not do.
    lab: u64,
    /// The word that holds the physical address of the kernel's root table, 0 before
    /// `kmap::build`.
    root: *const AtomicU64,
    /// Virtual address of physical address 0.
    direct_base: u64,
    /// Bytes of the guard on either side of an arena's window.
    guard_bytes: u64,
    /// The byte with a bit for each CPU that is online.
    online: *const AtomicU8,
    cpus: Table,
    held: Table,
    /// Names that an element of `held` has room for.
    held_depth: usize,
    running: Table,
    /// Programs that an element of `running` has room for.
    running_depth: usize,
    arenas: Table,
    programs: Table,
    /// The word that counts programs for which the table had no room.
    unlisted: *const AtomicU64,
}

/// A run of equal elements.
#[repr(C)]
pub struct Table {
    first: *const (),
    stride: usize,
    len: usize,
}

/// An element of `arenas` or `programs`.
#[repr(C)]
struct Record<const WORDS: usize> {
    state: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// A program's place on the list, given back when it is dropped.
pub struct Listing(AtomicUsize);

// SAFETY: addresses of statics, which the kernel itself never follows from here.
unsafe impl Sync for Interface {}

static ARENAS: [Record<ARENA_WORDS>; mem::arena::ROOMS as usize] =
    [const { Record::new() }; mem::arena::ROOMS as usize];
static LISTED_PROGRAMS: [Record<PROGRAM_WORDS>; PROGRAMS] = [const { Record::new() }; PROGRAMS];
static UNLISTED: AtomicU64 = AtomicU64::new(0);

/// See [`Interface`]. Nothing in the guest reads it.
#[used]
#[unsafe(no_mangle)]
pub static faultline_debug: Interface = Interface {
    magic: *b"faultlin",
    version: VERSION,
    lab: cfg!(feature = "lab") as u64,
    root: kmap::root_word(),
    direct_base: kmap::DIRECT_BASE,
    guard_bytes: GUARD_BYTES,
    online: smp::online_word(),
    cpus: Table::of(PerCpu::blocks()),
    held: held::records(),
    held_depth: held::DEPTH,
    running: running::records(),
    running_depth: running::DEPTH,
    arenas: Table::of(&ARENAS),
    programs: Table::of(&LISTED_PROGRAMS),
    unlisted: &UNLISTED,
};

impl Table {
    const fn of<T>(elements: &'static [T]) -> Self {
        Self { first: elements.as_ptr().cast(), stride: size_of::<T>(), len: elements.len() }
    }

    /// One element for each CPU.
    pub const fn of_cpus<T>(elements: &'static CpuLocal<T>) -> Self {
        let first = core::ptr::from_ref(elements).cast();
        Self { first, stride: CpuLocal::<T>::STRIDE, len: MAX_CPUS }
    }
}

impl<const WORDS: usize> Record<WORDS> {
    const fn new() -> Self {
        Self { state: AtomicU64::new(FREE), words: [const { AtomicU64::new(0) }; WORDS] }
    }

    fn claim(&self) -> bool {
        // Acquire: the last owner has finished with it.
        self.state.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn fill(&self, words: [u64; WORDS]) {
        for (word, value) in self.words.iter().zip(words) {
            // Relaxed: the state below publishes them.
            word.store(value, Ordering::Relaxed);
        }
        // Release: listed means that the words are there.
        self.state.store(LISTED, Ordering::Release);
    }

    fn free(&self) {
        // Release: pairs with the claim.
        self.state.store(FREE, Ordering::Release);
    }

    fn read(&self) -> Option<[u64; WORDS]> {
        // Acquire: pairs with `fill`.
        let listed = self.state.load(Ordering::Acquire) == LISTED;
        listed.then(|| core::array::from_fn(|n| self.words[n].load(Ordering::Relaxed)))
    }
}

/// Lists the arena of `room`, which is the caller's. The words behind the state:
///
/// | words | |
/// | --- | --- |
/// | 0-3 | first address of the window, its pages, its first address for programs, pages that may be given out |
/// | 4 | physical address of the scratch frame |
/// | 5, 6 | the protocol's name: address, length |
/// | 7-9 | addresses of 32-bit counts: pages mapped, their peak, pages free |
/// | 10 | address of the 32-bit index of the CPU that holds the lock (all ones: nobody), or 0 |
/// | 11-14 | addresses of counts: scratch installs, lost installs, spurious faults, refused locks |
/// | 15 | address of the byte that is 1 once destruction began |
pub fn list_arena(room: u32, arena: &dyn AnyArena) {
    // A lock that is not given: nobody else knows the arena yet, so this cannot be.
    let Ok(watch) = arena.watch() else { return };
    let window = arena.window();
    let protocol = arena.protocol();
    ARENAS[room as usize].fill([
        window.base().get(),
        u64::from(window.pages()),
        window.to_user(window.base()).get(),
        u64::from(watch.max_pages),
        arena.scratch().start().get(),
        address(protocol.as_ptr()),
        protocol.len() as u64,
        address(watch.mapped_pages),
        address(watch.peak_pages),
        address(watch.free_pages),
        address(watch.lock_owner),
        address(watch.scratch_installs),
        address(watch.lost_installs),
        address(watch.spurious_faults),
        address(watch.lock_failures),
        address(watch.destroyed),
    ]);
}

/// Takes the arena of `room` off the list, before its memory goes.
pub fn forget_arena(room: u32) {
    ARENAS[room as usize].free();
}

impl Listing {
    /// Not listed.
    pub const fn new() -> Self {
        Self(AtomicUsize::new(NOT_LISTED))
    }

    /// Lists the program that this belongs to, at its final address, if there is room. The words
    /// behind the state:
    ///
    /// | words | |
    /// | --- | --- |
    /// | 0 | address of the program, by which `running` names it |
    /// | 1 | its number |
    /// | 2, 3 | its name: address, length |
    /// | 4 | room of its arena, or all ones |
    /// | 5 | address of the count of runs that were refused |
    /// | 6 | address of the word of its `Lifecycle` |
    /// | 7-12 | stdout: address of the ring's words, their number, addresses of its head, its tail, the count of dropped records and that of their bytes |
    /// | 13-18 | stderr, likewise |
    pub fn list(&self, program: &Program) {
        let claimed = LISTED_PROGRAMS.iter().position(Record::claim);
        match claimed {
            Some(index) => LISTED_PROGRAMS[index].fill(words_of(program)),
            None => {
                // Relaxed, as everywhere: a count.
                UNLISTED.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Relaxed: whoever drops the program has synchronised with whoever made it.
        self.0.store(claimed.unwrap_or(NO_ROOM), Ordering::Relaxed);
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        match *self.0.get_mut() {
            NOT_LISTED => {}
            NO_ROOM => {
                UNLISTED.fetch_sub(1, Ordering::Relaxed);
            }
            index => LISTED_PROGRAMS[index].free(),
        }
    }
}

/// What the list says about the arena of `room`.
pub fn arena_words(room: u32) -> Option<[u64; ARENA_WORDS]> {
    ARENAS[room as usize].read()
}

/// What the list says about `program`.
pub fn program_words(program: &Program) -> Option<[u64; PROGRAM_WORDS]> {
    LISTED_PROGRAMS.iter().find(|record| is_of(record, program))?.read()
}

/// Programs alive for which the list had no room.
pub fn unlisted() -> u64 {
    UNLISTED.load(Ordering::Relaxed)
}

fn words_of(program: &Program) -> [u64; PROGRAM_WORDS] {
    let name = program.name();
    let mut words = [0; PROGRAM_WORDS];
    let (own, streams) = words.split_at_mut(OWN_WORDS);
    own.copy_from_slice(&[
        address(program),
        program.id(),
        address(name.as_ptr()),
        name.len() as u64,
        program.arena().map_or(NO_ARENA, |arena| u64::from(arena.room())),
        address(program.missed_word()),
        address(program.life().word()),
    ]);
    let (stdout, stderr) = streams.split_at_mut(STREAM_WORDS);
    stdout.copy_from_slice(&stream_words(&program.stdout));
    stderr.copy_from_slice(&stream_words(&program.stderr));
    words
}

fn is_of(record: &Record<PROGRAM_WORDS>, program: &Program) -> bool {
    record.read().is_some_and(|words| words[0] == address(program))
}

fn stream_words(stream: &Stream) -> [u64; STREAM_WORDS] {
    let watch = stream.watch();
    [
        address(watch.words),
        watch.len as u64,
        address(watch.head),
        address(watch.tail),
        address(watch.dropped_records),
        address(watch.dropped_bytes),
    ]
}

fn address<T>(at: *const T) -> u64 {
    at.addr() as u64
}
