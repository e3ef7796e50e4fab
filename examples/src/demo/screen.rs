//! What a person sees: lines, and below them a bar where there is a terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line with a bar so wide fits into 80 columns, without which it could not be drawn over itself.
const WIDTH: usize = 24;
const REDRAW: Duration = Duration::from_millis(40);

/// Where lines and the bar go: to standard output, or aside where that is for a program to read.
pub(super) struct Screen {
    aside: Aside,
    pub(super) ink: Ink,
    bar: RefCell<Bar>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    Yes,
    No,
}

/// How far the orders are.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) all: usize,
    pub(super) confirmed: usize,
    pub(super) cancelled: usize,
}

struct Bar {
    progress: Progress,
    begun: Instant,
    /// When it was drawn; `None` while there is none.
    drawn: Option<Instant>,
    terminal: bool,
}

/// Colours, or none of them.
#[derive(Clone, Copy)]
pub(super) struct Ink(bool);

impl Screen {
    pub(super) fn new(aside: Aside) -> Self {
        let terminal = match aside {
            Aside::Yes => io::stderr().is_terminal(),
            Aside::No => io::stdout().is_terminal(),
        };
        let ink = Ink(terminal && std::env::var_os("NO_COLOR").is_none());
        let bar = Bar { progress: Progress::default(), begun: Instant::now(), drawn: None, terminal };
        Self { aside, ink, bar: RefCell::new(bar) }
    }

    /// A line, above the bar.
    pub(super) fn say(&self, line: &str) {
        let drawn = self.bar.borrow().drawn.is_some();
        self.write(&format!("{}{line}\n", if drawn { "\r\x1b[K" } else { "" }));
        if drawn {
            self.draw();
        }
    }

    /// A line with how long the orders run.
    pub(super) fn tell(&self, line: &str) {
        let seconds = self.bar.borrow().begun.elapsed().as_secs_f64();
        self.say(&format!("  {}  {line}", self.ink.dim(&format!("{seconds:5.1} s"))));
    }

    /// Starts the bar, and the time.
    pub(super) fn begin(&self, all: usize) {
        let mut bar = self.bar.borrow_mut();
        bar.begun = Instant::now();
        bar.progress = Progress { all, ..Progress::default() };
    }

    pub(super) fn progress(&self, step: impl FnOnce(&mut Progress)) {
        let mut bar = self.bar.borrow_mut();
        step(&mut bar.progress);
        if bar.terminal && bar.drawn.is_none_or(|drawn| drawn.elapsed() > REDRAW) {
            drop(bar);
            self.draw();
        }
    }

    /// Ends the bar; its last state stays as a line.
    pub(super) fn end(&self) {
        let line = self.bar.borrow().line(self.ink);
        let drawn = self.bar.borrow_mut().drawn.take().is_some();
        self.write(&format!("{}{line}\n", if drawn { "\r\x1b[K" } else { "" }));
    }

    fn draw(&self) {
        let line = self.bar.borrow().line(self.ink);
        self.bar.borrow_mut().drawn = Some(Instant::now());
        self.write(&format!("\r\x1b[K{line}"));
    }

    fn write(&self, text: &str) {
        // Whoever has closed the other end does not want to see it.
        let _ = match self.aside {
            Aside::Yes => io::stderr().write_all(text.as_bytes()),
            Aside::No => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
        };
    }
}

impl Drop for Screen {
    /// What follows an early end has a line of its own.
    fn drop(&mut self) {
        if self.bar.borrow().drawn.is_some() {
            self.write("\n");
        }
    }
}

impl Bar {
    fn line(&self, ink: Ink) -> String {
        let Progress { all, confirmed, cancelled } = self.progress;
        let done = confirmed + cancelled;
        let filled = (done * WIDTH).checked_div(all).unwrap_or(0);
        let bar = format!("{}{}", ink.green(&"━".repeat(filled)), ink.dim(&"─".repeat(WIDTH - filled)));
        let seconds = self.begun.elapsed().as_secs_f64();
        let seconds = ink.dim(&format!("{seconds:5.1} s"));
        format!("  {seconds}  {bar} {done}/{all}  {confirmed} confirmed  {cancelled} cancelled")
    }
}

impl Ink {
    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
