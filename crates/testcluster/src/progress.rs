//! What a waiting human sees: which parts are being made, how far they are and
//! for how long. A terminal gets bars; anything else (CI) gets a plain line at
//! the start and end of a part and one every fifteen seconds in between.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const EVERY: Duration = Duration::from_secs(15);

/// Where progress goes; cheap to clone.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Kind>);

enum Kind {
    Silent,
    Plain,
    Bars(MultiProgress),
}

/// One part that is being made. Dropped without `done`, it has failed.
pub(crate) struct Task {
    name: String,
    progress: Progress,
    started: Instant,
    last: Mutex<Instant>,
    bar: Option<ProgressBar>,
    finished: bool,
}

impl Progress {
    pub fn new(wanted: bool) -> Self {
        Self(Arc::new(match wanted {
            false => Kind::Silent,
            true if std::io::stderr().is_terminal() => Kind::Bars(MultiProgress::new()),
            true => Kind::Plain,
        }))
    }

    /// One line that stays.
    pub fn say(&self, line: &str) {
        match &*self.0 {
            Kind::Silent => {}
            Kind::Plain => write(line),
            Kind::Bars(bars) => bars.suspend(|| write(line)),
        }
    }

    pub fn task(&self, name: &str) -> Task {
        let bar = match &*self.0 {
            Kind::Bars(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {elapsed:>4} {prefix} {wide_msg}"));
                bar.set_prefix(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
            Kind::Plain => {
                self.say(&format!("{name} ..."));
                None
            }
            Kind::Silent => None,
        };
        let now = Instant::now();
        let last = Mutex::new(now);
        Task {
            name: name.to_owned(),
            progress: self.clone(),
            started: now,
            last,
            bar,
            finished: false,
        }
    }
}

/// A reader that has gone is no reason to panic, as `eprintln!` would.
fn write(line: &str) {
    let _ = writeln!(std::io::stderr(), "testcluster: {line}");
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Task {
    /// How far it is; called as often as there is news.
    pub fn at(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_style(style(
                    "{spinner} {elapsed:>4} {prefix} [{bar:30}] {pos}/{len}",
                ));
                bar.set_length(total);
            }
            bar.set_position(done.min(total));
        }
        self.still(&format!("{done} of {total}"));
    }

    /// Called while waiting; says at most every fifteen seconds that we do.
    pub fn still(&self, what: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= EVERY {
            *last = Instant::now();
            if matches!(*self.progress.0, Kind::Plain) {
                self.progress.say(&format!(
                    "{}: {what} after {} s",
                    self.name,
                    self.started.elapsed().as_secs()
                ));
            }
        }
    }

    pub fn done(mut self) {
        self.finished = true;
        self.end("done");
    }

    fn end(&self, how: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress.say(&format!(
            "{}: {how} in {:.1} s",
            self.name,
            self.started.elapsed().as_secs_f64()
        ));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.finished {
            self.end("failed");
        }
    }
}
