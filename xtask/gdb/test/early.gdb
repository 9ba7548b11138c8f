# guest: aa-fault, 2 CPUs
# Commands used before there is anything to show: each says so in one line.

python
def refused(command):
    try:
        gdb.execute(command)
        print("not refused:", command)
    except gdb.error as error:
        print("refused:", error)
ALL = ["fl-walk $pc", "fl-slot $pc", "fl-arena", "fl-locks", "fl-programs", "fl-streams", "fl-cpus",
       "fl-fault"]
end

echo == MMU off\n
python for command in ALL: refused(command)

echo == no map yet, one CPU\n
hbreak kernel_main
continue
python for command in ALL: refused(command)
thread 2
python for command in ["fl-cpus", "fl-fault"]: refused(command)
disconnect
python refused("fl-cpus")
