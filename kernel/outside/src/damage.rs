//! Damage to bytes that were valid: cuts, flips, words with other numbers in them.

use proptest::prelude::*;

/// Numbers at which readers of lengths and offsets go wrong.
const EDGES: [u64; 10] =
    [0, 1, 7, 0x7f, 0xffff, 0x7fff_ffff, 0xffff_fff8, 0xffff_ffff, 1 << 63, u64::MAX];

/// One change, at a place that is a fraction of the length: it survives that bytes are cut.
#[derive(Clone, Debug)]
pub enum Change {
    /// The end is cut off.
    Cut(u16),
    /// Bits of a byte are flipped.
    Flip(u16, u8),
    /// So many bytes, little or big end first, become this number.
    Word(u16, usize, bool, u64),
    /// So many bytes from one place are copied to another.
    Copy(u16, u16, u8),
}

/// A number, often one of [`EDGES`] and a little more or less.
pub fn number() -> impl Strategy<Value = u64> {
    let edge = (prop::sample::select(&EDGES[..]), 0..16_u64);
    prop_oneof![edge.prop_map(|(edge, less)| edge.wrapping_sub(less)), 0..4096_u64, any::<u64>(),]
}

/// Some changes.
pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        1 => any::<u16>().prop_map(Change::Cut),
        4 => (any::<u16>(), 1..=u8::MAX).prop_map(|(at, bits)| Change::Flip(at, bits)),
        4 => (any::<u16>(), prop::sample::select(&[2, 4, 8][..]), any::<bool>(), number())
            .prop_map(|(at, bytes, is_big, number)| Change::Word(at, bytes, is_big, number)),
        2 => (any::<u16>(), any::<u16>(), any::<u8>())
            .prop_map(|(from, to, count)| Change::Copy(from, to, count)),
    ];
    prop::collection::vec(change, 0..6)
}

/// `bytes` after `changes`.
pub fn damaged(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        let length = bytes.len();
        let place = |at: u16| (usize::from(at) * length) >> 16;
        match *change {
            Change::Cut(at) => bytes.truncate(place(at)),
            _ if length == 0 => {}
            Change::Flip(at, bits) => bytes[place(at)] ^= bits,
            Change::Word(at, count, is_big, number) => {
                // Where words lie: on multiples of four.
                let at = place(at) & !3;
                let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
                let word = if is_big { &big[8 - count..] } else { &little[..count] };
                bytes.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = *new);
            }
            Change::Copy(from, to, count) => {
                let from = place(from)..(place(from) + usize::from(count)).min(length);
                let part = bytes[from].to_vec();
                bytes.iter_mut().skip(place(to)).zip(part).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    bytes
}
