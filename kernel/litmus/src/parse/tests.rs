use core::sync::atomic::Ordering;

use super::*;
use crate::expect::{self, Flag, Observed};
use crate::test::{Barrier, Insn, Tlbi};

fn expected(name: &str) -> Expected<'_> {
    Expected { name, observed: Observed::Never, flag: Flag::None, why: "" }
}

fn found(name: &str) -> Test<'_> {
    let text = crate::texts().iter().find(|(this, _)| *this == name).unwrap().1;
    parse(expected(name), text).unwrap()
}

#[test]
fn every_test_that_has_a_verdict_can_be_read() {
    for (expected, (name, text)) in expect::parse(crate::EXPECT).zip(crate::texts()) {
        let expected = expected.unwrap();
        assert_eq!(expected.name, *name);
        let test = parse(expected, text).unwrap();
        assert!((1..=3).contains(&test.threads.len()), "{name}");
    }
}

#[test]
fn a_test_is_what_its_text_says() {
    let test = found("R1-free-reuse-read");
    assert_eq!((test.needs, test.slot), (Needs::Nothing, Entry::To(Page::P)));
    let [clearer, reader] = test.threads.as_slice() else { panic!("{test:?}") };
    assert_eq!(clearer.registers, [(0, Value::Entry(Entry::Empty))]);
    let expected = [
        Insn::Swap(0, 5, Ordering::AcqRel),
        Insn::Barrier(Barrier::DsbIsh),
        Insn::Nothing,
        Insn::Tlbi(Tlbi::Vaae1is),
        Insn::Barrier(Barrier::DsbIsh),
        Insn::Barrier(Barrier::Isb),
        Insn::Move(6, 42),
        Insn::Store(6, Place::Page(Page::P), Ordering::Relaxed),
    ];
    assert_eq!(clearer.insns, expected);
    assert_eq!(reader.insns, [Insn::Load(1, Place::A, Ordering::Relaxed)]);
    let no_fault = Condition::Not(Box::new(Condition::Fault(1, 0)));
    let reads = Condition::Register(1, 1, Value::Word(42));
    assert_eq!(test.exists, Condition::All(vec![no_fault, reads]));
}

#[test]
fn a_handler_lies_behind_its_program() {
    let test = found("H6-handler-dsb-eret");
    let thread = &test.threads[0];
    assert_eq!(thread.handler, 3);
    assert_eq!(thread.insns[1], Insn::Branch(3), "a branch to the end of the program");
    assert_eq!(thread.insns[3], Insn::Add(11, 11, 1));
    assert_eq!(thread.insns.last(), Some(&Insn::ExceptionReturn));
}

#[test]
fn brackets_of_a_condition_bind() {
    let test = found("R7-free-reuse-write");
    let Condition::All(parts) = &test.exists else { panic!("{:?}", test.exists) };
    let either = vec![
        Condition::Register(0, 7, Value::Word(1)),
        Condition::Memory(Place::Page(Page::P), Value::Word(1)),
    ];
    assert_eq!(parts[1], Condition::Any(either));
}

#[test]
fn what_a_machine_must_have_is_read_from_the_head() {
    assert_eq!(found("H7-handler-eret-ets2").needs, Needs::Ets2);
    assert_eq!(found("D1-hd-dirty-lost").needs, Needs::DirtyState);
    assert_eq!(found("D2-hd-dirty-swp").slot, Entry::Clean(Page::P));
}

#[test]
fn what_is_not_understood_is_told() {
    let good = "AArch64 X\n{\n[PTE(a)]=(oa:PA(p));\n0:X2=PTE(a); 0:X3=a;\n}\n P0 ;\n L0: ;\n \
                LDR X5,[X2] ;\nexists (0:X5=1)\n";
    assert!(parse(expected("X"), good).is_ok());
    for (part, instead, why) in [
        ("AArch64 X", "AArch64 Y", "X: its first line is not its name"),
        ("AArch64 X", "AArch64 X\nVariant=sve", "X: not understood: Variant=sve"),
        ("[PTE(a)]", "int a=1; [PTE(a)]", "X: not understood: a=1"),
        ("oa:PA(p)", "oa:PA(z)", "X: not understood: [PTE(a)]=(oa:PA(z))"),
        ("0:X3=a", "1:X3=a", "X: not understood: 1:X3=a"),
        ("LDR X5", "LDTR X5", "X: LDTR X5,[X2]: no instruction of these tests"),
        ("LDR X5,[X2]", "LDR X3,[X2]", "X: LDR X3,[X2]: X3 is an address"),
        ("LDR X5,[X2]", "LDR X5,[X4]", "X: LDR X5,[X4]: X4 holds no address"),
        ("LDR X5,[X2]", "LDAR X5,[X3]", "X: LDAR X5,[X3]: an ordered access of a"),
        ("LDR X5,[X2]", "SWP X5,X6,[X3]", "X: SWP X5,X6,[X3]: an atomic on what is no descriptor"),
        ("LDR X5,[X2]", "DSB OSH", "X: DSB OSH: no barrier of these tests"),
        ("LDR X5,[X2]", "B L7", "X: B L7: no label L7"),
        ("LDR X5,[X2]", "MOV X31,#1", "X: MOV X31,#1: X31 is no register"),
        ("(0:X5=1)", "(0:X5=1", "X: not understood: "),
        ("(0:X5=1)", "(fault(P0:L1))", "X: not understood: fault(P0:L1)"),
        ("exists", "forall", "X: no exists clause"),
        (" P0 ;", " P1 ;", "X: its threads are not numbered from 0 on"),
    ] {
        let bad = good.replace(part, instead);
        assert_eq!(parse(expected("X"), &bad).unwrap_err(), why);
    }
}
