use crate::{
    signal::Signal,
    sync::{Mutex, lock},
    wait::{Look, Time, wait},
};

/// Something that is done once, by whoever comes first; the others wait and share what came out. If the first is
/// dropped half-way, the next one goes on.
pub(crate) struct Outcome<T> {
    stage: Mutex<Stage<T>>,
    signal: Signal,
}

enum Stage<T> {
    Free,
    Led,
    Done(T),
}

impl<T> Default for Outcome<T> {
    fn default() -> Self {
        Self { stage: Mutex::new(Stage::Free), signal: Signal::default() }
    }
}

impl<T: Clone> Outcome<T> {
    pub(crate) async fn share<F: Future<Output = T>>(&self, time: Time<'_>, work: impl FnOnce() -> F) -> T {
        let seat = wait(&self.signal, time, None, || self.look()).await;
        if let Some(Some(done)) = seat {
            return done;
        }
        let lead = Lead(self);
        let value = work().await;
        *lock(&self.stage) = Stage::Done(value.clone());
        drop(lead);
        value
    }

    fn look(&self) -> Look<Option<T>> {
        let mut stage = lock(&self.stage);
        match &*stage {
            Stage::Done(value) => Look::Done(Some(value.clone())),
            Stage::Led => Look::Later,
            Stage::Free => {
                *stage = Stage::Led;
                Look::Done(None)
            }
        }
    }
}

struct Lead<'a, T>(&'a Outcome<T>);

impl<T> Drop for Lead<'_, T> {
    fn drop(&mut self) {
        let mut stage = lock(&self.0.stage);
        if matches!(*stage, Stage::Led) {
            *stage = Stage::Free;
        }
        drop(stage);
        self.0.signal.wake_all();
    }
}
