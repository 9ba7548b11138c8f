/* An array in the arena that ends where its page does, and a loop that goes one too far: the kernel
 * function writes through a pointer to the next page, which is not mapped. */
#include "faultline.bpf.h"

ARENA(arena, 16);

#define SLOTS (PAGE_SIZE / sizeof(struct four))

struct four __arena slots[SLOTS] __attribute__((aligned(PAGE_SIZE)));

SEC("tp/mm_page_alloc")
int one_past_the_end(void *ctx)
{
	for (__u32 n = 0; n <= SLOTS; n++)
		write_struct(&slots[n], n);
	print(STDOUT, "%u slots written\n", SLOTS + 1);
	return 0;
}
