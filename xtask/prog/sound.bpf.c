/* An array in the arena that ends where its page does, and a loop that ends with it. */
#include "faultline.bpf.h"

ARENA(arena, 16);

#define SLOTS (PAGE_SIZE / sizeof(struct four))

struct four __arena slots[SLOTS] __attribute__((aligned(PAGE_SIZE)));

SEC("tp/mm_page_alloc")
int sound(void *ctx)
{
	for (__u32 n = 0; n < SLOTS; n++)
		write_struct(&slots[n], n);
	print(STDOUT, "%u slots written\n", SLOTS);
	return 0;
}
