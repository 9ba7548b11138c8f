//! The arena that an object defines in `.maps`, checked as Linux checks it (`arena_map_alloc()` in
//! kernel/bpf/arena.c).

use anyhow::{Result, bail, ensure};

/// Linux `BPF_MAP_TYPE_ARENA`.
const ARENA: u64 = 33;
/// Linux `BPF_F_MMAPABLE`: without it there is no user window, and an arena has one.
const MMAPABLE: u64 = 1 << 10;
/// Linux `BPF_F_SEGV_ON_FAULT`: a task's touch of an unallocated page is its end.
const SEGV_ON_FAULT: u64 = 1 << 17;
/// Linux `BPF_F_NO_USER_CONV`: no casts to user pointers.
const NO_USER_CONV: u64 = 1 << 18;
/// Most pages: 4 GiB.
const MAX_PAGES: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// A map that `.maps` defines; 0 where it does not say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Its type's number.
    pub kind: u64,
    /// Entries; for an arena, pages.
    pub max_entries: u64,
    /// Bytes of a key; an arena has none.
    pub key_size: u64,
    /// Bytes of a value; an arena has none.
    pub value_size: u64,
    /// Its flags.
    pub map_flags: u64,
    /// For an arena, the address where tasks see it.
    pub map_extra: u64,
}

/// What the kernel is told of an arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arena {
    /// Pages.
    pub pages: u32,
    /// Whether a task's touch of an unallocated page is its end.
    pub segv_on_fault: bool,
}

/// The one arena among `maps`, if there is one.
///
/// # Errors
/// There are two, a map of another type, or one that asks for what no arena has.
pub fn arena(maps: &[Map]) -> Result<Option<Arena>> {
    if let Some(Map { name, kind, .. }) = maps.iter().find(|map| map.kind != ARENA) {
        bail!("map {name} is of type {kind}; only an arena ({ARENA}) is known");
    }
    ensure!(maps.len() <= 1, "the program has {} arenas; it may have one", maps.len());
    maps.first().map(check).transpose()
}

fn check(map: &Map) -> Result<Arena> {
    let Map { name, max_entries: pages, map_flags: flags, map_extra: at, .. } = map;
    ensure!(
        map.key_size == 0 && map.value_size == 0,
        "arena {name} has keys or values: an arena has neither"
    );
    ensure!(
        (1..=MAX_PAGES).contains(pages),
        "arena {name} has {pages} pages; it may have 1 to {MAX_PAGES}"
    );
    ensure!(flags & MMAPABLE != 0, "arena {name} lacks the flag BPF_F_MMAPABLE ({MMAPABLE:#x})");
    ensure!(
        flags & NO_USER_CONV == 0,
        "arena {name} has the flag BPF_F_NO_USER_CONV ({NO_USER_CONV:#x}), which is not built"
    );
    let unknown = flags & !(MMAPABLE | SEGV_ON_FAULT);
    ensure!(unknown == 0, "arena {name} has the flags {unknown:#x}, which an arena has not");
    ensure!(at % PAGE == 0, "arena {name} begins at {at:#x}, which is no multiple of a page");
    let last = at.checked_add(pages * PAGE - 1);
    ensure!(
        last.is_some_and(|last| last >> 32 == at >> 32),
        "arena {name} crosses a multiple of 4 GiB: from {at:#x}, {pages} pages"
    );
    let base = bpf::vm::ARENA_USER_BASE;
    ensure!(
        [0, base].contains(at),
        "arena {name} wants to be at {at:#x}; here every arena is at {base:#x}"
    );
    Ok(Arena { pages: *pages as u32, segv_on_fault: flags & SEGV_ON_FAULT != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Map {
        let name = "m".to_string();
        Map { name, kind: ARENA, max_entries: 9, map_flags: MMAPABLE, ..Map::default() }
    }

    fn refusal(map: Map) -> String {
        arena(&[map]).unwrap_err().to_string()
    }

    #[test]
    fn one_arena_is_one_arena() {
        assert_eq!(arena(&[]).unwrap(), None);
        let plain = Arena { pages: 9, segv_on_fault: false };
        assert_eq!(arena(&[sound()]).unwrap(), Some(plain));
        let flags = MMAPABLE | SEGV_ON_FAULT;
        let faults = Map { map_flags: flags, map_extra: 1 << 32, max_entries: 1 << 20, ..sound() };
        let faults = arena(&[faults]).unwrap();
        assert_eq!(faults, Some(Arena { pages: 1 << 20, segv_on_fault: true }));
        let two = arena(&[sound(), sound()]).unwrap_err().to_string();
        assert_eq!(two, "the program has 2 arenas; it may have one");
    }

    #[test]
    fn what_linux_refuses_of_an_arena_is_refused() {
        for (map, says) in [
            (Map { kind: 1, ..sound() }, "of type 1; only an arena"),
            (Map { key_size: 4, ..sound() }, "has keys or values"),
            (Map { value_size: 8, ..sound() }, "has keys or values"),
            (Map { max_entries: 0, ..sound() }, "has 0 pages"),
            (Map { max_entries: (1 << 20) + 1, ..sound() }, "has 1048577 pages"),
            (Map { map_flags: 0, ..sound() }, "lacks the flag BPF_F_MMAPABLE"),
            (Map { map_flags: MMAPABLE | 1, ..sound() }, "has the flags 0x1,"),
            (Map { map_flags: MMAPABLE | NO_USER_CONV, ..sound() }, "BPF_F_NO_USER_CONV"),
            (Map { map_extra: 0x1_0000_0800, ..sound() }, "no multiple of a page"),
            (Map { map_extra: 0x1_ffff_8000, ..sound() }, "crosses a multiple of 4 GiB"),
            (Map { map_extra: u64::MAX << 12, ..sound() }, "crosses a multiple of 4 GiB"),
            (Map { map_extra: 1 << 44, ..sound() }, "every arena is at 0x100000000"),
        ] {
            let said = refusal(map);
            assert!(said.contains(says), "{said}, not {says}");
        }
    }
}
