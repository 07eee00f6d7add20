//! Broken variants, to prove that the acceptance tests can fail. Outside of tests nothing of them is compiled in.

/// Whether the variant `name` is on: `ICECORE_MUTANT=name` in the environment of a test.
#[cfg(test)]
pub(crate) fn on(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("ICECORE_MUTANT").ok()).as_deref() == Some(name)
}

/// Whether the variant `name` is on: never.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_name: &str) -> bool {
    false
}
