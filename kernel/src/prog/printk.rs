//! The text of `stream_printk`: a subset of the kernel's formats, as Linux `bpf_bprintf_prepare()`
//! takes one. Without memory, and without trust in what the program points to.
//!
//! | format | argument |
//! | --- | --- |
//! | `%d` `%i` `%u` `%x` `%X`, with `l` or `ll` for 64 bits | a number; a width, zero-padded if it begins with 0 |
//! | `%p` | a pointer, as the program has it |
//! | `%c` | a character |
//! | `%s` | a pointer to text that ends with a zero |
//! | `%%` | none |

use core::fmt::{self, Write};

use crate::prog::dispatch::Call;

/// Bytes of a text, and of a format.
const MOST: usize = 256;
/// Arguments of one call (Linux `MAX_BPRINTF_VARARGS`).
const MOST_ARGS: usize = 12;

/// A text of bounded length; what is longer is cut.
pub struct Text {
    bytes: [u8; MOST],
    len: usize,
}

/// One conversion of a format.
#[derive(Default)]
struct Conversion {
    zeroes: bool,
    width: usize,
    wide: bool,
}

/// The text that `format` and the `bytes` of arguments at `args` make; `None` if they cannot be read,
/// do not go together, or ask for what is not in the table.
pub fn format(call: &Call<'_>, format: u64, args: u64, bytes: u32) -> Option<Text> {
    let bytes = bytes as usize;
    if !bytes.is_multiple_of(8) || bytes > 8 * MOST_ARGS {
        return None;
    }
    let mut words = [0; 8 * MOST_ARGS];
    call.copy(args, &mut words[..bytes])?;
    let (words, _) = words[..bytes].as_chunks::<8>();
    let mut args = words.iter().map(|word| u64::from_le_bytes(*word));
    let mut text = Text { bytes: [0; MOST], len: 0 };
    let mut format = Characters { call, next: format, left: MOST };
    while let Some(byte) = format.next()? {
        match byte {
            b'%' => convert(&mut format, &mut args, &mut text)?,
            byte => text.push(byte),
        }
    }
    args.next().is_none().then_some(text)
}

fn convert(
    format: &mut Characters<'_>,
    args: &mut impl Iterator<Item = u64>,
    text: &mut Text,
) -> Option<()> {
    let mut how = Conversion::default();
    loop {
        let byte = format.next()??;
        match byte {
            b'%' => text.push(b'%'),
            b'0' if how.width == 0 => {
                how.zeroes = true;
                continue;
            }
            b'0'..=b'9' if how.width < MOST => {
                how.width = how.width * 10 + usize::from(byte - b'0');
                continue;
            }
            b'l' => {
                how.wide = true;
                continue;
            }
            b's' => text.push_string(format.call, args.next()?)?,
            b'c' => text.push(args.next()? as u8),
            b'p' => text.put(&how, format_args!("{:#x}", args.next()?)),
            kind => number(kind, &how, args.next()?, text)?,
        }
        return Some(());
    }
}

fn number(kind: u8, how: &Conversion, value: u64, text: &mut Text) -> Option<()> {
    let unsigned = if how.wide { value } else { value & 0xffff_ffff };
    let signed = if how.wide { value as i64 } else { i64::from(value as i32) };
    match kind {
        b'd' | b'i' => text.put(how, format_args!("{signed}")),
        b'u' => text.put(how, format_args!("{unsigned}")),
        b'x' => text.put(how, format_args!("{unsigned:x}")),
        b'X' => text.put(how, format_args!("{unsigned:X}")),
        _ => return None,
    }
    Some(())
}

impl Text {
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn push_string(&mut self, call: &Call<'_>, pointer: u64) -> Option<()> {
        let mut string = Characters { call, next: pointer, left: MOST };
        while let Some(byte) = string.next()? {
            self.push(byte);
        }
        Some(())
    }

    /// Puts what `value` says, padded on the left.
    fn put(&mut self, how: &Conversion, value: fmt::Arguments<'_>) {
        let from = self.len;
        // What does not fit is cut.
        let _ = self.write_fmt(value);
        let missing = how.width.min(MOST).saturating_sub(self.len - from);
        let room = MOST - self.len;
        let pad = missing.min(room);
        self.bytes.copy_within(from..self.len, from + pad);
        self.bytes[from..from + pad].fill(if how.zeroes { b'0' } else { b' ' });
        self.len += pad;
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// The bytes of a text of the program's.
struct Characters<'a> {
    call: &'a Call<'a>,
    next: u64,
    left: usize,
}

impl Characters<'_> {
    /// The next byte, or that the text ends; `None` if it cannot be read or is too long.
    fn next(&mut self) -> Option<Option<u8>> {
        self.left = self.left.checked_sub(1)?;
        let mut byte = [0];
        self.call.copy(self.next, &mut byte)?;
        self.next = self.next.wrapping_add(1);
        Some(Some(byte[0]).filter(|byte| *byte != 0))
    }
}
