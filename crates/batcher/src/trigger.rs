//! When a batch is fired: a pure decision over what lies at hand.

use std::time::Duration;

use crate::mutants;

/// How a batch comes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriggerMode {
    /// Waits for the size or the timeout, whichever is first.
    #[default]
    Accumulate,
    /// As [`TriggerMode::Accumulate`], taking all that is queued at each look. The queue is always taken whole here, so
    /// the two differ in name only.
    Greedy,
    /// Takes what is queued, up to the size, and fires at once.
    Drain,
    /// Fires at every multiple of this period since the start, if there is anything; the size still fires early.
    Tick(Duration),
}

/// Why a batch was fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// It was full.
    Size,
    /// Its first item had waited for the timeout.
    Timeout,
    /// A tick came.
    Tick,
    /// Someone asked for it.
    Manual,
    /// The mode fires whatever there is.
    Drain,
    /// The batcher, or the group it belongs to, is closing.
    Shutdown,
}

impl Reason {
    /// Every reason, in the order of [`crate::CloseReport::batches`].
    pub const ALL: [Reason; 6] =
        [Self::Size, Self::Timeout, Self::Tick, Self::Manual, Self::Drain, Self::Shutdown];

    /// The reason as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Timeout => "timeout",
            Self::Tick => "tick",
            Self::Manual => "manual",
            Self::Drain => "drain",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What the decision looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    /// Items at hand; below `size` only where the queue behind them is empty.
    pub(crate) len: usize,
    /// Nothing more will be accepted.
    pub(crate) sealed: bool,
    /// Producers wait for results while they drain: a partial batch must not wait for company.
    pub(crate) eager: bool,
    /// An item at hand was asked for by a trigger or a flush.
    pub(crate) manual: bool,
    /// When the timeout or the tick comes, and what time it is.
    pub(crate) due: Option<(Duration, Duration)>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Fire up to `size` items for this reason.
    Fire(Reason),
    /// Wait for more items, a request, or this time.
    Wait(Option<Duration>),
    /// Nothing is left and nothing will come.
    Finished,
}

impl TriggerMode {
    /// Whether a partial batch waits for a time.
    pub(crate) fn is_timed(self) -> bool {
        !matches!(self, Self::Drain)
    }

    /// When a batch whose first item came at `first_at` is due.
    pub(crate) fn due(self, first_at: Duration, timeout: Duration, start: Duration) -> Duration {
        match self {
            Self::Tick(period) => {
                let ticks = first_at.saturating_sub(start).as_nanos() / period.as_nanos().max(1) + 1;
                let nanos = period.as_nanos().saturating_mul(ticks);
                start.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
            _ => first_at.saturating_add(timeout),
        }
    }

    pub(crate) fn decide(self, size: usize, s: Situation) -> Decision {
        match s {
            Situation { len: 0, sealed: true, .. } => Decision::Finished,
            Situation { len: 0, .. } if !mutants::on("empty_batches") => Decision::Wait(None),
            Situation { sealed: true, .. } => Decision::Fire(Reason::Shutdown),
            _ if self == Self::Drain => Decision::Fire(Reason::Drain),
            Situation { len, .. } if len >= size => Decision::Fire(Reason::Size),
            Situation { manual: true, .. } => Decision::Fire(Reason::Manual),
            Situation { eager: true, .. } => Decision::Fire(Reason::Shutdown),
            Situation { due: Some((at, now)), .. } if now >= at => Decision::Fire(match self {
                Self::Tick(_) => Reason::Tick,
                _ => Reason::Timeout,
            }),
            Situation { due, .. } => Decision::Wait(due.map(|(at, _)| at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Decision, Reason, Situation, TriggerMode};
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);
    const SIZE: usize = 4;

    /// Nothing at hand, nobody asks.
    const QUIET: Situation = Situation { len: 0, sealed: false, eager: false, manual: false, due: None };

    #[test]
    fn decisions() {
        use Decision::{Finished, Fire, Wait};
        use TriggerMode::{Accumulate, Drain, Greedy, Tick};
        let tick = Tick(MS);
        let all = [Accumulate, Greedy, Drain, tick];
        let partial = Situation { len: 3, ..QUIET };
        let table: &[(&[TriggerMode], Situation, Decision)] = &[
            (&all, QUIET, Wait(None)),
            (&all, Situation { manual: true, eager: true, ..QUIET }, Wait(None)),
            (&all, Situation { sealed: true, ..QUIET }, Finished),
            (&all, Situation { sealed: true, ..partial }, Fire(Reason::Shutdown)),
            (&all, Situation { sealed: true, len: 9, ..QUIET }, Fire(Reason::Shutdown)),
            (&[Drain], partial, Fire(Reason::Drain)),
            (&[Drain], Situation { len: 9, ..QUIET }, Fire(Reason::Drain)),
            (&[Accumulate, Greedy, tick], Situation { len: SIZE, ..QUIET }, Fire(Reason::Size)),
            (&[Accumulate, Greedy, tick], partial, Wait(None)),
            (&[Accumulate, Greedy, tick], Situation { manual: true, ..partial }, Fire(Reason::Manual)),
            (&[Accumulate, Greedy, tick], Situation { eager: true, ..partial }, Fire(Reason::Shutdown)),
            (&[Accumulate, tick], Situation { due: Some((2 * MS, MS)), ..partial }, Wait(Some(2 * MS))),
            (&[Accumulate, Greedy], Situation { due: Some((MS, MS)), ..partial }, Fire(Reason::Timeout)),
            (&[tick], Situation { due: Some((MS, 2 * MS)), ..partial }, Fire(Reason::Tick)),
        ];
        for (modes, situation, decision) in table {
            for mode in *modes {
                assert_eq!(mode.decide(SIZE, *situation), *decision, "{mode:?} {situation:?}");
            }
        }
    }

    #[test]
    fn ticks_lie_on_a_grid_and_timeouts_do_not() {
        let tick = TriggerMode::Tick(100 * MS);
        for (first_at, due) in [(7, 107), (106, 107), (107, 207), (108, 207), (1000, 1007)] {
            assert_eq!(tick.due(first_at * MS, MS, 7 * MS), due * MS, "{first_at}");
            assert_eq!(TriggerMode::Accumulate.due(first_at * MS, MS, 7 * MS), (first_at + 1) * MS);
        }
        assert_eq!(TriggerMode::Greedy.due(MS, Duration::MAX, MS), Duration::MAX);
        assert!(TriggerMode::Tick(Duration::MAX).due(MS, MS, MS) > Duration::from_secs(1 << 34));
    }
}
