//! The serial log: whole lines, never interleaved, and a way out for a dying CPU.
//!
//! A line is formatted on the caller's stack, then sent under a lock with interrupts masked, so
//! that lines of several CPUs follow each other. Formatting happens outside the lock: a fault in
//! it leaves the lock free. The lock is the innermost of all; nothing is called while it is held.
//!
//! [`emergency`] is for oops, panic and bail-out. It takes the console for good: other CPUs stop
//! at their next line, a line that another CPU is sending now is waited for (a bounded time), and
//! a line that this very CPU was sending is ended first. It works with the lock held by anyone.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::arch::barrier;
use crate::arch::irq::{self, IrqGuard};
use crate::arch::percpu::CpuId;
use crate::dev::uart;

/// Prints one line, `format!`-style, without its newline.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::log::line(format_args!($($arg)*)) };
}

/// Bytes of a line, newline excluded; what is longer is cut and ends in `...`.
pub const LINE_BYTES: usize = 512;

/// First line of any log: what a report must begin with if it comes before everything else.
const HEADER: &str = "KTAP version 1";

/// Polls of the lock by [`emergency`]: far more than a line takes.
const EMERGENCY_POLLS: u32 = 20_000_000;

/// CPU that sends a line now, plus one; 0 if none.
static SENDER: AtomicU32 = AtomicU32::new(0);
/// CPU that took the console for good, plus one; 0 if none.
static EMERGENCY: AtomicU32 = AtomicU32::new(0);
/// How often that CPU came back.
static EMERGENCY_DEPTH: AtomicU64 = AtomicU64::new(0);
/// Whether any line was sent.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Prints one line. Interrupts and locks may be in any state; blocks while another CPU sends.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    // A formatting error leaves a shorter line; there is nobody to tell.
    let _ = line.write_fmt(text);
    line.send();
}

/// A line under construction. Sent when a newline is written to it; what is left is sent when it
/// is dropped.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
    cut: bool,
}

/// The console in the hands of one dying CPU.
#[derive(Debug)]
pub struct Emergency {
    depth: u64,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Self { bytes: [0; LINE_BYTES], len: 0, cut: false }
    }

    /// Sends the line with a newline, if anything was written, and empties it.
    pub fn send(&mut self) {
        if self.len > 0 {
            send(self.finish());
            self.len = 0;
            self.cut = false;
        }
    }

    fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.len) {
            Some(slot) => {
                *slot = byte;
                self.len += 1;
            }
            None => self.cut = true,
        }
    }

    fn finish(&mut self) -> &[u8] {
        if self.cut {
            self.bytes[LINE_BYTES - 3..].copy_from_slice(b"...");
        }
        &self.bytes[..self.len]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            match byte {
                b'\n' => self.send(),
                _ => self.push(byte),
            }
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.send();
    }
}

impl Emergency {
    /// How often this CPU has taken the console: 2 or more means that the report itself failed.
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// Prints one line at once, without any lock. Control characters become spaces, so that it
    /// stays one line.
    pub fn line(&self, text: fmt::Arguments<'_>) {
        let mut line = RawLine;
        let _ = line.write_fmt(text);
        uart::write(b"\n");
    }
}

/// Takes the console for good. A second CPU that comes here stops; the first may come back.
/// Masks all interrupts of this CPU.
pub fn emergency() -> Emergency {
    irq::mask_all();
    let me = sender_id();
    // SeqCst here, in `take_over`, `send` and `stop_in_emergency`: a sender claims its line and then looks
    // for an emergency, an emergency takes the console and then looks for a sender. One of the two sees
    // the other. Losers only stop, and whoever comes back reads its own store: Relaxed.
    match EMERGENCY.compare_exchange(0, me, Ordering::SeqCst, Ordering::Relaxed) {
        Ok(_) => take_over(me),
        Err(owner) if owner == me => {}
        Err(_) => stop(),
    }
    // Relaxed: only this CPU gets here.
    let depth = EMERGENCY_DEPTH.fetch_add(1, Ordering::Relaxed) + 1;
    if depth > 1 {
        // The report broke off somewhere in a line.
        uart::write(b"\n");
    }
    Emergency { depth }
}

/// Bytes straight to the device, for [`Emergency`].
struct RawLine;

impl Write for RawLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            uart::write(&[if byte < b' ' { b' ' } else { byte }]);
        }
        Ok(())
    }
}

fn take_over(me: u32) {
    let mut sender = 0;
    for _ in 0..EMERGENCY_POLLS {
        // Acquire at least: the line of the last sender is out when its release is seen.
        sender = SENDER.load(Ordering::SeqCst);
        if sender == 0 || sender == me {
            break;
        }
        core::hint::spin_loop();
    }
    if sender != 0 {
        uart::write(b"\n");
    }
    // Relaxed: a report that comes first of all is this CPU's own business.
    if !STARTED.swap(true, Ordering::Relaxed) {
        uart::write(HEADER.as_bytes());
        uart::write(b"\n");
    }
}

fn send(line: &[u8]) {
    let _masked = IrqGuard::new();
    let me = sender_id();
    // Acquire at least: this line follows the last sender's. SeqCst: see `emergency`.
    while SENDER.compare_exchange(0, me, Ordering::SeqCst, Ordering::Relaxed).is_err() {
        stop_in_emergency(me);
        barrier::wfe();
    }
    stop_in_emergency(me);
    STARTED.store(true, Ordering::Relaxed);
    uart::write(line);
    uart::write(b"\n");
    // Release: pairs with the acquire above and in `take_over`.
    SENDER.store(0, Ordering::Release);
    barrier::publish_event();
}

/// Stops for good if another CPU took the console.
fn stop_in_emergency(me: u32) {
    // Nothing is published by it. SeqCst: see `emergency`.
    let owner = EMERGENCY.load(Ordering::SeqCst);
    if owner != 0 && owner != me {
        if SENDER.load(Ordering::Relaxed) == me {
            SENDER.store(0, Ordering::Release);
        }
        stop();
    }
}

/// Waits, interrupts masked, for the CPU in emergency to end the machine.
fn stop() -> ! {
    irq::mask_all();
    loop {
        barrier::wfi();
    }
}

fn sender_id() -> u32 {
    CpuId::current().index() as u32 + 1
}
