/* What a Faultline program in C needs: no other header.
 *
 * Build:  clang -target bpf -mcpu=v4 -O2 -g -c NAME.bpf.c -o NAME.bpf.o
 * Run:    cargo xtask qemu --prog NAME.bpf.o
 *
 * Clang emits the casts between address spaces by itself; older ones than clang 19 do not.
 */
#ifndef FAULTLINE_BPF_H
#define FAULTLINE_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;

/* The function is a program; the name says where it is attached:
 * "tp/mm_page_alloc", "tp/mm_page_free", "tp/sched_tick", or "syscall": called once. */
#define SEC(name) __attribute__((section(name), used))
/* A kernel function. */
#define __ksym __attribute__((section(".ksyms")))
/* A pointer to, or a global in, the arena. */
#define __arena __attribute__((address_space(1)))
#define __noinline __attribute__((noinline))

#define NULL ((void *)0)
#define PAGE_SIZE 4096
#define NUMA_NO_NODE (-1)
#define BPF_MAP_TYPE_ARENA 33
#define BPF_F_MMAPABLE (1U << 10)
#define BPF_F_SEGV_ON_FAULT (1U << 17)

#define __uint(name, val) int(*name)[val]
#define __ulong(name, val) enum { name##_value = val } name
/* The program's arena, of so many pages. */
#define ARENA(name, pages)                                                                         \
	struct {                                                                                       \
		__uint(type, BPF_MAP_TYPE_ARENA);                                                          \
		__uint(map_flags, BPF_F_MMAPABLE);                                                         \
		__uint(max_entries, pages);                                                                \
	} name SEC(".maps")

enum { STDOUT = 1, STDERR = 2 };

extern void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 pages, int node,
                                           __u64 flags) __ksym;
extern void bpf_arena_free_pages(void *map, void __arena *addr, __u32 pages) __ksym;
extern int bpf_arena_reserve_pages(void *map, void __arena *addr, __u32 pages) __ksym;
extern int stream_printk(int stream, const char *format, const void *args, __u32 bytes) __ksym;
extern int stream_print_stack(int stream) __ksym;

/* Kernel functions that use the pointer without a check. */
struct four { __u64 a, b, c, d; };
extern __u64 read_struct(struct four __arena *p) __ksym;
extern void write_struct(struct four __arena *p, __u64 value) __ksym;
extern void fill_mask(void __arena *p, __u64 bits) __ksym;
struct node { struct node __arena *next; __u64 value; };
extern __u64 follow_list(struct node __arena *head, __u64 most) __ksym;
extern __u64 leaf_read(void __arena *p) __ksym;

/* Prints a line of up to 12 numbers or strings. */
#define print(stream, format, ...)                                                                 \
	({                                                                                             \
		static const char text[] = format;                                                         \
		__u64 args[] = { __VA_ARGS__ };                                                            \
		stream_printk(stream, text, args, sizeof(args));                                           \
	})

#endif
