//! Broken variants that the acceptance tests must notice; nothing of them is compiled into a normal build.

/// Whether the tests run with the broken variant of this name.
#[cfg(test)]
pub(crate) fn on(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("ICECORE_MUTANT").ok()).as_deref() == Some(name)
}

/// No variant is broken outside of tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_: &str) -> bool {
    false
}
