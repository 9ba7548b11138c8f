//! The few questions that the abort handler asks of a syndrome before it knows whether anybody will
//! ever read it: answered from the raw word, in two or three instructions each.

/// `ESR_EL1` as the CPU gave it. Its answers are those of [`Syndrome`](super::Syndrome).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Esr(pub u64);

/// `EC` of a data abort taken without a change of exception level.
const DATA_ABORT_SAME: u64 = 0x25;
/// `DFSC` of a synchronous external abort, the only one with which `FnV` means something.
const EXTERNAL: u64 = 0x10;
const FNV: u64 = 1 << 10;
const CM: u64 = 1 << 8;
const WNR: u64 = 1 << 6;

impl Esr {
    /// A load or store at EL1 aborted, and FAR_EL1 holds its address.
    pub const fn is_kernel_data_abort_with_far(self) -> bool {
        let lacks_far = self.status() == EXTERNAL && self.0 & FNV != 0;
        self.0 >> 26 & 0x3f == DATA_ABORT_SAME && !lacks_far
    }

    /// Of a data abort: no valid descriptor was met, at whatever level.
    pub const fn is_translation_fault(self) -> bool {
        matches!(self.status(), 0x04..=0x07 | 0x2a | 0x2b)
    }

    /// Of a data abort: the access would have written.
    pub const fn is_write(self) -> bool {
        self.0 & (WNR | CM) == WNR
    }

    const fn status(self) -> u64 {
        self.0 & 0x3f
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::esr::Syndrome;

    /// Classes, and all bits of the ISS that any of the answers depends on.
    fn words() -> impl Iterator<Item = u64> {
        let flags = [0, FNV, CM, WNR, FNV | CM, FNV | WNR, CM | WNR, FNV | CM | WNR];
        (0..64).flat_map(move |class| {
            let with_flags = flags.into_iter().map(move |flags| class << 26 | flags);
            with_flags.flat_map(|word| (0..64).map(move |status| word | status))
        })
    }

    #[test]
    fn the_quick_answers_are_those_of_the_decoded_syndrome() {
        for word in words() {
            let (quick, decoded) = (Esr(word), Syndrome::decode(word));
            let with_far = decoded.is_kernel_data_abort() && decoded.far_valid();
            assert_eq!(quick.is_kernel_data_abort_with_far(), with_far, "{word:#x}");
            if with_far {
                assert_eq!(
                    quick.is_translation_fault(),
                    decoded.is_translation_fault(),
                    "{word:#x}"
                );
                assert_eq!(quick.is_write(), decoded.is_write(), "{word:#x}");
            }
        }
    }
}
