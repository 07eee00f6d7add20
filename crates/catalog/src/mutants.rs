//! Broken variants of decisive places, for tests that have to fail on them.

/// True where the tests run under the mutant of this name.
#[cfg(any(test, feature = "mutants"))]
pub(crate) fn on(name: &str) -> bool {
    static MUTANT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    MUTANT.get_or_init(|| std::env::var("ICECORE_MUTANT").ok()).as_deref() == Some(name)
}

/// Never, outside tests.
#[cfg(not(any(test, feature = "mutants")))]
#[inline(always)]
pub(crate) const fn on(_: &str) -> bool {
    false
}
