use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open files that were used last. Opening one costs as much as several reads from it.
pub struct Recent<K, V> {
    held: Mutex<Held<K, V>>,
    capacity: usize,
}

struct Held<K, V> {
    /// The most recently used last.
    entries: Vec<(K, Arc<V>)>,
    /// How often something was forgotten: what was being opened meanwhile may be gone too, and is not held.
    forgotten: u64,
}

impl<K: PartialEq, V> Recent<K, V> {
    /// Holds at most `capacity` open files.
    pub fn new(capacity: usize) -> Self {
        Recent { held: Mutex::new(Held { entries: Vec::new(), forgotten: 0 }), capacity }
    }

    /// What is held for a key, else what `open` makes of it, held in place of what was not used for longest. Nobody
    /// waits for another's opening: two threads may open the same.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn get<E>(&self, key: K, open: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let forgotten = {
            let mut held = self.lock();
            if let Some(at) = held.entries.iter().position(|(have, _)| *have == key) {
                let hit = held.entries.remove(at);
                let value = Arc::clone(&hit.1);
                held.entries.push(hit);
                return Ok(value);
            }
            held.forgotten
        };
        let value = Arc::new(open()?);
        let mut held = self.lock();
        if held.forgotten == forgotten {
            held.entries.retain(|(have, _)| *have != key);
            if held.entries.len() == self.capacity {
                held.entries.remove(0);
            }
            held.entries.push((key, Arc::clone(&value)));
        }
        Ok(value)
    }

    /// Lets go of a file that was removed: whoever asks from now on opens what is there then.
    pub fn forget(&self, key: &K) {
        let mut held = self.lock();
        held.forgotten += 1;
        held.entries.retain(|(have, _)| have != key);
    }

    fn lock(&self) -> MutexGuard<'_, Held<K, V>> {
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
        let held = || recent.lock().entries.iter().map(|(key, _)| *key).collect::<Vec<_>>();
        assert_eq!([1, 2, 1, 3].map(|key| *get(key)), [10, 20, 10, 30]);
        assert_eq!(held(), [1, 3]);
        assert!(Arc::ptr_eq(&get(1), &get(1)));
        assert_eq!(recent.get(4, || Err("no")), Err("no"));
        assert_eq!(held(), [3, 1]);
    }
    #[test]
    fn what_was_forgotten_while_it_was_opened_is_not_held() {
        let recent = Recent::new(2);
        let open = || {
            recent.forget(&1);
            Ok::<_, ()>("removed")
        };
        assert_eq!(*recent.get(1, open).unwrap(), "removed");
        assert_eq!(*recent.get(1, || Ok::<_, ()>("anew")).unwrap(), "anew");
        assert_eq!(*recent.get(1, || Ok::<_, ()>("again")).unwrap(), "anew");
        recent.forget(&1);
        assert_eq!(*recent.get(1, || Ok::<_, ()>("again")).unwrap(), "again");
    }
}
