//! Progress of long work: bars on a terminal, a log line every few seconds elsewhere.
//!
//! A run of several stages has a second bar, for the whole: [`in_stages`] names the stages, and each [`Progress`] that
//! starts on the same thread belongs to one of them.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tracing::info;

/// Time between two log lines if there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Steps of the bar of a whole run.
const RUN_STEPS: f64 = 1_000.0;

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

thread_local! {
    static RUN: RefCell<Option<Arc<Run>>> = const { RefCell::new(None) };
}

/// Runs `write`, which writes to the terminal, while no bar is drawn there.
pub fn above_bars<T>(write: impl FnOnce() -> T) -> T {
    if std::io::stderr().is_terminal() { BARS.suspend(write) } else { write() }
}

/// Adds a bar below the others, if there is a terminal.
fn bar(length: u64, template: &str) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = BARS.add(ProgressBar::new(length));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    })
}

/// A stage of a run: its name, and the names of the [`Progress`] that it consists of.
#[derive(Debug, Clone)]
pub struct Stage {
    name: &'static str,
    work: &'static [&'static str],
    repeats: usize,
    weight: f64,
}

impl Stage {
    /// A stage that goes once through `work`, and takes as long as other stages.
    pub fn new(name: &'static str, work: &'static [&'static str]) -> Self {
        Self { name, work, repeats: 1, weight: 1.0 }
    }

    /// Sets how often the stage goes through its work.
    pub fn repeated(mut self, repeats: usize) -> Self {
        self.repeats = repeats;
        self
    }

    /// Sets how long the stage takes, in any unit that all stages share.
    pub fn weighing(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    fn parts(&self) -> usize {
        (self.work.len() * self.repeats).max(1)
    }

    fn part_weight(&self) -> f64 {
        self.weight / self.parts() as f64
    }
}

/// Runs `work`, which goes through `stages` in order; it may skip some.
pub fn in_stages<T>(stages: Vec<Stage>, work: impl FnOnce() -> T) -> T {
    struct Reset(Option<Arc<Run>>);
    impl Drop for Reset {
        fn drop(&mut self) {
            let run = RUN.replace(self.0.take());
            if let Some(bar) = run.as_deref().and_then(|run| run.bar.as_ref()) {
                bar.finish_and_clear();
            }
        }
    }
    let is_one_bar = stages.iter().map(Stage::parts).sum::<usize>() < 2;
    let run = (!is_one_bar).then(|| Arc::new(Run::new(stages)));
    let _reset = Reset(RUN.replace(run));
    work()
}

/// Counts the part of the run that consists of `work` as done before, by a run that this one resumes.
pub fn skip(work: &[&'static str]) {
    let run = RUN.with_borrow(Clone::clone);
    for what in work {
        if let Some(run) = &run
            && run.enter(what)
        {
            run.skip_part();
        }
    }
}

/// A run of several stages.
#[derive(Debug)]
struct Run {
    stages: Vec<Stage>,
    position: Mutex<Position>,
    started: Instant,
    bar: Option<ProgressBar>,
}

/// How far a run is.
#[derive(Debug, Default)]
struct Position {
    stage: usize,
    /// part of the stage, from 1; 0 before the first one
    part: usize,
    /// share of the part that is done
    share: f64,
    /// weight of the parts that this run does not go through
    skipped: f64,
}

impl Run {
    fn new(stages: Vec<Stage>) -> Self {
        let bar = bar(RUN_STEPS as u64, "{prefix:<18} {bar:32} {percent:>3}%  {msg}");
        Self { stages, position: Mutex::default(), started: Instant::now(), bar }
    }

    /// Moves to the part called `what`. False if no stage has it.
    fn enter(&self, what: &str) -> bool {
        let Ok(mut position) = self.position.lock() else { return false };
        let Some(stage) = self.stages.get(position.stage) else { return false };
        let begins = if stage.work.contains(&what) && position.part < stage.parts() {
            position.part += 1;
            position.part == 1
        } else {
            let later = position.stage + 1..self.stages.len();
            let Some(next) = later.clone().find(|&next| self.stages[next].work.contains(&what)) else { return false };
            position.skipped += (stage.parts() - position.part) as f64 * stage.part_weight();
            position.skipped += self.stages[later.start..next].iter().map(|stage| stage.weight).sum::<f64>();
            (position.stage, position.part) = (next, 1);
            true
        };
        position.share = 0.0;
        let label = self.label(&position);
        match &self.bar {
            Some(bar) => bar.set_prefix(label),
            None if begins => {
                let stage = self.stages[position.stage].name;
                info!("stage {} of {}: {stage}", position.stage + 1, self.stages.len());
            }
            None => {}
        }
        true
    }

    fn skip_part(&self) {
        if let Ok(mut position) = self.position.lock() {
            position.skipped += self.stages[position.stage].part_weight();
            position.share = 1.0;
        }
    }

    /// `[2/5] fold 3/10`
    fn label(&self, position: &Position) -> String {
        let stage = &self.stages[position.stage];
        let label = format!("[{}/{}] {}", position.stage + 1, self.stages.len(), stage.name);
        match stage.repeats {
            0 | 1 => label,
            repeats => format!("{label} {}/{repeats}", position.part.saturating_sub(1) / stage.work.len().max(1) + 1),
        }
    }

    /// Records how much of the present part is done, and returns how much of the run is, and how long the rest takes.
    fn at(&self, share: f64) -> (f64, Option<Duration>) {
        let Ok(mut position) = self.position.lock() else { return (0.0, None) };
        position.share = share.clamp(0.0, 1.0);
        let total: f64 = self.stages.iter().map(|stage| stage.weight).sum();
        let before: f64 = self.stages[..position.stage].iter().map(|stage| stage.weight).sum();
        let parts = position.part.saturating_sub(1) as f64 + position.share;
        let done = before + parts * self.stages[position.stage].part_weight();
        let done = ((done - position.skipped) / (total - position.skipped).max(1e-9)).clamp(0.0, 1.0);
        let left = (done >= 0.01).then(|| self.started.elapsed().mul_f64((1.0 - done) / done));
        if let Some(bar) = &self.bar {
            bar.set_position((done * RUN_STEPS) as u64);
            bar.set_message(left.map_or_else(String::new, |left| format!("{} left", clock(left))));
        }
        (done, left)
    }
}

/// `2:10`, `1:02:10`
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours == 0 { format!("{minutes}:{seconds:02}") } else { format!("{hours}:{minutes:02}:{seconds:02}") }
}

/// A number with a comma between thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How far a piece of work is.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Mutex<Instant>,
    run: Option<Arc<Run>>,
}

impl Progress {
    /// Starts showing progress of `what` out of `total` units; 0 if nobody knows how many there are.
    pub fn start(what: &'static str, total: u64) -> Self {
        let run = RUN.with_borrow(Clone::clone).filter(|run| run.enter(what));
        let bar = bar(total, "{prefix:<18} {bar:32} {percent:>3}%  {elapsed} (eta {eta})  {msg}");
        if let Some(bar) = &bar {
            bar.set_prefix(what);
        }
        let started = Instant::now();
        Self { what, total, bar, started, last_line: Mutex::new(started), run }
    }

    /// Shows that `done` units are done, and `message` about them.
    pub fn at(&self, done: u64, message: impl FnOnce() -> String) {
        let whole = self.run.as_ref().map(|run| run.at(done as f64 / self.total.max(1) as f64));
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message());
            return;
        }
        let Ok(mut last_line) = self.last_line.lock() else { return };
        if last_line.elapsed() >= LOG_INTERVAL {
            *last_line = Instant::now();
            let percent = (done * 100).checked_div(self.total).unwrap_or(100);
            match whole {
                None if self.total == 0 => info!("{}: {}", self.what, message()),
                None => {
                    let share = done as f64 / self.total as f64;
                    let left = (share >= 0.01).then(|| self.started.elapsed().mul_f64((1.0 / share - 1.0).max(0.0)));
                    let left = left.map_or("?".to_owned(), clock);
                    info!(left, "{} {percent}%: {}", self.what, message());
                }
                Some((whole, left)) => {
                    let (run_percent, left) = ((whole * 100.0) as u64, left.map_or("?".to_owned(), clock));
                    info!(run_percent, left, "{} {percent}%: {}", self.what, message());
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(run) = &self.run {
            run.at(1.0);
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether a person asked the program to stop. Inexpensive to clone and to query.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    inner: Arc<InterruptInner>,
}

#[derive(Debug, Default)]
struct InterruptInner {
    raised: AtomicBool,
    notify: Notify,
}

impl Interrupt {
    /// Asks everyone who holds this to stop.
    pub fn raise(&self) {
        self.inner.raised.store(true, Ordering::SeqCst);
        self.inner.notify.notify_waiters();
    }

    /// True once someone asked to stop.
    pub fn is_raised(&self) -> bool {
        self.inner.raised.load(Ordering::SeqCst)
    }

    /// Waits until someone asks to stop.
    pub async fn raised(&self) {
        let notified = self.inner.notify.notified();
        if !self.is_raised() {
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run::new(vec![
            Stage::new("fold", &["index", "examples"]).repeated(2).weighing(4.0),
            Stage::new("ranking", &["trees"]).weighing(3.0),
            Stage::new("index", &["index"]),
        ])
    }

    fn label(run: &Run) -> String {
        run.label(&run.position.lock().expect("no panic"))
    }

    fn done(run: &Run, share: f64) -> u32 {
        (run.at(share).0 * 1_000.0).round() as u32
    }

    #[test]
    fn parts_in_order_move_the_run_from_stage_to_stage() {
        let run = run();
        let expected = [
            ("index", "fold 1/2", 0),
            ("examples", "fold 1/2", 125),
            ("index", "fold 2/2", 250),
            ("examples", "fold 2/2", 375),
        ];
        for (what, stage, begin) in expected {
            assert!(run.enter(what));
            assert_eq!((label(&run), done(&run, 0.0)), (format!("[1/3] {stage}"), begin));
        }
        assert!(run.enter("trees"));
        assert_eq!((label(&run), done(&run, 0.5)), ("[2/3] ranking".to_owned(), 688));
        assert!(!run.enter("network"), "no stage has it");
        assert!(run.enter("index"));
        assert_eq!((label(&run), done(&run, 1.0)), ("[3/3] index".to_owned(), 1_000));
    }

    #[test]
    fn what_is_skipped_counts_neither_as_done_nor_as_left() {
        let run = run();
        assert!(run.enter("index"));
        run.skip_part();
        assert!(run.enter("examples"));
        run.skip_part();
        assert!(run.enter("index"));
        assert_eq!((label(&run), done(&run, 0.0)), ("[1/3] fold 2/2".to_owned(), 0));
        assert!(run.enter("trees"));
        assert_eq!(done(&run, 0.0), 200, "one of five units: the second fold's examples were skipped too");
        assert_eq!([59, 130, 3_725].map(|seconds| clock(Duration::from_secs(seconds))), ["0:59", "2:10", "1:02:05"]);
    }

    #[test]
    fn stages_apply_to_the_work_inside_and_to_nothing_else() {
        in_stages(vec![Stage::new("one", &["a", "b"])], || {
            assert!(Progress::start("a", 1).run.is_some());
            assert!(Progress::start("other", 1).run.is_none());
        });
        assert!(Progress::start("a", 1).run.is_none());
    }
}
