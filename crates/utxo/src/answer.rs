use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use icecore_batcher::{Completion, Failure, Outcome, SubmitError};

use crate::{Error, Result};

/// The result of an operation that is queued, when it is there. Dropping it does not take the operation back.
///
/// Waits on a thread, or is awaited on any executor.
#[must_use = "whether it was stored is known only when it is waited for"]
pub struct Answer<R>(pub(crate) Completion<R, Error>);

impl<R> Answer<R> {
    /// Waits for the result.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn wait(self) -> Result<R> {
        result(self.0.wait())
    }

    /// Waits for the result, at most so long; the answer comes back if it is not there by then, and the work goes on.
    ///
    /// # Errors
    /// The answer, to wait for again or to drop; until it is known, the outcome is not.
    pub fn wait_timeout(self, limit: Duration) -> Result<Result<R>, Self> {
        match self.0.wait_timeout(limit) {
            Ok(outcome) => Ok(result(outcome)),
            Err(pending) => Err(Answer(pending.0)),
        }
    }
}

impl<R> Future for Answer<R> {
    type Output = Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R>> {
        Pin::new(&mut self.0).poll(cx).map(result)
    }
}

pub(crate) fn result<R>(outcome: Outcome<R, Error>) -> Result<R> {
    outcome.map_err(|failure| match failure {
        Failure::Failed(error) => error,
        Failure::Aborted { .. } => Error::Closed,
        failure => Error::Unknown { what: failure.to_string() },
    })
}

/// Why a queue did not take an item.
pub(crate) fn refused<T>(refusal: SubmitError<T>) -> Error {
    match refusal {
        SubmitError::Closed(_) => Error::Closed,
        SubmitError::UndeclaredEdge(_) => {
            Error::Invalid { what: "a store cannot be called by its own queues" }
        }
        _ => Error::Unavailable { what: "the queue is full".into() },
    }
}
