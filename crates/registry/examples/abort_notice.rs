//! Makes three registries; in a build that aborts on panic one line says what that means, in others none.
//!
//! ```text
//! cargo run -p icecore-registry --example abort_notice
//! CARGO_PROFILE_DEV_PANIC=abort cargo run -p icecore-registry --example abort_notice
//! ```

use icecore_registry::Registry;

fn main() {
    tracing_subscriber::fmt().init();
    for _ in 0..3 {
        drop(Registry::<u8>::new());
    }
}
