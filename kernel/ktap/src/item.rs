//! The record by which an image lists a test or scenario, in its section `.faultline.items`.
//!
//! The image's side writes records in this layout; the host reads them from the ELF without
//! booting it. All fields are little-endian 64-bit words:
//!
//! | words | record | variant |
//! | --- | --- | --- |
//! | 0, 1 | name: address, length | name |
//! | 2, 3 | suite | about |
//! | 4, 5 | about | expect |
//! | 6, 7 | expect | |
//! | 8, 9 | variants: address, count | |
//! | 10 | CPUs needed | |
//! | 11 | deadline in ms, 0 for the default | |
//! | 12 | address of the function | |
//! | 13 | 1 if it is explored: run under one schedule after the other | |
//!
//! `expect` is empty (it must pass), `oops: TEXT`, `deadlock: TEXT` or `fail: TEXT`.

/// Bytes of a record.
pub const RECORD_BYTES: usize = 14 * 8;
/// Bytes of a variant.
pub const VARIANT_BYTES: usize = 6 * 8;

#[cfg(feature = "parse")]
pub use decoder::{DecodeError, Expect, Item, Variant, decode};

#[cfg(feature = "parse")]
mod decoder {
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use core::fmt;

    use super::{RECORD_BYTES, VARIANT_BYTES};

    /// Longest text and largest table that are believed.
    const SANE: u64 = 4096;

    /// A test or scenario of an image.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Item {
        /// Its name, `.case` included.
        pub name: String,
        /// Its suite.
        pub suite: String,
        /// A sentence about it.
        pub about: String,
        /// How it must end.
        pub expect: Expect,
        /// Protocol variants that it must catch.
        pub variants: Vec<Variant>,
        /// CPUs without which it is skipped.
        pub min_cpus: u64,
        /// Its deadline in milliseconds; 0 for the default.
        pub timeout_ms: u64,
        /// Whether it is explored: run under one schedule after the other.
        pub explored: bool,
    }

    /// A protocol variant of an item.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Variant {
        /// Its name.
        pub name: String,
        /// A sentence about it.
        pub about: String,
        /// How the item must end under it.
        pub expect: Expect,
    }

    /// How a run of an item must end.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub enum Expect {
        /// It passes.
        Pass,
        /// The guest gives up with a crash whose sentence holds this.
        Oops(String),
        /// It fails, and a deadlock report holds this.
        Deadlock(String),
        /// It fails, and its diagnostics hold this.
        Fail(String),
    }

    /// Why a section holds no list of items.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub enum DecodeError {
        /// Its size is no multiple of a record's.
        Size(usize),
        /// A text or table lies outside the image.
        Outside(u64),
        /// A length that nothing of ours has.
        Length(u64),
        /// A text is not UTF-8.
        NotText(u64),
        /// An expectation that begins with no known word.
        Expect(String),
    }

    /// Decodes a section. `read` gives the image's bytes at an address.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn decode<'a>(
        section: &[u8],
        read: impl Fn(u64, usize) -> Option<&'a [u8]>,
    ) -> Result<Vec<Item>, DecodeError> {
        if !section.len().is_multiple_of(RECORD_BYTES) {
            return Err(DecodeError::Size(section.len()));
        }
        section.chunks(RECORD_BYTES).map(|record| item(record, &read)).collect()
    }

    fn item<'a>(
        record: &[u8],
        read: &impl Fn(u64, usize) -> Option<&'a [u8]>,
    ) -> Result<Item, DecodeError> {
        let [at, count] = [word(record, 8), word(record, 9)];
        let bytes = size(count, VARIANT_BYTES)?;
        let table = bytes_at(at, bytes, read)?;
        Ok(Item {
            name: text(record, 0, read)?,
            suite: text(record, 2, read)?,
            about: text(record, 4, read)?,
            expect: expect(&text(record, 6, read)?)?,
            variants: table
                .chunks(VARIANT_BYTES)
                .map(|variant| {
                    Ok(Variant {
                        name: text(variant, 0, read)?,
                        about: text(variant, 2, read)?,
                        expect: expect(&text(variant, 4, read)?)?,
                    })
                })
                .collect::<Result<_, _>>()?,
            min_cpus: word(record, 10),
            timeout_ms: word(record, 11),
            explored: word(record, 13) != 0,
        })
    }

    /// Word `index` of a record, which is long enough.
    fn word(record: &[u8], index: usize) -> u64 {
        record[index * 8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn text<'a>(
        record: &[u8],
        index: usize,
        read: &impl Fn(u64, usize) -> Option<&'a [u8]>,
    ) -> Result<String, DecodeError> {
        let (at, length) = (word(record, index), size(word(record, index + 1), 1)?);
        let bytes = bytes_at(at, length, read)?;
        core::str::from_utf8(bytes).map(str::to_string).map_err(|_| DecodeError::NotText(at))
    }

    /// The image's bytes; the address of none of them means nothing.
    fn bytes_at<'a>(
        at: u64,
        length: usize,
        read: &impl Fn(u64, usize) -> Option<&'a [u8]>,
    ) -> Result<&'a [u8], DecodeError> {
        let bytes = if length == 0 { Some(&[][..]) } else { read(at, length) };
        bytes.ok_or(DecodeError::Outside(at))
    }

    fn size(count: u64, each: usize) -> Result<usize, DecodeError> {
        if count > SANE { Err(DecodeError::Length(count)) } else { Ok(count as usize * each) }
    }

    fn expect(text: &str) -> Result<Expect, DecodeError> {
        let of = |rest: &str| rest.to_string();
        match text.split_once(": ") {
            None if text.is_empty() => Ok(Expect::Pass),
            Some(("oops", rest)) => Ok(Expect::Oops(of(rest))),
            Some(("deadlock", rest)) => Ok(Expect::Deadlock(of(rest))),
            Some(("fail", rest)) => Ok(Expect::Fail(of(rest))),
            _ => Err(DecodeError::Expect(text.to_string())),
        }
    }

    impl fmt::Display for DecodeError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Size(bytes) => {
                    write!(f, "its {bytes} bytes are no records of {RECORD_BYTES}")
                }
                Self::Outside(at) => write!(f, "{at:#x} lies outside the image"),
                Self::Length(length) => write!(f, "a length of {length} is beyond belief"),
                Self::NotText(at) => write!(f, "the text at {at:#x} is not UTF-8"),
                Self::Expect(text) => write!(f, "{text:?} is no expectation"),
            }
        }
    }

    impl core::error::Error for DecodeError {}

    #[cfg(test)]
    mod tests {
        use super::*;
        use alloc::vec;
        use proptest::prelude::*;

        /// An image that begins at address 0: records first, then texts.
        fn image(texts: [&str; 4], variants: u64) -> (Vec<u8>, Vec<u8>) {
            let mut memory = vec![0; 256];
            let mut words = Vec::new();
            for text in texts {
                words.extend([memory.len() as u64, text.len() as u64]);
                memory.extend(text.as_bytes());
            }
            // Dangling, as the address of an empty slice is.
            words.extend([8 << 20, variants, 2, 500, 0x1234, 1]);
            let record = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
            (record, memory)
        }

        fn decoded(record: &[u8], memory: &[u8]) -> Result<Vec<Item>, DecodeError> {
            decode(record, |at, length| memory.get(at as usize..at as usize + length))
        }

        #[test]
        fn a_record_is_read_field_by_field() {
            let (record, memory) = image(["x", "scenario", "about it", "oops: data abort"], 0);
            let items = decoded(&record, &memory).unwrap();
            let expected = Item {
                name: "x".into(),
                suite: "scenario".into(),
                about: "about it".into(),
                expect: Expect::Oops("data abort".into()),
                variants: vec![],
                min_cpus: 2,
                timeout_ms: 500,
                explored: true,
            };
            assert_eq!(items, [expected]);
        }

        #[test]
        fn each_way_of_being_malformed_has_its_error() {
            let (record, memory) = image(["x", "s", "a", ""], 0);
            assert_eq!(decoded(&record[1..], &memory), Err(DecodeError::Size(RECORD_BYTES - 1)));
            assert_eq!(decoded(&record, &[]), Err(DecodeError::Outside(256)));
            let (bad, memory) = image(["x", "s", "a", "perhaps: so"], 0);
            assert!(matches!(decoded(&bad, &memory), Err(DecodeError::Expect(_))));
            let (bad, memory) = image(["x", "s", "a", "perhaps"], 0);
            assert_eq!(decoded(&bad, &memory), Err(DecodeError::Expect("perhaps".into())));
            let long = [&record[..], &[0]].concat();
            assert_eq!(decoded(&long, &memory), Err(DecodeError::Size(RECORD_BYTES + 1)));
            let (bad, memory) = image(["x", "s", "a", ""], SANE + 1);
            assert_eq!(decoded(&bad, &memory), Err(DecodeError::Length(SANE + 1)));
            let (bad, memory) = image(["x", "s", "a", ""], u64::MAX);
            assert_eq!(decoded(&bad, &memory), Err(DecodeError::Length(u64::MAX)));
            let mut memory = image(["x", "s", "a", ""], 0).1;
            memory[256] = 0xff;
            assert_eq!(decoded(&record, &memory), Err(DecodeError::NotText(256)));
        }

        #[test]
        fn variants_are_read_with_their_own_expectations() {
            let (mut record, mut memory) = image(["x", "s", "a", ""], 2);
            let mut table = Vec::new();
            for text in ["v", "about v", "deadlock: lock", "w", "about w", "fail: claim"] {
                table.extend([memory.len() as u64, text.len() as u64]);
                memory.extend(text.as_bytes());
            }
            let at = memory.len() as u64;
            record[8 * 8..9 * 8].copy_from_slice(&at.to_le_bytes());
            memory.extend(table.iter().flat_map(|word| word.to_le_bytes()));
            let variant = |name: &str, expect| Variant {
                name: name.into(),
                about: std::format!("about {name}"),
                expect,
            };
            assert_eq!(
                decoded(&record, &memory).unwrap()[0].variants,
                [
                    variant("v", Expect::Deadlock("lock".into())),
                    variant("w", Expect::Fail("claim".into())),
                ]
            );
        }

        proptest! {
            #[test]
            fn any_bytes_are_decoded_or_refused(
                section in proptest::collection::vec(any::<u8>(), 0..3 * RECORD_BYTES),
                memory in proptest::collection::vec(any::<u8>(), 0..512),
            ) {
                let read = |at: u64, length: usize| {
                    let at = usize::try_from(at).ok()?;
                    memory.get(at..at.checked_add(length)?)
                };
                let _ = decode(&section, read);
            }
        }
    }
}
