//! What a request adds to what its user asked for.

use std::time::Instant;

use super::Request;
use crate::{
    enumeration::{Asked, Suspicion, Value, Watched},
    outcome::{Outcome, UnlockResult},
    policy::Call,
    reason::Reason,
};

impl Request {
    /// Counts the customer that is looked up among those that the user asked for.
    ///
    /// # Errors
    /// `enumeration_suspected`; then it does not count.
    pub fn ask(&mut self, call: &Call) -> Result<(), Reason> {
        let Some(watched) = self.watched() else { return Ok(()) };
        let enforces = watched.limit().enforces;
        let value = Value::of(call.lookup.key.name(), &call.lookup.value);
        let asked = watched.ask(value, Instant::now(), enforces && !self.is_observed);
        self.asked = Some(asked);
        if asked.suspicion.is_some() && enforces { Err(Reason::EnumerationSuspected) } else { Ok(()) }
    }

    /// Learns from n4n's answer whether it knows the customer. Where it does not know the caller, whoever knows a user's
    /// name could else use up what that user may ask for.
    pub fn learn(&mut self, status: u16, result: UnlockResult) {
        match (status, result) {
            (401 | 403, _) => self.take_back(),
            (_, UnlockResult::Refused) => self.amend(|watched, asked, now| {
                watched.settle(asked);
                watched.missed(asked, now);
            }),
            (_, UnlockResult::Unlocked | UnlockResult::Unreadable) => self.settle(),
        }
    }

    /// Has the customer count for good, unless that was taken back. However a request ends, one or the other is done.
    pub(super) fn settle(&mut self) {
        self.amend(|watched, asked, _| watched.settle(asked));
    }

    /// Has the customer not count after all: the call is refused for something else, and may come again.
    pub fn take_back(&mut self) {
        self.amend(|watched, asked, now| watched.take_back(asked, now));
    }

    fn amend(&mut self, amend: impl FnOnce(&Watched<'_>, &mut Asked, Instant)) {
        // Not taken where there is nothing: that would write the whole of it.
        let Some(mut asked) = self.asked else { return };
        if let Some(watched) = self.watched() {
            amend(&watched, &mut asked, Instant::now());
        }
        self.asked = Some(asked);
    }

    /// What the user is suspected of by this call.
    pub fn suspicion(&self) -> Option<Suspicion> {
        self.asked.and_then(|asked| asked.suspicion)
    }

    /// What is told of that once it is known how the call ended, and the rule that it broke and was let pass by.
    pub(super) fn told_suspicion(&self, outcome: Outcome) -> (Option<Suspicion>, Option<Reason>) {
        if self.asked.is_none() {
            return (None, None);
        }
        let suspected = Reason::EnumerationSuspected;
        match outcome {
            Outcome::Rejected(reason) if reason == suspected => (self.suspicion(), None),
            // It was taken back.
            Outcome::Rejected(_) => (None, None),
            Outcome::Forwarded { .. } | Outcome::Failed(_) | Outcome::Abandoned => {
                (self.suspicion(), self.suspicion().map(|_| suspected))
            }
        }
    }

    /// What the user asked for so far; none where that is not counted.
    fn watched(&self) -> Option<Watched<'_>> {
        match &self.user {
            Some(user) => user.watched(),
            None => {
                let name = self.username.as_ref()?.folded();
                Some(self.live.watchlist.as_ref()?.watched(name))
            }
        }
    }
}
