//! Which interleavings are the same: a hash of the order of dependent steps.
//!
//! Two steps are dependent if they are of one CPU, or touch one object and one of them writes it.
//! What a CPU does next depends on nothing but its own steps and what dependent steps of others
//! came before each: two interleavings with the same order of dependent steps end in the same state
//! (Mazurkiewicz traces; Musuvathi and Qadeer, *Partial-order reduction for context-bounded state
//! exploration*, use the same hash). So the hash stands for the state, as long as every shared
//! object of the code is named at its steps.

use alloc::vec::Vec;

use crate::MAX_CPUS;

/// A step's kind and what it touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// What kind of step, as a number of the caller's.
    pub kind: u32,
    /// The object: an address, a frame, anything that is equal where it is the same.
    pub object: u64,
    /// Whether it changes the object.
    pub writes: bool,
}

/// The order of the steps so far.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// For each CPU, its last step with all that came before it.
    cpus: [u64; MAX_CPUS],
    objects: Vec<Object>,
}

#[derive(Clone, Copy, Debug)]
struct Object {
    object: u64,
    /// The last write.
    written: u64,
}

impl Order {
    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.cpus = [0; MAX_CPUS];
        self.objects.clear();
    }

    /// `cpu` makes a step.
    pub fn step(&mut self, cpu: usize, access: Access) {
        let object = self.object(access.object);
        let before = self.objects[object].written;
        let what = mix(u64::from(access.kind) << 1 | u64::from(access.writes), access.object);
        let step = mix(mix(self.cpus[cpu], before), what);
        self.cpus[cpu] = step;
        // A write need not name the reads before it: each of them names the write that it saw.
        if access.writes {
            self.objects[object].written = step;
        }
    }

    /// Stands for the state.
    pub fn state(&self) -> u64 {
        self.cpus.iter().fold(0x9e37_79b9_7f4a_7c15, |state, cpu| mix(state, *cpu))
    }

    fn object(&mut self, object: u64) -> usize {
        match self.objects.iter().position(|known| known.object == object) {
            Some(at) => at,
            None => {
                self.objects.push(Object { object, written: 0 });
                self.objects.len() - 1
            }
        }
    }
}

/// Mixes two words (the finalizer of SplitMix64).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut word = a.rotate_left(23).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn access(object: u64, writes: bool) -> Access {
        Access { kind: 1, object, writes }
    }

    fn state(steps: &[(usize, Access)]) -> u64 {
        let mut order = Order::default();
        steps.iter().for_each(|(cpu, access)| order.step(*cpu, *access));
        order.state()
    }

    #[test]
    fn independent_steps_come_to_the_same_in_any_order() {
        let (a, b) = ((0, access(1, true)), (1, access(2, true)));
        assert_eq!(state(&[a, b]), state(&[b, a]));
        let (a, b) = ((0, access(1, false)), (1, access(1, false)));
        assert_eq!(state(&[a, b]), state(&[b, a]));
    }

    #[test]
    fn dependent_steps_do_not() {
        let (a, b) = ((0, access(1, true)), (1, access(1, true)));
        assert_ne!(state(&[a, b]), state(&[b, a]));
        let (a, b) = ((0, access(1, true)), (1, access(1, false)));
        assert_ne!(state(&[a, b]), state(&[b, a]));
        assert_ne!(state(&[b, a]), state(&[a]));
    }

    #[test]
    fn what_a_step_is_and_touches_matters() {
        let kinds = [1, 2].map(|kind| state(&[(0, Access { kind, ..access(1, true) })]));
        assert_ne!(kinds[0], kinds[1]);
        assert_ne!(state(&[(0, access(1, true))]), state(&[(0, access(2, true))]));
        assert_ne!(state(&[(0, access(1, true))]), state(&[(0, access(1, false))]));
        assert_ne!(state(&[(0, access(1, true))]), state(&[(1, access(1, true))]));
    }

    #[test]
    fn a_cleared_order_is_a_new_one() {
        let mut order = Order::default();
        order.step(0, access(1, true));
        order.clear();
        assert_eq!(order.state(), Order::default().state());
        order.step(1, access(1, false));
        assert_eq!(order.state(), state(&[(1, access(1, false))]));
    }
}
