//! Objects of clang's, as they are, cut, and damaged.

use bpf::image::Image;
use bpf::insn::{CALL, call};
use bpf::kfunc::Kfunc;

use super::*;

const BROKEN: &[u8] = include_bytes!("../../prog/one-past-the-end.bpf.o");
const SOUND: &[u8] = include_bytes!("../../prog/sound.bpf.o");
const LIST: &[u8] = include_bytes!("../../prog/list.bpf.o");

fn linked(bytes: &[u8]) -> Result<Linked> {
    link(bytes, &Options::default())
}

fn error(bytes: &[u8]) -> String {
    linked(bytes).err().map_or("linked".into(), |error| format!("{error:#}"))
}

/// The object with one text in place of another of the same length.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<_> =
        (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "no {from} in it");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
fn a_program_is_linked_with_its_arena_and_its_globals() {
    let linked = linked(BROKEN).unwrap();
    let image = Image::parse(&linked.image).unwrap();
    assert_eq!((image.name(), image.attach()), ("one_past_the_end", "mm_page_alloc"));
    assert_eq!(image.arena_pages(), 16);
    // The array fills the second page and ends with it; the text lies in the first.
    let globals = image.globals().next().unwrap();
    assert_eq!((globals.offset, globals.bytes.len()), (0, 8192));
    assert!(globals.bytes[64..].starts_with(b"%u slots written\n\0"));
    let calls: Vec<_> =
        image.insns().filter(|i| i.code == CALL).map(|i| (i.src(), i.imm)).collect();
    let expected = [Kfunc::WriteStruct, Kfunc::StreamPrintk].map(|k| (call::KFUNC, k as i32));
    assert_eq!(calls, expected);
}

#[test]
fn an_arena_s_flags_and_its_64_bit_address_are_read() {
    let faults = |object| Image::parse(&linked(object).unwrap().image).unwrap().segv_on_fault();
    assert!(faults(LIST) && !faults(SOUND));
    // Its map says `__ulong(map_extra, 1ull << 32)`, an enumeration with one value of 64 bits (BTF kind
    // 19): name, low word, high word behind the type's own three words.
    let info = [1, 0, 0, 19, 8, 0, 0, 0];
    let at = LIST.windows(8).position(|eight| eight == info).unwrap();
    let mut bytes = LIST.to_vec();
    bytes[at + 16] = 3;
    let said = error(&bytes);
    assert!(said.contains("wants to be at 0x300000000"), "{said}");
}

#[test]
fn a_called_function_is_brought_along_and_found() {
    let linked = linked(LIST).unwrap();
    let image = Image::parse(&linked.image).unwrap();
    let functions: Vec<_> = image.functions().map(|function| function.name).collect();
    assert_eq!(functions, ["list", "push"]);
    let insns: Vec<_> = image.insns().collect();
    let push = image.functions().nth(1).unwrap().insn as i64;
    let to_push = |(at, insn): (usize, &Insn)| {
        insn.code == CALL
            && insn.src() == call::LOCAL
            && at as i64 + 1 + i64::from(insn.imm) == push
    };
    assert!(insns.iter().enumerate().any(to_push), "nothing calls push");
    let place = linked.place_in(&format!("    # stderr:   insn {}", push + 1)).unwrap();
    assert!(place.starts_with("push at list.bpf.c:"), "{place}");
}

#[test]
fn a_place_is_told_by_function_and_line() {
    let linked = linked(BROKEN).unwrap();
    let source = include_str!("../../prog/one-past-the-end.bpf.c");
    let line = 1 + source.lines().position(|line| line.contains("write_struct(")).unwrap();
    let image = Image::parse(&linked.image).unwrap();
    let at = image.insns().position(|insn| insn.code == CALL).unwrap();
    let expected = format!("one_past_the_end at one-past-the-end.bpf.c:{line}");
    assert_eq!(linked.place_in(&format!("insn {at}")), Some(expected));
    assert_eq!(linked.place_in("no such word"), None);
}

#[test]
fn an_object_cut_anywhere_is_refused_in_one_line() {
    for bytes in [LIST, SOUND] {
        for length in (0..bytes.len()).step_by(7) {
            let error = error(&bytes[..length]);
            assert!(error != "linked" && !error.contains('\n'), "{length}: {error}");
        }
    }
}

#[test]
fn a_damaged_object_never_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..4000 {
        let mut bytes = LIST.to_vec();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        // Linked or refused: most damage is to debug information.
        let _ = linked(&bytes);
    }
}

#[test]
fn an_unknown_kernel_function_is_refused_with_the_nearest() {
    let error = error(&replaced(BROKEN, "write_struct\0", "write_strukt\0"));
    let expected = "there is no kernel function write_strukt; did you mean write_struct?";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn what_is_no_bpf_object_is_told_apart() {
    assert!(error(b"hello").starts_with("not an object file"));
    let mut arm = SOUND.to_vec();
    // e_machine: AArch64.
    arm[18..20].copy_from_slice(&183u16.to_le_bytes());
    assert!(error(&arm).starts_with("not an object of `clang -target bpf`"), "{}", error(&arm));
}

#[test]
fn the_attach_point_comes_from_the_section_or_the_option() {
    assert_eq!(attach_point(None, "tp/mm_page_alloc").unwrap(), "mm_page_alloc");
    assert_eq!(attach_point(None, "tracepoint/kmem/mm_page_alloc").unwrap(), "mm_page_alloc");
    assert_eq!(attach_point(None, "syscall").unwrap(), "");
    assert_eq!(attach_point(Some("sched_tick"), "syscall").unwrap(), "sched_tick");
    let error = attach_point(Some("mm_page_aloc"), "x").unwrap_err().to_string();
    assert!(error.contains("did you mean mm_page_alloc?"), "{error}");
    let error = attach_point(None, "xdp").unwrap_err().to_string();
    assert!(error.contains("say which with --attach"), "{error}");
}

#[test]
fn an_arena_that_cannot_hold_the_globals_is_refused() {
    let options = Options { arena_pages: Some(1), ..Options::default() };
    let error = link(SOUND, &options).err().unwrap().to_string();
    assert_eq!(error, "its globals take 2 pages of an arena of 1");
}

#[test]
fn a_program_that_the_guest_would_refuse_is_refused_here_with_its_line() {
    // The exit becomes an opcode that there is not.
    let at = LIST.windows(8).position(|eight| *eight == [0x95, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut bytes = LIST.to_vec();
    bytes[at] = 0x96;
    let error = error(&bytes);
    assert!(
        error.contains("the program is rejected: insn ") && error.contains("list.bpf.c:"),
        "{error}"
    );
}

/// Were images that the guest refused without saying why: a mangled name of C++ is as long.
#[test]
fn a_name_that_no_image_can_carry_is_refused() {
    let other = "one past the end";
    let error = error(&replaced(BROKEN, "one_past_the_end", other));
    assert!(error.starts_with(&format!("a function is called {other}; a name has")), "{error}");
}

/// Was an arithmetic overflow.
#[test]
fn a_symbol_beyond_all_memory_is_no_global() {
    let mut bytes = LIST.to_vec();
    let number = |at: usize, bytes: &[u8]| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    let table = number(0x28, &bytes) as usize;
    let is_symbols = |header: &usize| bytes[header + 4..header + 8] == [2, 0, 0, 0];
    let symbols = (table..bytes.len()).step_by(64).find(is_symbols).unwrap();
    let (first, size) = (number(symbols + 24, &bytes), number(symbols + 32, &bytes));
    for symbol in (first..first + size).step_by(24).map(|at| at as usize) {
        // Data.
        if bytes[symbol + 4] & 0xf == 1 {
            bytes[symbol + 8..symbol + 16].fill(0xff);
        }
    }
    assert!(error(&bytes).ends_with("is no global"), "{}", error(&bytes));
}
