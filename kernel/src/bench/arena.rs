//! Arenas: allocation and free of runs of pages, in arenas of every size and state.

use arena::addr::VirtAddr;

use super::{figure, quietly};
use crate::mem::arena::KernelArena;
use crate::mem::worker;
use crate::runner::{Ctx, Failure, Outcome, item};

item! {
    name: "bench-arena",
    suite: "bench",
    about: "alloc and free of 1 to 512 pages, and a free that is put off",
    run: runs,
}

item! {
    name: "bench-arena-scaling",
    suite: "bench",
    about: "alloc and free of a page in arenas of 16 to a million pages, and among ever more holes",
    run: scaling,
}

fn create(pages: u32) -> Result<alloc::sync::Arc<KernelArena>, Failure> {
    KernelArena::create(pages).map_err(Failure::of("arena"))
}

fn taken(arena: &KernelArena, pages: u32) -> Result<VirtAddr, Failure> {
    arena.alloc(None, pages).map_err(Failure::of("alloc"))
}

fn runs(_: &Ctx) -> Outcome {
    let arena = create(1024)?;
    quietly(|| {
        for pages in [1, 8, 64, 512] {
            let none = || arena.free(arena.window().page(0), 1024).map_err(Failure::of("free"));
            figure("arena-alloc", pages.into(), none, |()| arena.alloc(None, pages))?;
            let some = || {
                none()?;
                taken(&arena, pages)
            };
            figure("arena-free", pages.into(), some, |at| arena.free(*at, pages))?;
        }
        let one = || {
            worker::work();
            taken(&arena, 1)
        };
        figure("arena-free-later", 1, one, |at| arena.free_later(*at, 1))?;
        worker::work();
        Ok(())
    })
}

fn scaling(_: &Ctx) -> Outcome {
    quietly(|| {
        for pages in [1 << 4, 1 << 8, 1 << 12, 1 << 16, 1 << 20] {
            let arena = create(pages)?;
            pair("arena-pages", pages.into(), &arena)?;
        }
        // From one hole to every other page of the arena.
        for holes in [1, 16, 256, 4096] {
            let arena = create(8192)?;
            for n in 0..holes {
                let at = arena.window().page(2 * n);
                arena.alloc(Some(at), 1).map_err(Failure::of("alloc"))?;
            }
            pair("arena-holes", holes.into(), &arena)?;
        }
        Ok(())
    })
}

/// One page, taken and given back.
fn pair(name: &str, size: u64, arena: &KernelArena) -> Outcome {
    figure(
        name,
        size,
        || Ok(()),
        |()| {
            let at = arena.alloc(None, 1)?;
            arena.free(at, 1).map_err(|_| ::arena::arena::AllocError::NoRange)
        },
    )
}
