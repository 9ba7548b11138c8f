# guest: aa-fault@trylock-retry, 2 CPUs
# A hang, looked at while it lasts: the handler retries and retries for a lock that lies below it.

hbreak fault_entry
continue
continue
continue

echo == the third try\n
fl-fault
fl-arena
fl-locks
fl-streams
