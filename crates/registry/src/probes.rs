//! Places where a test steps between two lines of the code. Outside of tests they are nothing.

/// Named places, each with at most one closure waiting for the code to come by.
#[derive(Default)]
pub(crate) struct Probes {
    #[cfg(test)]
    armed: std::sync::Mutex<std::collections::BTreeMap<&'static str, Step>>,
}

#[cfg(test)]
type Step = Box<dyn FnOnce() + Send>;

impl Probes {
    /// The code is at `place` and holds no lock.
    #[inline(always)]
    pub(crate) fn at(&self, _place: &'static str) {
        #[cfg(test)]
        if let Some(step) = self.armed.lock().ok().and_then(|mut armed| armed.remove(_place)) {
            step();
        }
    }

    /// Runs `step`, once, when the code next comes to `place`.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(crate) fn arm(&self, place: &'static str, step: impl FnOnce() + Send + 'static) {
        self.armed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(place, Box::new(step));
    }
}
