//! The kernel functions that a program may call: numbers, names, and what they take. The host resolves
//! names by this table, the check judges arguments by it, the kernel serves the numbers.

/// A kernel function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kfunc {
    /// `void *arena_alloc_pages(map, addr, pages, node, flags)`; Linux `bpf_arena_alloc_pages`.
    ArenaAllocPages = 1,
    /// `void arena_free_pages(map, addr, pages)`; Linux `bpf_arena_free_pages`.
    ArenaFreePages = 2,
    /// `int arena_reserve_pages(map, addr, pages)`; Linux `bpf_arena_reserve_pages`.
    ArenaReservePages = 3,
    /// `int stream_printk(stream, format, args, bytes)`; Linux `bpf_stream_vprintk`.
    StreamPrintk = 4,
    /// `int stream_print_stack(stream)`; Linux `bpf_stream_print_stack`.
    StreamPrintStack = 5,
    /// `u64 read_struct(p)`: reads the four words of a struct without a check; returns their sum.
    ReadStruct = 6,
    /// `void write_struct(p, value)`: writes the four words of a struct without a check.
    WriteStruct = 7,
    /// `void fill_mask(p, bits)`: sets so many bits from `p` on, at most 32 KiB of them.
    FillMask = 8,
    /// `u64 follow_list(p, most)`: walks a linked list, the pointer first in each node, and returns the
    /// sum of the words behind.
    FollowList = 9,
    /// `u64 leaf_read(p)`: reads a word before it pushes any frame record.
    LeafRead = 10,
}

/// What a kernel function takes in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    /// The arena itself.
    Map,
    /// An arena pointer in either form, or a number that stands for one: the kernel looks at the low
    /// 32 bits only and does not check where they point.
    Arena,
    /// A number.
    Scalar,
    /// A pointer to text that ends with a zero: in the arena or on the stack.
    Text,
    /// A pointer to as many bytes as the next argument says: in the arena or on the stack, or zero.
    Bytes,
}

/// What it returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returns {
    /// A number; what returns nothing returns zero.
    Scalar,
    /// An arena pointer in user form, or zero.
    Arena,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The function.
    pub kfunc: Kfunc,
    /// Its name; `bpf_` before it names the same.
    pub name: &'static str,
    /// Arguments in r1 and on.
    pub args: &'static [Arg],
    /// Result in r0.
    pub returns: Returns,
}

/// All of them.
pub const TABLE: &[Signature] = &[
    row(
        Kfunc::ArenaAllocPages,
        "arena_alloc_pages",
        &[Arg::Map, Arg::Arena, Arg::Scalar, Arg::Scalar, Arg::Scalar],
        Returns::Arena,
    ),
    row(
        Kfunc::ArenaFreePages,
        "arena_free_pages",
        &[Arg::Map, Arg::Arena, Arg::Scalar],
        Returns::Scalar,
    ),
    row(
        Kfunc::ArenaReservePages,
        "arena_reserve_pages",
        &[Arg::Map, Arg::Arena, Arg::Scalar],
        Returns::Scalar,
    ),
    row(
        Kfunc::StreamPrintk,
        "stream_printk",
        &[Arg::Scalar, Arg::Text, Arg::Bytes, Arg::Scalar],
        Returns::Scalar,
    ),
    row(Kfunc::StreamPrintStack, "stream_print_stack", &[Arg::Scalar], Returns::Scalar),
    row(Kfunc::ReadStruct, "read_struct", &[Arg::Arena], Returns::Scalar),
    row(Kfunc::WriteStruct, "write_struct", &[Arg::Arena, Arg::Scalar], Returns::Scalar),
    row(Kfunc::FillMask, "fill_mask", &[Arg::Arena, Arg::Scalar], Returns::Scalar),
    row(Kfunc::FollowList, "follow_list", &[Arg::Arena, Arg::Scalar], Returns::Scalar),
    row(Kfunc::LeafRead, "leaf_read", &[Arg::Arena], Returns::Scalar),
];

impl Kfunc {
    /// The function with this number.
    pub fn from_id(id: u32) -> Option<&'static Signature> {
        TABLE.iter().find(|row| row.kfunc as u32 == id)
    }

    /// The function with this name, with or without `bpf_` before it.
    pub fn from_name(name: &str) -> Option<&'static Signature> {
        let bare = name.strip_prefix("bpf_").unwrap_or(name);
        TABLE.iter().find(|row| row.name == bare)
    }

    /// Its row.
    pub fn signature(self) -> &'static Signature {
        Self::from_id(self as u32).expect("every kernel function has a row")
    }
}

const fn row(
    kfunc: Kfunc,
    name: &'static str,
    args: &'static [Arg],
    returns: Returns,
) -> Signature {
    Signature { kfunc, name, args, returns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for (n, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kfunc as usize, n + 1, "{}", row.name);
            assert_eq!(Kfunc::from_name(row.name).map(|found| found.kfunc), Some(row.kfunc));
            assert!(row.args.len() <= 5);
        }
        let prefixed = Kfunc::from_name("bpf_arena_free_pages").map(|found| found.kfunc);
        assert_eq!(prefixed, Some(Kfunc::ArenaFreePages));
    }
}
