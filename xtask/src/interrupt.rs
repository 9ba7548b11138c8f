//! Ctrl-C, SIGTERM and SIGHUP: noted here, acted on by whoever waits.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes the signals over. Guests run in process groups of their own, so only this process gets
/// what the terminal sends, and ends them before itself.
pub fn install() {
    // Refused only if a handler is installed already, which nothing else here does.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
}

/// Whether the person wants this to end.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
