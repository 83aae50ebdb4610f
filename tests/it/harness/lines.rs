//! The lines a child process writes, kept, and waited for without sleeping.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use super::DEADLINE;

/// All lines of one pipe so far.
#[derive(Clone)]
pub(crate) struct Lines {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads the pipe on a thread until it ends.
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self { shared: Arc::default() };
        let shared = Arc::clone(&lines.shared);
        thread::spawn(move || {
            let (state, changed) = &*shared;
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                state.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
                changed.notify_all();
            }
            state.lock().unwrap().ended = true;
            changed.notify_all();
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().lines.clone()
    }

    /// Waits until `find` finds something in the lines; panics at the deadline or when the pipe ends before.
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let start = Instant::now();
        let (state, changed) = &*self.shared;
        let mut state = state.lock().unwrap();
        loop {
            if let Some(found) = find(&state.lines) {
                return found;
            }
            let left = DEADLINE.saturating_sub(start.elapsed());
            let why = if state.ended { "the pipe ended" } else { "the deadline passed" };
            if state.ended || left.is_zero() {
                let lines = state.lines.join("\n");
                // Whoever shows the lines once more while the panic goes up finds no poisoned lock.
                drop(state);
                panic!("no {what} before {why}, in:\n{lines}");
            }
            state = changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until the writer has closed the pipe, as it does by exiting; false at the deadline.
    pub(crate) fn wait_end(&self) -> bool {
        let (state, changed) = &*self.shared;
        let state = state.lock().unwrap();
        changed.wait_timeout_while(state, DEADLINE, |state| !state.ended).unwrap().0.ended
    }
}
