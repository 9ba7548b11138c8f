# guest: aa-fault, 2 CPUs
# The founding case, stopped in its abort: every command has one right answer, before the handler
# has done anything, after it has done everything, and when the program goes on.

python
def refused(command):
    try:
        gdb.execute(command)
        print("not refused:", command)
    except gdb.error as error:
        print("refused:", error)
end

hbreak fault_entry
continue

echo == in the handler\n
fl-fault
fl-walk 0xffff800100001000
fl-walk $FAR_EL1
fl-slot 0xffff800100001000
fl-slot 0xffff800100000ff8
fl-arena
fl-arena 0
fl-locks
fl-programs
fl-streams
fl-streams running
fl-cpus
fl-walk frame.elr
fl-walk 0xffff000009000000

echo == wrong use\n
python
for command in [
    "fl-walk", "fl-walk nonsense", "fl-walk 0x1ffffffffffffffff", "fl-slot 0x1000",
    "fl-slot 0x100001008", "fl-arena 7", "fl-arena 0 1", "fl-streams nobody", "fl-locks cpu0",
]:
    refused(command)
end

echo == handled\n
finish
fl-slot 0xffff800100001000
fl-walk 0xffff800100001234
fl-arena
fl-streams one-past-end
fl-programs

echo == past the return\n
tbreak *$ELR_EL1
continue
fl-slot 0xffff800100001000
fl-locks
python refused("fl-fault")

echo == no second fault\n
hbreak machine_exit
continue
fl-arena
disconnect
python refused("fl-walk 0xffff800100001000")
