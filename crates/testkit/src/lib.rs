//! What tests share: a seeded generator, the golden cases and their inputs. Never a normal dependency.
//!
//! ```
//! use icecore_testkit::{SplitMix64, golden};
//!
//! assert_eq!(SplitMix64::new(0).next_u64(), 0xE220_A839_7B1D_CDAF);
//! assert!(golden::builtin().iter().any(|case| case.kind() == "packfile"));
//! ```

pub mod golden;
mod rng;

pub use rng::SplitMix64;
