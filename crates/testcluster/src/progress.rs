//! Shows the progress of a start: the parts in work, their progress and their time. A
//! terminal gets bars. Other outputs (CI) get a line at the start and end of a part, and one
//! every fifteen seconds in between.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const REPORT_INTERVAL: Duration = Duration::from_secs(15);

/// The output of progress. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Kind>);

enum Kind {
    Silent,
    Plain,
    Bars(MultiProgress),
}

/// One part in work. If it is dropped without `done`, it is reported as failed.
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
        Self(Arc::new(if !wanted {
            Kind::Silent
        } else if std::io::stderr().is_terminal() {
            Kind::Bars(MultiProgress::new())
        } else {
            Kind::Plain
        }))
    }

    /// Prints a permanent line.
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

/// `eprintln!` would panic if the reader has closed standard error.
fn write(line: &str) {
    let _ = writeln!(std::io::stderr(), "testcluster: {line}");
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Task {
    /// Reports the progress. May be called as often as it changes.
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

    /// Call it while waiting. It prints at most one line in fifteen seconds.
    pub fn still(&self, what: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= REPORT_INTERVAL {
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
