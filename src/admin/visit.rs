//! One connection of the admin listener: whether it is waited for, since when, and who gives way to others first.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// What a connection is about.
#[derive(Debug)]
pub(super) struct Visit(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Since when its next request is waited for; none: it is being answered.
    waiting_since: Option<Instant>,
    has_asked: bool,
}

impl Visit {
    /// A connection that has just been made.
    pub(super) fn begin() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { waiting_since: Some(Instant::now()), has_asked: false })))
    }

    /// Takes note that a request has come whole.
    pub(super) fn ask(&self) {
        let mut state = self.lock();
        (state.waiting_since, state.has_asked) = (None, true);
    }

    /// The place among those that can give way, the first of which does: who has never asked for anything comes before
    /// who has, and who is waited for longest comes first. None: it is being answered.
    pub(super) fn rank(&self) -> Option<(bool, Instant)> {
        let state = self.lock();
        state.waiting_since.map(|since| (state.has_asked, since))
    }

    /// Whether it is waited for too long, where a first request has so long to come and another one `idle`.
    pub(super) fn is_overdue(&self, now: Instant, first: Duration, idle: Duration) -> bool {
        let within = |has_asked| if has_asked { idle } else { first };
        self.rank().is_some_and(|(has_asked, since)| now.duration_since(since) >= within(has_asked))
    }

    /// An answer's body, with whose end the next request is waited for.
    pub(super) const fn answer(self: Arc<Self>, body: Body) -> Answer {
        Answer { body, visit: self }
    }

    /// What is in there is whole whatever panics, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an answer on its way.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    visit: Arc<Visit>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.visit.lock().waiting_since = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_never_asked_gives_way_first_and_nobody_who_is_answered() {
        let [asked, silent, answered] = [Visit::begin(), Visit::begin(), Visit::begin()];
        asked.ask();
        drop(asked.clone().answer(Body::empty()));
        answered.ask();
        let answer = answered.clone().answer(Body::empty());
        assert!(silent.rank() < asked.rank() && answered.rank().is_none());
        drop(answer);
        assert!(asked.rank() <= answered.rank());
    }

    #[test]
    fn a_first_request_has_less_time_than_another_and_an_answer_has_none_of_it() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let visit = Visit::begin();
        let is_overdue = |after| visit.is_overdue(now + after, 10 * second, 60 * second);
        assert!(!is_overdue(9 * second) && is_overdue(11 * second));
        visit.ask();
        let answer = visit.clone().answer(Body::empty());
        assert!(!is_overdue(1000 * second));
        drop(answer);
        assert!(!is_overdue(59 * second) && is_overdue(61 * second));
    }
}
