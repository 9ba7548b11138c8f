//! Caches and pool against plain sets of frame numbers, under any interleaving of their calls.

use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Call {
    /// This cache's CPU allocates so many frames; with leave to split blocks or without.
    Alloc { cache: usize, count: usize, may_split: bool },
    /// This cache's CPU frees so many of the frames that are out, from this one on.
    Free { cache: usize, from: usize, count: usize },
    /// A run is taken.
    TakeRun(u32),
    /// The run at this place among those that are out comes back.
    PutRun(usize),
}

/// First frames and lengths of the memory: apart, one that begins and ends at no multiple.
const MEMORY: [(u64, u64); 2] = [(0x4_0003, 341), (0x8_0000, 512)];
/// CPUs.
const CPUS: usize = 3;

/// What was given out, and to whom it can still be given.
struct Model {
    caches: [Cache; CPUS],
    pool: Pool,
    memory: BTreeSet<u64>,
    out: Vec<u64>,
    runs: Vec<(u64, u32)>,
}

impl Model {
    fn new(room: usize) -> Self {
        let mut pool = Pool::with_room(room).unwrap();
        for (first, count) in MEMORY {
            pool.add(Frame::from_number(first), Frame::from_number(first + count));
        }
        let memory = MEMORY.iter().flat_map(|(first, count)| *first..first + count).collect();
        let caches = [const { Cache::new() }; CPUS];
        Self { caches, pool, memory, out: Vec::new(), runs: Vec::new() }
    }

    /// Frames that lie in caches.
    fn cached(&self) -> Vec<u64> {
        let of = |cache: &Cache| {
            cache.frames[..cache.len()].iter().map(|n| n.load(Ordering::Relaxed).into()).collect()
        };
        self.caches.iter().flat_map(|cache| -> Vec<u64> { of(cache) }).collect()
    }

    /// Frames that somebody has.
    fn given(&self) -> Vec<u64> {
        let runs = self.runs.iter().flat_map(|(first, order)| *first..first + (1 << order));
        self.out.iter().copied().chain(runs).collect()
    }

    /// Frames that must be in the pool.
    fn in_pool(&self) -> BTreeSet<u64> {
        let mut rest = self.memory.clone();
        for number in self.given().into_iter().chain(self.cached()) {
            assert!(rest.remove(&number), "frame {number:#x} is in two places, or nowhere");
        }
        rest
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Alloc { cache, count, may_split } => {
                for _ in 0..count {
                    let at_hand = self.caches[cache].len() + self.pool.loose.count > 0;
                    let there_is = at_hand || (may_split && !self.in_pool().is_empty());
                    let cache = &self.caches[cache];
                    if cache.is_empty() {
                        cache.refill(&mut self.pool, || may_split);
                    }
                    let frame = cache.take().map(Frame::number);
                    assert_eq!(frame.is_some(), there_is, "a frame of the pool");
                    let Some(frame) = frame else { return };
                    self.out.push(frame);
                }
            }
            Call::Free { cache, from, count } => {
                for _ in 0..count.min(self.out.len()) {
                    let number = self.out.swap_remove(from % self.out.len());
                    let cache = &self.caches[cache];
                    if !cache.put(Frame::from_number(number)) {
                        cache.drain(&mut self.pool);
                        assert!(cache.put(Frame::from_number(number)));
                    }
                }
            }
            Call::TakeRun(order) => {
                let free = self.in_pool();
                let whole =
                    |first: &&u64| (**first..**first + (1 << order)).all(|n| free.contains(&n));
                let there_is =
                    free.iter().filter(|n| n.is_multiple_of(1 << order)).any(|n| whole(&n));
                let run = self.pool.take_run(order).map(Frame::number);
                assert_eq!(run.is_some(), there_is, "a run of order {order}");
                if let Some(first) = run {
                    assert!(first.is_multiple_of(1 << order) && whole(&&first), "{first:#x}");
                    self.runs.push((first, order));
                }
            }
            Call::PutRun(which) if !self.runs.is_empty() => {
                let (first, order) = self.runs.swap_remove(which % self.runs.len());
                self.pool.put_run(Frame::from_number(first), order);
            }
            Call::PutRun(_) => {}
        }
    }

    /// Gives everything back, and sees that all of it can be had again.
    fn end(mut self) {
        self.call(Call::Free { cache: 0, from: 0, count: usize::MAX });
        (0..self.runs.len()).for_each(|_| self.call(Call::PutRun(0)));
        for cache in &self.caches {
            while let Some(frame) = cache.take() {
                self.pool.put_run(frame, 0);
            }
        }
        assert_eq!(self.pool.free(), self.memory.len() as u64);
        self.call(Call::TakeRun(9));
        assert_eq!(self.runs, [(0x8_0000, 9)], "all is merged again");
        self.call(Call::PutRun(0));
        self.call(Call::Alloc { cache: 1, count: self.memory.len(), may_split: true });
        assert_eq!(self.out.iter().copied().collect::<BTreeSet<_>>(), self.memory);
    }
}

fn call() -> impl Strategy<Value = Call> {
    let some = || prop_oneof![1..4_usize, 1..200_usize];
    prop_oneof![
        4 => (0..CPUS, some(), prop::bool::weighted(0.8))
            .prop_map(|(cache, count, may_split)| Call::Alloc { cache, count, may_split }),
        4 => (0..CPUS, any::<usize>(), some())
            .prop_map(|(cache, from, count)| Call::Free { cache, from, count }),
        2 => (0..11_u32).prop_map(Call::TakeRun),
        2 => any::<usize>().prop_map(Call::PutRun),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 100 }))]

    #[test]
    fn no_frame_is_in_two_places_and_all_can_be_had_again(
        room in prop_oneof![1..64_usize, Just(1000)],
        calls in prop::collection::vec(call(), 1..40),
    ) {
        let mut model = Model::new(room);
        for call in calls {
            model.call(call);
            let free = model.in_pool().len() as u64;
            prop_assert_eq!(model.pool.free(), free, "after {:?}", call);
        }
        model.end();
    }
}
