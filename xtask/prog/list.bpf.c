/* A list built in the arena by a program that is called once, and walked by the kernel. */
#include "faultline.bpf.h"

ARENA(arena, 64);

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
