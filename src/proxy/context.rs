//! What one request carries from callback to callback.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use pingora::{Error, ErrorType, Result};

use super::{Gateway, reading::AnswerReader};
use crate::{
    downstream::gate::Home,
    outcome::{Beginning, RequestId, UnlockResult},
    policy::{Call, Credentials, LookupKey},
    quota::{Balance, Exhausted, Ledger},
    reason::Reason,
    upstream::peers::Turns,
};

/// How a request arrived: what its connection knows and Pingora does not.
#[derive(Debug)]
pub struct Arrival {
    /// The client's end of the connection.
    pub client: SocketAddr,
    /// When the request's first byte was there.
    pub beginning: Beginning,
    /// Where its connection waits for it.
    pub home: Arc<Home>,
}

/// One request on its way through.
#[derive(Debug)]
pub struct Request {
    pub(super) id: RequestId,
    pub(super) beginning: Beginning,
    pub(super) client: Option<IpAddr>,
    pub(super) credentials: Option<Credentials>,
    pub(super) lookup: Option<LookupKey>,
    /// What the quota said, once it was asked.
    pub(super) quota: Option<Result<Balance, Exhausted>>,
    /// There once the request was admitted.
    pub(super) passage: Option<Passage>,
    pub(super) state: State,
}

/// Whether a request still has its chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing has spoken against it.
    Open,
    /// It ended for this reason.
    Refused(Reason),
}

impl Request {
    pub(super) fn new() -> Self {
        Self {
            id: RequestId::next(),
            beginning: Beginning::now(),
            client: None,
            credentials: None,
            lookup: None,
            quota: None,
            passage: None,
            state: State::Open,
        }
    }

    pub(super) fn arrived(&mut self, arrival: Arrival) {
        arrival.home.judged();
        self.client = Some(arrival.client.ip().to_canonical());
        self.beginning = arrival.beginning;
    }

    pub(super) fn spend(&mut self, ledger: &Ledger, call: &Call) -> Result<(), Reason> {
        match ledger.spend(call.credentials.username.as_str()) {
            Ok(balance) => {
                self.quota = balance.map(Ok);
                Ok(())
            }
            Err(exhausted) => {
                self.quota = Some(Err(exhausted));
                Err(Reason::QuotaExceeded)
            }
        }
    }

    /// The passage of a request that was admitted; callbacks on the way upstream run for no other.
    pub(super) fn passage(&mut self) -> Result<&mut Passage> {
        self.passage.as_mut().ok_or_else(|| Error::explain(ErrorType::InternalError, "not admitted"))
    }
}

/// An admitted request's way to the upstream and back.
#[derive(Debug)]
pub(super) struct Passage {
    /// The judged call; none for another path.
    pub(super) call: Option<Call>,
    /// The peers not tried yet.
    pub(super) turns: Turns,
    /// The peer tried last.
    pub(super) peer: Option<SocketAddr>,
    /// What n4n answers, as it passes.
    pub(super) answer: Option<AnswerReader>,
    connected_at: Option<Instant>,
    answered_after: Option<Duration>,
    _in_flight: InFlight,
}

impl Passage {
    pub(super) fn new(call: Option<Call>, turns: Turns, in_flight: InFlight) -> Self {
        Self {
            call,
            turns,
            peer: None,
            answer: None,
            connected_at: None,
            answered_after: None,
            _in_flight: in_flight,
        }
    }

    pub(super) fn connected(&mut self) {
        self.connected_at = Some(Instant::now());
    }

    pub(super) fn answered(&mut self) {
        self.answered_after = self.connected_at.map(|at| at.elapsed());
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.connected_at.is_some()
    }

    pub(super) const fn upstream_duration(&self) -> Option<Duration> {
        self.answered_after
    }

    /// What n4n made of the call; none where it was not sent or was for another path.
    pub(super) fn unlock_result(&self) -> Option<UnlockResult> {
        let sent = self.call.is_some() && self.is_connected();
        sent.then(|| self.answer.as_ref().map_or(UnlockResult::Unreadable, AnswerReader::result))
    }
}

/// One of the places that `max_in_flight` allows, given back when dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Gateway>);

impl InFlight {
    pub(super) fn take(gateway: &Arc<Gateway>) -> Option<Self> {
        let before = gateway.in_flight.fetch_add(1, Ordering::Relaxed);
        let slot = Self(gateway.clone());
        (before < gateway.settings.listen.max_in_flight).then_some(slot)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
