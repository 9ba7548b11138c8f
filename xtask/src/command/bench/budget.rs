//! What an operation may cost, in guest instructions on neoverse-n1 with one CPU; what Linux 7.2.13
//! spends, measured elsewhere by the same method; and what cannot be avoided, estimated.

/// One operation's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// The most.
    pub most: u64,
    /// Linux's figure, if there is one.
    pub linux: Option<u64>,
    /// The estimate of the least.
    pub floor: Option<u64>,
}

/// Most processor time of the host's for a boot, in milliseconds.
pub const HOST_CPU_MS: u64 = 500;
/// Most bytes of the flat image.
pub const IMAGE_BYTES: u64 = 1_000_000;

/// Benchmark, size, budget, Linux, floor; a floor of 0 is none.
const TABLE: &[(&str, u64, u64, u64, u64)] = &[
    ("nops-100", 1, 100, 100, 100),
    ("irq-spinlock", 1, 20, 32, 10),
    ("resilient-lock", 1, 60, 133, 20),
    ("frame-alloc-free", 1, 60, 1305, 20),
    ("zero-page", 1, 266, 266, 200),
    ("try-set", 1, 12, 38, 7),
    ("walk-to-slot", 1, 40, 291, 20),
    ("bbm-replace", 1, 40, 123, 15),
    ("fault-fixup", 1, 200, 544, 120),
    ("fault-scratch-recorded", 1, 600, 2800, 200),
    ("fault-scratch-rendered", 1, 8000, 91_800, 0),
    ("arena-alloc", 1, 600, 2007, 330),
    ("arena-alloc", 8, 8 * 320, 8692, 8 * 275),
    ("arena-alloc", 64, 64 * 320, 62_020, 64 * 275),
    ("arena-alloc", 512, 512 * 320, 488_591, 512 * 275),
    ("arena-free", 1, 250, 1185, 80),
    ("arena-free", 8, 8 * 60, 5262, 8 * 15),
    ("arena-free", 64, 64 * 60, 29_790, 64 * 15),
    ("arena-free", 512, 512 * 60, 222_490, 512 * 15),
    ("arena-free-later", 1, 100, 1196, 30),
    ("user-first-touch", 1, 1200, 4726, 600),
];

/// What cannot be avoided in an operation, by the instruction sequences of this kernel. The vectors take
/// 55: slot and check of SP 7, saving 26, call 1, restoring 20, ERET 1.
const UNAVOIDABLE: &[(&str, u64, &str)] = &[
    ("irq-spinlock", 9, "MRS and MSR of DAIF, LDAXR, CBNZ, STXR, CBNZ, STLR, MSR of DAIF, operand"),
    ("resilient-lock", 13, "as irq-spinlock, with LDXR, CMP, B.NE, STLXR, CBNZ to release"),
    ("frame-alloc-free", 20, "per way: DAIF 3, this CPU's cache 4, its count and entry 3"),
    ("zero-page", 65, "64 DC ZVA of 64 bytes, RET"),
    ("try-set", 7, "BL, expected word, CASL, CBNZ, DSB, ISB, RET"),
    ("walk-to-slot", 20, "per level: index 2, table's address 2, load 1"),
    ("bbm-replace", 12, "SWPAL, DSB, TLBI, DSB, ISB, CASL, DSB, ISB, operands 4"),
    ("fault-fixup", 90, "vectors 55, syndrome 4, row 10, walk 20, ELR 1"),
    (
        "fault-scratch-recorded",
        200,
        "vectors 55, syndrome 4, row 6, walk 20, install 12, record 45, \
                                     backtrace 8 a frame",
    ),
    (
        "arena-alloc",
        240,
        "zero 65 to 154, lock 13, range 30, walk 20, frame 10, install 8, barriers 2",
    ),
    (
        "arena-free",
        120,
        "lock 13, range 30, walk 20, clear, flush and retire 20, frame 10, checks 27",
    ),
    (
        "user-first-touch",
        360,
        "as arena-alloc, with a second walk and install 28, vectors 55, the kernel's registers 24, lower half 13",
    ),
];

/// What cannot be avoided in one operation: how many instructions, and which.
pub fn unavoidable(name: &str) -> Option<(u64, &'static str)> {
    UNAVOIDABLE.iter().find(|row| row.0 == name).map(|row| (row.1, row.2))
}

impl Budget {
    /// The budget of a benchmark at a size, if it has one.
    pub fn of(name: &str, size: u64) -> Option<Self> {
        let row = TABLE.iter().find(|row| (row.0, row.1) == (name, size))?;
        let some = |n: u64| (n > 0).then_some(n);
        Some(Self { most: row.2, linux: some(row.3), floor: some(row.4) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_lies_between_the_floor_and_linux() {
        for (name, size, most, linux, floor) in TABLE {
            assert!(floor <= most && most <= linux, "{name} {size}");
            let budget = Budget::of(name, *size).unwrap();
            assert_eq!(budget.most, *most, "{name} {size} is there twice");
        }
        assert_eq!(Budget::of("arena-alloc", 2), None);
        for (name, least, _) in UNAVOIDABLE {
            assert!(*least <= Budget::of(name, 1).unwrap().most, "{name}");
        }
    }
}
