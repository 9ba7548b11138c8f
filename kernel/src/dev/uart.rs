//! The console: a PL011.
//!
//! The driver crate sets it up. Output goes byte by byte, polled, without any state of our own:
//! the log's lock is the only thing between two senders, and a dying CPU needs none.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use arena::addr::PhysAddr;
use arm_pl011_uart::{
    DataBits, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer,
};

use tree::Console;

use super::{direct, direct_ptr};
use crate::arch::{access, exit};

/// Where QEMU `virt` has its PL011: used until the device tree is read, and if it cannot be.
const EARLY_BASE: u64 = 0x0900_0000;
const BAUD: u32 = 115_200;

/// UARTDR, UARTFR and UARTFR.TXFF (PL011 TRM 3.3.1, 3.3.3).
const DR: usize = 0x00;
const FR: usize = 0x18;
const FR_TXFF: u32 = 1 << 5;

/// UARTPeriphID0, with UARTPeriphID1 behind it, and the part number that the two give (TRM 3.3.15).
const PERIPH_ID0: u64 = 0xfe0;
const PART_NUMBER: u32 = 0x011;

static BASE: AtomicU64 = AtomicU64::new(EARLY_BASE);

/// Sets the console up and directs output to it. Before other CPUs run.
///
/// Ends the run with a sentence on the early console if no PL011 answers there.
pub fn init(description: &Console) {
    if !is_pl011(description.base) {
        exit::bail_out(format_args!("device tree: no PL011 answers at {}", description.base));
    }
    // Relaxed: other CPUs start later.
    BASE.store(description.base.get(), Ordering::Relaxed);
    let config =
        LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
    let registers = direct_ptr::<PL011Registers>(description.base);
    if let Some(registers) = NonNull::new(registers) {
        // SAFETY: the device tree says that a PL011 is there, the direct map covers it as device
        // memory, and no other driver value exists (it is dropped below).
        let mut uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        // A clock that cannot give this rate leaves the device as the firmware set it up.
        let _ = uart.enable(config, BAUD, description.clock_hz);
    }
}

/// Whether the device at `base`, if there is any, identifies itself as a PL011.
fn is_pl011(base: PhysAddr) -> bool {
    let id = |offset| access::probe_read_u32(direct(base.offset(offset)));
    let [Ok(low), Ok(high)] = [id(PERIPH_ID0), id(PERIPH_ID0 + 4)] else { return false };
    low & 0xff | (high & 0xf) << 8 == PART_NUMBER
}

/// Sends bytes and waits until the device has taken them. Takes no lock and uses no memory: it
/// works on any CPU in any state once the MMU is on.
pub fn write(bytes: &[u8]) {
    // Relaxed: see `init`.
    let base = direct_ptr::<u8>(PhysAddr::new(BASE.load(Ordering::Relaxed)));
    for &byte in bytes {
        // SAFETY: UARTFR and UARTDR of the PL011 at `base`; reading the one and writing the other
        // has no effect on memory.
        unsafe {
            while base.add(FR).cast::<u32>().read_volatile() & FR_TXFF != 0 {}
            base.add(DR).cast::<u32>().write_volatile(u32::from(byte));
        }
    }
}
