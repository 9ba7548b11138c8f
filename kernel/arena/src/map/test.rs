use std::vec::Vec;

use super::*;
use crate::model::{Event, Model};
use crate::pte::{Access, Memory};
use crate::walk::leaf_slot;

const VA: VirtAddr = VirtAddr::new(0xffff_0000_4020_0000);
const PA: PhysAddr = PhysAddr::new(0x4020_0000);
const TEXT: Attributes = Attributes { memory: Memory::Normal, access: Access::KernelReadExecute };

fn with_mapper(test: impl FnOnce(&Mapper<'_, &Model>, &Model)) {
    let model = Model::with_frames(64);
    let machine = &model;
    let root = machine.alloc().unwrap();
    machine.zero(root);
    test(&Mapper::new(&machine, root), &model);
}

fn stamps() -> impl FnMut() -> Stamp {
    let mut number = 0;
    move || {
        number += 1;
        Stamp::new(number).unwrap()
    }
}

fn regions(mapper: &Mapper<'_, &Model>) -> Vec<Region> {
    let mut all = Vec::new();
    mapper.dump(VirtAddr::new(0xffff_0000_0000_0000), 1 << 47, |region| all.push(region));
    all
}

fn mapped(start: VirtAddr, bytes: u64, physical: PhysAddr, attributes: Attributes) -> Region {
    Region { start, bytes, physical, attributes: Some(attributes) }
}

#[test]
fn an_aligned_range_is_mapped_with_blocks_and_its_ends_with_pages() {
    with_mapper(|mapper, _| {
        let (va, pa) = (VA.offset(BLOCK_SIZE - PAGE_SIZE), PA.offset(BLOCK_SIZE - PAGE_SIZE));
        mapper.map(va, pa, BLOCK_SIZE + 2 * PAGE_SIZE, Attributes::KERNEL_DATA).unwrap();
        let levels = [0, PAGE_SIZE, BLOCK_SIZE, BLOCK_SIZE + PAGE_SIZE]
            .map(|at| walk(mapper.machine, mapper.root, va.offset(at)).level);
        assert_eq!(levels, [3, 2, 2, 3]);
        let all = mapped(va, BLOCK_SIZE + 2 * PAGE_SIZE, pa, Attributes::KERNEL_DATA);
        assert_eq!(regions(mapper), [all]);
    });
}

#[test]
fn dump_merges_neighbours_and_splits_at_a_permission() {
    with_mapper(|mapper, _| {
        mapper.map(VA, PA, 4 * PAGE_SIZE, TEXT).unwrap();
        let (va, pa) = (VA.offset(4 * PAGE_SIZE), PA.offset(4 * PAGE_SIZE));
        mapper.map(va, pa, PAGE_SIZE, Attributes::KERNEL_DATA).unwrap();
        assert_eq!(
            regions(mapper),
            [
                mapped(VA, 4 * PAGE_SIZE, PA, TEXT),
                mapped(va, PAGE_SIZE, pa, Attributes::KERNEL_DATA)
            ]
        );
    });
}

#[test]
fn a_mapped_page_is_not_mapped_again() {
    with_mapper(|mapper, _| {
        mapper.map(VA, PA, PAGE_SIZE, TEXT).unwrap();
        assert_eq!(mapper.map(VA, PA, PAGE_SIZE, TEXT), Err(MapError::Occupied(VA)));
    });
}

#[test]
fn unmapping_flushes_every_page_and_leaves_a_hole() {
    with_mapper(|mapper, model| {
        mapper.map(VA, PA, 3 * PAGE_SIZE, TEXT).unwrap();
        for page in 0..3 {
            let va = VA.offset(page * PAGE_SIZE);
            model.touch(va, walk(mapper.machine, mapper.root, va).last());
        }
        let middle = VA.offset(PAGE_SIZE);
        mapper.unmap(middle, PAGE_SIZE, stamps()).unwrap();
        assert_eq!(model.tlb.borrow().len(), 2);
        assert!(!model.tlb.borrow().contains_key(&middle.get()));
        assert_eq!(regions(mapper).len(), 2);
    });
}

#[test]
fn part_of_a_block_is_neither_unmapped_nor_protected() {
    with_mapper(|mapper, _| {
        mapper.map(VA, PA, BLOCK_SIZE, TEXT).unwrap();
        let inside = Err(MapError::InsideBlock(VA));
        assert_eq!(mapper.unmap(VA, PAGE_SIZE, stamps()), inside);
        assert_eq!(mapper.protect(VA, PAGE_SIZE, TEXT, stamps()), inside);
        mapper.unmap(VA, BLOCK_SIZE, stamps()).unwrap();
        assert_eq!(regions(mapper), []);
    });
}

#[test]
fn protecting_changes_the_permission_and_not_the_frame() {
    with_mapper(|mapper, model| {
        mapper.map(VA, PA, 2 * PAGE_SIZE, Attributes::KERNEL_DATA).unwrap();
        model.touch(VA, walk(mapper.machine, mapper.root, VA).last());
        let read_only = Attributes { memory: Memory::Normal, access: Access::KernelRead };
        mapper.protect(VA, PAGE_SIZE, read_only, stamps()).unwrap();
        assert!(model.tlb.borrow().is_empty(), "the writable translation is gone");
        assert_eq!(regions(mapper)[0], mapped(VA, PAGE_SIZE, PA, read_only));
        let beyond = VA.offset(2 * PAGE_SIZE);
        let missing = Err(MapError::NotMapped(beyond));
        assert_eq!(mapper.protect(beyond, PAGE_SIZE, read_only, stamps()), missing);
    });
}

#[test]
fn populating_leaves_nothing_to_allocate() {
    with_mapper(|mapper, model| {
        mapper.populate(VA.offset(BLOCK_SIZE - PAGE_SIZE), 2 * PAGE_SIZE).unwrap();
        model.budget.set(0);
        for page in [VA.offset(BLOCK_SIZE - PAGE_SIZE), VA.offset(BLOCK_SIZE)] {
            assert!(leaf_slot(mapper.machine, mapper.root, page).is_some());
        }
    });
}

#[test]
fn a_lack_of_frames_is_an_error() {
    with_mapper(|mapper, model| {
        model.budget.set(2);
        assert_eq!(mapper.map(VA, PA, PAGE_SIZE, TEXT), Err(MapError::NoMemory));
    });
}

#[test]
fn unaligned_ranges_are_refused() {
    with_mapper(|mapper, _| {
        let odd = VA.offset(8);
        assert_eq!(mapper.map(odd, PA, PAGE_SIZE, TEXT), Err(MapError::Unaligned(odd)));
        assert_eq!(mapper.map(VA, PA, 8, TEXT), Err(MapError::Unaligned(VA)));
    });
}

#[test]
fn a_physical_address_that_is_not_the_start_of_a_page_is_refused() {
    with_mapper(|mapper, _| {
        let odd = PhysAddr::new(PA.get() + 8);
        let refused = Err(MapError::Unaligned(VirtAddr::new(odd.get())));
        assert_eq!(mapper.map(VA, odd, PAGE_SIZE, TEXT), refused);
    });
}

#[test]
fn a_block_needs_both_addresses_aligned() {
    with_mapper(|mapper, _| {
        let pa = PA.offset(PAGE_SIZE);
        mapper.map(VA, pa, BLOCK_SIZE, TEXT).unwrap();
        assert_eq!(walk(mapper.machine, mapper.root, VA).level, 3);
        assert_eq!(regions(mapper), [mapped(VA, BLOCK_SIZE, pa, TEXT)]);
    });
}

#[test]
fn whatever_was_made_is_published() {
    with_mapper(|mapper, model| {
        let published = || model.take_events().ends_with(&[Event::DsbIshst, Event::Isb]);
        mapper.map(VA, PA, PAGE_SIZE, TEXT).unwrap();
        assert!(published(), "map");
        mapper.populate(VA.offset(level_size(1)), PAGE_SIZE).unwrap();
        assert!(published(), "populate");
        mapper.make_tables(VA.offset(2 * level_size(1)), 2).unwrap();
        assert!(published(), "make_tables");
    });
}

#[test]
fn a_new_table_begins_empty_whatever_its_frame_held() {
    with_mapper(|mapper, model| {
        let junk = Pte::page(Frame::from_number(9), TEXT);
        for number in 1..64 {
            let slot = mapper.machine.slot(Frame::from_number(number), 7);
            slot.try_set(&model, VA, junk).unwrap();
        }
        mapper.map(VA, PA, PAGE_SIZE, TEXT).unwrap();
        assert_eq!(regions(mapper), [mapped(VA, PAGE_SIZE, PA, TEXT)]);
    });
}

#[test]
fn dump_splits_where_physical_addresses_jump() {
    with_mapper(|mapper, _| {
        let (va, pa) = (VA.offset(PAGE_SIZE), PA.offset(5 * PAGE_SIZE));
        mapper.map(VA, PA, PAGE_SIZE, TEXT).unwrap();
        mapper.map(va, pa, PAGE_SIZE, TEXT).unwrap();
        let both = [mapped(VA, PAGE_SIZE, PA, TEXT), mapped(va, PAGE_SIZE, pa, TEXT)];
        assert_eq!(regions(mapper), both);
    });
}

#[test]
fn dump_from_the_middle_of_a_block_begins_there() {
    with_mapper(|mapper, _| {
        mapper.map(VA, PA, BLOCK_SIZE, TEXT).unwrap();
        let mut all = Vec::new();
        let (va, pa) = (VA.offset(PAGE_SIZE), PA.offset(PAGE_SIZE));
        mapper.dump(va, 2 * PAGE_SIZE, |region| all.push(region));
        assert_eq!(all, [mapped(va, 2 * PAGE_SIZE, pa, TEXT)]);
    });
}

#[test]
fn unmapping_from_the_middle_of_a_hole_reaches_what_is_behind_it() {
    with_mapper(|mapper, _| {
        mapper.map(VA.offset(BLOCK_SIZE), PA, PAGE_SIZE, TEXT).unwrap();
        mapper.unmap(VA.offset(PAGE_SIZE), BLOCK_SIZE, stamps()).unwrap();
        assert_eq!(regions(mapper), []);
    });
}

#[test]
fn a_walk_lists_the_entry_of_every_level() {
    with_mapper(|mapper, _| {
        mapper.map(VA, PA, PAGE_SIZE, TEXT).unwrap();
        let found = walk(mapper.machine, mapper.root, VA);
        let tables: Vec<_> = found.entries[..3].iter().filter_map(|e| e.next_table()).collect();
        assert_eq!((found.level, tables.len()), (3, 3));
        assert_eq!(found.last(), Pte::page(Frame::containing(PA), TEXT));
        let hole = walk(mapper.machine, mapper.root, VA.offset(level_size(0)));
        assert_eq!((hole.level, hole.last()), (0, Pte::EMPTY));
    });
}
