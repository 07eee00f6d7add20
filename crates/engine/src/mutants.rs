//! Places where a test may break the code on purpose, to see that it is caught. Nothing of them is in a normal build.

/// Whether the named fault is switched on by the environment variable `ICECORE_MUTANT`.
#[cfg(test)]
pub(crate) fn on(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("ICECORE_MUTANT").ok()).as_deref() == Some(name)
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_: &str) -> bool {
    false
}
