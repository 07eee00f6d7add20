//! Progress on anything that takes longer than a second: a bar on a terminal, a plain line now and then elsewhere.
//! [`Progress`] owns the thread that draws and joins it when dropped.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use icecore_cold::Control;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

const FIRST_AFTER: Duration = Duration::from_secs(1);
const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Draws what a [`Control`] counts until it is dropped.
pub(crate) struct Progress {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to watch; `verb` says what is going on. Nothing is shown within the first second.
    pub(crate) fn watch(control: &Arc<Control>, verb: &'static str) -> Self {
        let (stop, stopped) = channel();
        let control = Arc::clone(control);
        let thread = std::thread::spawn(move || {
            let mut phase = Phase::begin(&control);
            let bar = std::io::stderr().is_terminal().then(new_bar);
            let mut wait = FIRST_AFTER;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                phase = phase.follow(&control);
                match &bar {
                    Some(bar) => draw(bar, &control, verb, &phase),
                    None => print_line(&control, verb, &phase),
                }
                wait = if bar.is_some() { BAR_EVERY } else { LINE_EVERY };
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        Progress { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic while drawing must not hide the work's own result.
            let _ = thread.join();
        }
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>10} [{bar:32}] {pos}/{len}  {prefix}");
    ProgressBar::new(0)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}

/// One of the stretches of work that follow each other under one [`Control`], each with a total of its own.
struct Phase {
    began: Instant,
    looked_at: Instant,
    total: u64,
    done: u64,
}

impl Phase {
    fn begin(control: &Control) -> Self {
        let now = Instant::now();
        let (total, done) = (control.total.load(Relaxed), control.done.load(Relaxed));
        Phase { began: now, looked_at: now, total, done }
    }

    fn follow(self, control: &Control) -> Self {
        let now = Phase::begin(control);
        // A phase that is new has begun at some moment since the last look.
        let is_new = now.total != self.total || now.done < self.done;
        Phase { began: if is_new { self.looked_at } else { self.began }, ..now }
    }
}

fn draw(bar: &ProgressBar, control: &Control, verb: &'static str, phase: &Phase) {
    bar.set_length(control.total.load(Relaxed));
    bar.set_position(control.done.load(Relaxed));
    bar.set_message(verb);
    bar.set_prefix(rate(control, phase));
    bar.tick();
}

fn print_line(control: &Control, verb: &str, phase: &Phase) {
    let &Phase { done, total, .. } = phase;
    let line = match total {
        0 => format!("{verb}, {:.0} s", phase.began.elapsed().as_secs_f64()),
        total => {
            let percent = 100.0 * done as f64 / total as f64;
            format!("{verb} {done}/{total} ({percent:.0} %), {}", rate(control, phase))
        }
    };
    // Progress that nobody can read is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Rate and time left, from the start of the phase.
fn rate(control: &Control, phase: &Phase) -> String {
    let seconds = phase.began.elapsed().as_secs_f64();
    let &Phase { done, total, .. } = phase;
    let per_second = done as f64 / seconds;
    let bytes = HumanBytes((control.bytes.load(Relaxed) as f64 / seconds) as u64);
    let left = if done == 0 { f64::INFINITY } else { (total.saturating_sub(done)) as f64 / per_second };
    let left = match Duration::try_from_secs_f64(left) {
        Ok(left) => format!("{} left", HumanDuration(left)),
        Err(_) => "no estimate yet".to_owned(),
    };
    format!("{per_second:.0}/s, {bytes}/s, {left}")
}
