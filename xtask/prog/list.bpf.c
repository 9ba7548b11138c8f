/* A list built in the arena by a program that is called once, and walked by the kernel. */
#include "faultline.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT);
	__uint(max_entries, 64);
	__ulong(map_extra, 1ull << 32);
} arena SEC(".maps");

#define NODES 100

struct node __arena *head;
__u64 __arena built;

static __noinline struct node __arena *push(struct node __arena *node, __u64 value)
{
	node->value = value;
	node->next = head;
	head = node;
	built++;
	return node;
}

SEC("syscall")
int list(void *ctx)
{
	struct node __arena *nodes = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);

	if (!nodes)
		return 1;
	for (__u32 n = 0; n < NODES; n++)
		push(&nodes[n], n);
	print(STDOUT, "%lu nodes, their sum is %lu\n", built, follow_list(head, NODES + 1));
	bpf_arena_free_pages(&arena, nodes, 1);
	return 0;
}
