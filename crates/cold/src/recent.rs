use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open files that were used last. Opening one costs as much as several reads from it.
pub(crate) struct Recent<K, V> {
    /// The most recently used last.
    held: Mutex<Vec<(K, Arc<V>)>>,
    capacity: usize,
}

impl<K: PartialEq, V> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Recent { held: Mutex::new(Vec::new()), capacity }
    }

    /// What is held for a key, else what `open` makes of it, held in place of what was not used for longest. Nobody
    /// waits for another's opening: two threads may open the same.
    pub(crate) fn get<E>(&self, key: K, open: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        {
            let mut held = self.lock();
            if let Some(at) = held.iter().position(|(have, _)| *have == key) {
                let hit = held.remove(at);
                let value = Arc::clone(&hit.1);
                held.push(hit);
                return Ok(value);
            }
        }
        let value = Arc::new(open()?);
        let mut held = self.lock();
        held.retain(|(have, _)| *have != key);
        if held.len() == self.capacity {
            held.remove(0);
        }
        held.push((key, Arc::clone(&value)));
        Ok(value)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(K, Arc<V>)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_is_let_go() {
        let recent = Recent::new(2);
        let get = |key: u32| recent.get(key, || Ok::<_, ()>(key * 10)).unwrap();
        let held = || recent.lock().iter().map(|(key, _)| *key).collect::<Vec<_>>();
        assert_eq!([1, 2, 1, 3].map(|key| *get(key)), [10, 20, 10, 30]);
        assert_eq!(held(), [1, 3]);
        assert!(Arc::ptr_eq(&get(1), &get(1)));
        assert_eq!(recent.get(4, || Err("no")), Err("no"));
        assert_eq!(held(), [3, 1]);
    }
}
