//! Weak memory on a strong host: stores and TLB maintenance that take effect only when the
//! architecture says that they must, or by seeded chance.
//!
//! What is modelled:
//! - a change to a watched descriptor is seen at once by every CPU's loads and atomics (they are
//!   coherent), and by table walks only once it is *drained*: by a DSB of the CPU that made it, or by
//!   chance (litmus `L1`, `H5`, `P1`);
//! - a frame filled with zeroes is so only once drained: by a DSB of that CPU, before a later release
//!   of that CPU is drained, or by chance (`Z1`, `Z5` against `Z4`);
//! - a TLBI drops translations only once a DSB ISH of its CPU completes it, or by chance (`R4`).
//!
//! What is not: reordering of loads, a missing ISB, speculative walks, stores of programs and kernel
//! functions, DMB, and walkers of different CPUs that see a change at different times.

use alloc::vec::Vec;

use arena::addr::{Frame, VirtAddr};
use explore::MAX_CPUS;
use explore::random::Rng;

/// Chance that something drains before a step, one in this many.
const ODDS: u64 = 6;

/// Something that has not taken effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delayed {
    /// A descriptor, for walks.
    Pte {
        /// Its address.
        slot: u64,
        /// Its new value.
        value: u64,
        /// Whether everything before it comes first.
        release: bool,
    },
    /// A frame's zeroes.
    Zero(Frame),
    /// A TLBI of a page, or of all.
    Tlbi(Option<VirtAddr>),
}

/// What each CPU has not let out yet.
pub struct Weak {
    rng: Rng,
    buffers: [Vec<Delayed>; MAX_CPUS],
    /// Descriptors as loads and atomics see them, where walks may not yet.
    coherent: Vec<(u64, u64)>,
}

impl Weak {
    /// Nothing delayed.
    pub fn new(seed: u64) -> Self {
        let buffers = [const { Vec::new() }; MAX_CPUS];
        Self { rng: Rng::new(seed), buffers, coherent: Vec::new() }
    }

    /// Delays what `cpu` did.
    pub fn delay(&mut self, cpu: usize, what: Delayed) {
        if let Delayed::Pte { slot, value, .. } = what {
            self.coherent.retain(|(known, _)| *known != slot);
            self.coherent.push((slot, value));
        }
        self.buffers[cpu].push(what);
    }

    /// The descriptor at `slot` as loads and atomics see it, if that is not what memory holds.
    pub fn coherent(&self, slot: u64) -> Option<u64> {
        self.coherent.iter().find(|(known, _)| *known == slot).map(|(_, value)| *value)
    }

    /// Takes out what a DSB of `cpu` completes, in order: stores, and TLBIs if it is a full one.
    pub fn by_dsb(&mut self, cpu: usize, full: bool) -> Vec<Delayed> {
        let (out, kept): (Vec<_>, Vec<_>) = self.buffers[cpu]
            .iter()
            .partition(|delayed| full || !matches!(delayed, Delayed::Tlbi(_)));
        self.buffers[cpu] = kept;
        out
    }

    /// Takes out what must come before anybody changes the descriptor at `slot` again.
    pub fn before_change(&mut self, slot: u64) -> Vec<Delayed> {
        let mut out = Vec::new();
        for buffer in &mut self.buffers {
            let is_it =
                |delayed: &Delayed| matches!(delayed, Delayed::Pte { slot: at, .. } if *at == slot);
            while let Some(at) = buffer.iter().position(is_it) {
                out.extend(taken(buffer, at));
            }
        }
        out
    }

    /// Takes out the zeroes of `cpu`: its own accesses see them.
    pub fn own_zeroes(&mut self, cpu: usize) -> Vec<Delayed> {
        let mut out = Vec::new();
        while let Some(at) = self.buffers[cpu].iter().position(|d| matches!(d, Delayed::Zero(_))) {
            out.extend(taken(&mut self.buffers[cpu], at));
        }
        out
    }

    /// Takes out what chance lets out now.
    pub fn by_chance(&mut self) -> Vec<Delayed> {
        let mut out = Vec::new();
        for cpu in 0..MAX_CPUS {
            let waiting = self.buffers[cpu].len() as u64;
            if waiting > 0 && self.rng.below(ODDS) == 0 {
                let at = self.rng.below(waiting) as usize;
                out.extend(taken(&mut self.buffers[cpu], at));
            }
        }
        out
    }

    /// Takes everything out.
    pub fn all(&mut self) -> Vec<Delayed> {
        (0..MAX_CPUS).flat_map(|cpu| self.by_dsb(cpu, true)).collect()
    }

    /// `slot` holds in memory what loads see.
    pub fn settled(&mut self, slot: u64) {
        let is_it =
            |delayed: &Delayed| matches!(delayed, Delayed::Pte { slot: at, .. } if *at == slot);
        if !self.buffers.iter().flatten().any(is_it) {
            self.coherent.retain(|(known, _)| *known != slot);
        }
    }
}

/// Takes the entry at `at` out of a buffer, with what must come before it.
fn taken(buffer: &mut Vec<Delayed>, at: usize) -> Vec<Delayed> {
    match buffer[at] {
        Delayed::Pte { release: true, .. } => {
            let (mut out, mut kept) = (Vec::new(), Vec::new());
            for (place, delayed) in buffer.drain(..).enumerate() {
                // A release orders stores, not maintenance.
                let before = place < at && !matches!(delayed, Delayed::Tlbi(_));
                if before || place == at { out.push(delayed) } else { kept.push(delayed) }
            }
            *buffer = kept;
            out
        }
        _ => alloc::vec![buffer.remove(at)],
    }
}
