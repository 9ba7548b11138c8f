use std::collections::BTreeSet;
use std::string::ToString;

use proptest::prelude::*;

use super::*;

fn data_abort(raw: u64) -> DataAbort {
    match Syndrome::decode(raw).class {
        Class::DataAbort(abort) => abort,
        other => panic!("{raw:#x}: {other:?}"),
    }
}

#[test]
fn captured_words_read_as_sentences() {
    let captured = [
        (0x9600_0007, "data abort, same EL; translation fault, level 3; read"),
        (0x9600_0047, "data abort, same EL; translation fault, level 3; write"),
        (0x9600_0004, "data abort, same EL; translation fault, level 0; read"),
        (0x9600_0010, "data abort, same EL; external abort; read"),
        (0x9600_0410, "data abort, same EL; external abort; read; FAR not valid"),
        (0x9600_004f, "data abort, same EL; permission fault, level 3; write"),
        (0x9600_000b, "data abort, same EL; access flag fault, level 3; read"),
        (0x9600_0021, "data abort, same EL; alignment fault; read"),
        (0x9600_0147, "data abort, same EL; translation fault, level 3; cache maintenance"),
        (0x8600_0007, "instruction abort, same EL; translation fault, level 3"),
        (0x8200_000f, "instruction abort, lower EL; permission fault, level 3"),
        (0x9200_0007, "data abort, lower EL; translation fault, level 3; read"),
        (0x0200_0000, "unknown reason, such as an undefined instruction"),
        (0x5600_002a, "SVC 0x2a"),
        (0xf200_0001, "BRK 0x1"),
        (0x8a00_0000, "PC alignment fault"),
        (0x9a00_0000, "SP alignment fault"),
        (0xbe00_0011, "SError, ISS 0x11"),
        (0xfe00_0003, "exception class 0x3f, ISS 0x3"),
    ];
    for (raw, sentence) in captured {
        assert_eq!(Syndrome::decode(raw).to_string(), sentence, "{raw:#x}");
    }
}

#[test]
fn a_level_3_translation_fault_is_told_from_its_neighbours() {
    assert!(Syndrome::decode(0x9600_0007).is_translation_fault());
    assert!(Syndrome::decode(0x8600_0007).is_translation_fault());
    for other in [0x9600_0003, 0x9600_000b, 0x9600_000f, 0x9600_0010, 0x0200_0007] {
        assert!(!Syndrome::decode(other).is_translation_fault(), "{other:#x}");
    }
}

#[test]
fn only_a_data_write_is_a_write() {
    assert!(Syndrome::decode(0x9600_0047).is_write());
    assert!(!Syndrome::decode(0x9600_0007).is_write());
    assert!(!Syndrome::decode(0x9600_0147).is_write(), "cache maintenance sets WnR");
    assert!(!Syndrome::decode(0x8600_0047).is_write(), "no WnR in an instruction abort");
}

#[test]
fn far_is_valid_unless_an_external_abort_says_otherwise() {
    assert!(Syndrome::decode(0x9600_0010).far_valid());
    assert!(!Syndrome::decode(0x9600_0410).far_valid());
    assert!(!Syndrome::decode(0x8600_0410).far_valid());
    assert!(Syndrome::decode(0x9600_0407).far_valid(), "FnV is RES0 for translation faults");
    assert!(Syndrome::decode(0x8a00_0000).far_valid(), "PC alignment");
    assert!(!Syndrome::decode(0x9a00_0000).far_valid(), "SP alignment leaves FAR alone");
    assert!(!Syndrome::decode(0x0200_0000).far_valid());
}

#[test]
fn levels_below_zero_are_read() {
    assert_eq!(FaultStatus::decode(0x2b), FaultStatus::Translation(-1));
    assert_eq!(FaultStatus::decode(0x2a), FaultStatus::Translation(-2));
    assert_eq!(FaultStatus::decode(0x29), FaultStatus::AddressSize(-1));
    assert_eq!(FaultStatus::decode(0x13), FaultStatus::SyncExternalOnWalk(-1));
    assert_eq!(FaultStatus::decode(0x12), FaultStatus::SyncExternalOnWalk(-2));
    assert_eq!(FaultStatus::decode(0x1b), FaultStatus::ParityOnWalk(-1));
    let sentence = "data abort, same EL; translation fault, level -1; read";
    assert_eq!(Syndrome::decode(0x9600_002b).to_string(), sentence);
}

#[test]
fn the_access_is_described_only_when_isv_says_so() {
    assert_eq!(data_abort(0x96a5_8007).access, None);
    let described = Access { bytes: 4, sign_extend: true, register: 5, wide_register: true };
    assert_eq!(data_abort(0x97a5_8007).access, Some(described));
}

#[test]
fn a_16_bit_instruction_is_told_by_il() {
    assert!(Syndrome::decode(0x0200_0000).long_instruction);
    assert!(!Syndrome::decode(0).long_instruction);
}

#[test]
fn a_higher_half_does_not_disturb_the_lower() {
    let high = Syndrome::decode(0xffff_ffff_9600_0047);
    assert_eq!(high.class, Syndrome::decode(0x9600_0047).class);
}

#[test]
fn every_class_and_status_has_a_sentence_of_its_own() {
    let classes: BTreeSet<_> = (0..64).map(|ec| Syndrome::decode(ec << 26).to_string()).collect();
    assert_eq!(classes.len(), 64);
    let statuses: BTreeSet<_> = (0..64).map(|code| FaultStatus::decode(code).to_string()).collect();
    assert_eq!(statuses.len(), 64);
}

proptest! {
    #[test]
    fn every_word_decodes_and_prints(raw: u64) {
        let syndrome = Syndrome::decode(raw);
        prop_assert!(!syndrome.to_string().is_empty());
        prop_assert_eq!(syndrome.raw, raw);
    }

    #[test]
    fn a_reserved_class_keeps_its_code(raw: u64) {
        if let Class::Other(code) = Syndrome::decode(raw).class {
            prop_assert_eq!(u64::from(code), raw >> 26 & 0x3f);
        }
    }
}
