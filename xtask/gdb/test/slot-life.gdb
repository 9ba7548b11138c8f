# guest: aa-fault, 2 CPUs
# One slot from the wild access to the arena's destruction, by a watchpoint: empty, scratch,
# tombstone, empty.

hbreak fault_entry
continue
fl-slot 0xffff800100001000
watch -l *$fl_slot

echo == next change\n
continue
fl-slot 0xffff800100001000
fl-fault

echo == next change\n
continue
fl-slot 0xffff800100001000
fl-arena

echo == next change\n
continue
fl-slot 0xffff800100001000
