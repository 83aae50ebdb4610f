//! What one request carries from its head to its record.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use pingora::{Error, ErrorType};

use super::reading::AnswerReader;
use crate::{
    audit::{self, Answer, Intent},
    config::Upstream,
    downstream::{connection::Connection, reply::CONTINUE, session::Home},
    gateway::{Gateway, Live},
    outcome::{Beginning, Outcome, Record, RequestId, UnlockResult},
    policy::{Call, Credentials, Lookup, LookupKey, Route, framing::RequestHead},
    quota::{Balance, Exhausted, InProcess, Spend},
    quota_store::{Line, Shared},
    reason::Reason,
    upstream::{
        answer::MAX_INTERIM,
        fault::Cause,
        peers::{Turn, Turns},
    },
};

/// How a request arrived.
#[derive(Debug)]
pub struct Arrival {
    /// The client's end of the connection.
    pub client: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// When the request's first byte was there.
    pub beginning: Beginning,
    /// Its head.
    pub head: RequestHead,
    /// Where its connection waits while Pingora has it.
    pub home: Arc<Home>,
}

/// One request on its way through.
#[derive(Debug)]
pub struct Request {
    pub(super) id: RequestId,
    beginning: Beginning,
    /// Its head.
    pub head: RequestHead,
    /// The settings it began with.
    pub live: Arc<Live>,
    /// The connection's other end; once that is known, the client it speaks for.
    pub(super) client: IpAddr,
    pub(super) scheme: &'static str,
    pub(super) credentials: Option<Credentials>,
    pub(super) is_listed: bool,
    pub(super) lookup: Option<LookupKey>,
    /// The last quota that was asked.
    pub(super) quota: Option<Asked>,
    /// Whether broken rules that observe mode can let pass are let pass.
    pub(super) is_observed: bool,
    /// The first such rule.
    pub(super) observed: Option<Reason>,
    /// There once the request was admitted.
    pub(super) passage: Option<Passage>,
    pub(super) state: State,
    /// Where its connection waits while Pingora has it.
    pub home: Arc<Home>,
    body: Option<Bytes>,
    pub(super) gateway: Arc<Gateway>,
    /// Whether the audit trail has an intent whose outcome it lacks.
    is_intended: bool,
}

/// What a quota said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The name of the quota, as the RateLimit fields give it.
    pub(super) policy: &'static str,
    pub(super) balance: Balance,
    pub(super) retry_after: Option<Duration>,
}

/// Whether a request still has its chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing has spoken against it.
    Open,
    /// It ended for this reason.
    Failed(Reason),
}

impl Request {
    /// A request that nothing has been judged of but its framing.
    pub fn new(gateway: Arc<Gateway>, arrival: Arrival) -> Self {
        let live = gateway.live();
        Self {
            id: RequestId::next(),
            beginning: arrival.beginning,
            head: arrival.head,
            live,
            client: arrival.client.ip().to_canonical(),
            scheme: arrival.scheme,
            credentials: None,
            is_listed: false,
            lookup: None,
            quota: None,
            is_observed: false,
            observed: None,
            passage: None,
            state: State::Open,
            home: arrival.home,
            body: None,
            gateway,
            is_intended: false,
        }
    }

    /// Limits the time in which the upstream must answer: the last byte is on its way.
    pub(super) fn expect_answer(&self) {
        if let Some(passage) = &self.passage {
            let within = self.live.settings.upstream.response_timeout;
            self.home.expect_answer(Some(passage.answer_due(within)));
        }
    }

    /// Takes note that the upstream has answered.
    pub(super) fn answered(&mut self) -> pingora::Result<()> {
        // An unlock call's answer is a few bytes: they get as long again. Another path's may be long.
        let is_unlock = self.passage.as_ref().is_some_and(Passage::is_unlock);
        let body_due = is_unlock.then(|| Instant::now() + self.live.settings.upstream.response_timeout);
        self.home.expect_answer(body_due);
        let passage = self.passage()?;
        passage.answered_after = passage.connected_at.map(|at| at.elapsed());
        Ok(())
    }

    /// Ends an answer that is past its time, also one that comes too fast for the session to be asked meanwhile.
    ///
    /// # Errors
    /// When its time has run out.
    pub(super) fn keep_time(&self) -> pingora::Result<()> {
        if self.home.is_past_due(Instant::now()) {
            Err(Error::new_up(ErrorType::ReadTimedout))
        } else {
            Ok(())
        }
    }

    /// The whole body, read once.
    pub(super) async fn body(&mut self, connection: &mut Connection) -> Result<Bytes, Reason> {
        if let Some(body) = &self.body {
            return Ok(body.clone());
        }
        if self.head.awaits_continue() {
            let asked = async {
                connection.write(CONTINUE).await?;
                connection.flush().await
            };
            asked.await.map_err(|_| Reason::ClientGone)?;
        }
        let settings = &self.live.settings;
        let body = connection.body(settings.policy.max_body, settings.deadlines.body).await?;
        self.body = Some(body.clone());
        Ok(body)
    }

    /// Lets a broken rule pass where observe mode says so.
    pub(super) fn tolerate(&mut self, broken: Reason) -> Result<(), Reason> {
        if self.is_observed && broken.is_observable() {
            self.observed.get_or_insert(broken);
            Ok(())
        } else {
            Err(broken)
        }
    }

    pub(super) fn spend_client(&mut self) -> Result<(), Reason> {
        self.live.ledger.spend_client(self.client, Instant::now()).map_err(|exhausted| {
            self.quota = Some(Asked::exhausted("client", exhausted));
            Reason::ClientQuotaExceeded
        })
    }

    pub(super) async fn spend(&mut self, call: &Call, line: &Line) -> Result<(), Reason> {
        let username = call.caller.credentials.username.as_str();
        let ledger = &self.live.ledger;
        let spent = match &self.live.settings.quota_store {
            None => InProcess { ledger, now: Instant::now() }.spend(username).await,
            Some(store) => {
                Shared { line, ledger, when_redis_fails: store.when_redis_fails }.spend(username).await
            }
        };
        match spent {
            Ok(balance) => {
                self.quota = balance.map(|balance| Asked { policy: "user", balance, retry_after: None });
                Ok(())
            }
            Err(exhausted) => {
                self.quota = Some(Asked::exhausted("user", exhausted));
                Err(Reason::QuotaExceeded)
            }
        }
    }

    /// Puts into the audit trail what is about to be forwarded.
    pub(super) fn intend(&mut self, lookup: Option<&Lookup>) -> Result<(), Reason> {
        let Some(trail) = &self.live.trail else {
            return Ok(());
        };
        let intent = Intent {
            time: SystemTime::now(),
            request_id: self.id,
            client: Some(self.client),
            user: self.credentials.as_ref().map(|credentials| credentials.username.as_str()),
            lookup: lookup.map(|lookup| lookup.key),
            value: lookup.map(|lookup| lookup.value.as_str()),
        };
        match trail.intent(&intent) {
            Ok(()) => {
                self.is_intended = true;
                Ok(())
            }
            Err(_) => {
                self.gateway.metrics.audit_errors.inc();
                Err(Reason::AuditUnavailable)
            }
        }
    }

    /// Puts into the audit trail what became of what it has an intent of; once.
    pub(super) fn conclude(&mut self, answer: Answer, reason: Option<Reason>) {
        let Some(trail) = self.live.trail.as_ref().filter(|_| self.is_intended) else {
            return;
        };
        self.is_intended = false;
        let outcome = audit::Outcome { time: SystemTime::now(), request_id: self.id, answer, reason };
        if trail.outcome(&outcome).is_err() {
            self.gateway.metrics.audit_errors.inc();
        }
    }

    /// Concludes with what n4n has answered, its answer having been seen whole.
    pub(super) fn conclude_answered(&mut self) {
        let answer = self.passage.as_ref().and_then(|passage| passage.answer.as_ref());
        if let Some(answer) = answer.map(AnswerReader::seen) {
            self.conclude(answer, None);
        }
    }

    /// Makes the one record of how it ended; `status` is what the client was sent.
    pub fn record(&self, outcome: Outcome, status: Option<u16>) {
        let passage = self.passage.as_ref();
        self.gateway.record(
            &self.live,
            &Record {
                time: self.beginning.time,
                request_id: self.id,
                client: Some(self.client),
                user: self.credentials.as_ref().map(|credentials| credentials.username.as_str()),
                is_listed: self.is_listed,
                method: Some(self.head.method.as_str()),
                path: Some(self.head.path()),
                outcome,
                status,
                duration: self.beginning.instant.elapsed(),
                upstream_duration: passage.and_then(Passage::upstream_duration),
                peer: passage.and_then(Passage::peer),
                lookup: self.lookup,
                unlock: passage.and_then(|passage| passage.unlock_result(outcome)),
                observed: self.observed,
            },
        );
    }

    /// The passage of a request that was admitted; callbacks on the way upstream run for no other.
    pub(super) fn passage(&mut self) -> pingora::Result<&mut Passage> {
        self.passage.as_mut().ok_or_else(|| Error::explain(ErrorType::InternalError, "not admitted"))
    }
}

/// However a request ends, a forwarded one leaves its outcome in the audit trail.
impl Drop for Request {
    fn drop(&mut self) {
        self.conclude(Answer::Unknown, None);
    }
}

impl Asked {
    const fn exhausted(policy: &'static str, exhausted: Exhausted) -> Self {
        Self { policy, balance: exhausted.balance, retry_after: Some(exhausted.retry_after) }
    }
}

/// An admitted request's way to the upstream and back.
#[derive(Debug)]
pub(super) struct Passage {
    route: Route,
    /// Whether it is what the gateway has written, whole.
    is_canonical: bool,
    /// The peers not tried yet.
    turns: Turns,
    /// The turn at the peer tried last.
    turn: Option<Turn>,
    /// Whether that has less time to connect than a peer is given, because others took it.
    is_cut_short: bool,
    /// What n4n answers, as it passes.
    pub(super) answer: Option<AnswerReader>,
    admitted_at: Instant,
    /// Interim answers so far.
    interim: u32,
    connected_at: Option<Instant>,
    answered_after: Option<Duration>,
    _in_flight: InFlight,
}

impl Passage {
    pub(super) fn new(route: Route, is_canonical: bool, turns: Turns, in_flight: InFlight) -> Self {
        Self {
            route,
            is_canonical,
            turns,
            turn: None,
            is_cut_short: false,
            answer: None,
            admitted_at: Instant::now(),
            interim: 0,
            connected_at: None,
            answered_after: None,
            _in_flight: in_flight,
        }
    }

    /// Whether it is an unlock call's.
    pub(super) fn is_unlock(&self) -> bool {
        self.route == Route::Unlock
    }

    /// Whether it is what the gateway has written, whole.
    pub(super) const fn is_canonical(&self) -> bool {
        self.is_canonical
    }

    /// The turn at the next peer, and how long it may take to connect; none where every one was tried.
    pub(super) fn turn(&mut self, upstream: &Upstream) -> Option<(&Turn, Duration)> {
        let now = Instant::now();
        let left = self.answer_due(upstream.response_timeout).saturating_duration_since(now);
        let within = upstream.connect_timeout.min(left);
        self.is_cut_short = self.turn.is_some() && within < upstream.connect_timeout;
        self.turn = self.turns.next(now);
        self.turn.as_ref().map(|turn| (turn, within))
    }

    /// The peer tried last.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.turn.as_ref().map(|turn| turn.peer().address())
    }

    /// When the answer must be there. A call that is held whole has its last byte when it is admitted, so
    /// connects count; the body of another path is still to come then.
    pub(super) fn answer_due(&self, within: Duration) -> Instant {
        let from = if self.is_unlock() { self.admitted_at } else { Instant::now() };
        from + within
    }

    /// Takes note that the peer tried last could not be connected to.
    pub(super) fn not_connected(&self, cause: Cause) {
        // One that was given what others had left of the time is not to blame.
        if let Some(turn) = self.turn.as_ref().filter(|_| !self.is_cut_short) {
            turn.peer().eject(Instant::now(), cause);
        }
    }

    /// Whether a peer is left, and time to try it.
    pub(super) fn may_try_another(&self, within: Duration) -> bool {
        self.answer_due(within) > Instant::now() && !self.turns.is_empty()
    }

    /// Takes note of an interim answer, and tells whether there may be so many.
    pub(super) fn has_interim(&mut self) -> bool {
        self.interim += 1;
        self.interim <= MAX_INTERIM
    }

    pub(super) fn connected(&mut self) {
        self.connected_at = Some(Instant::now());
        if let Some(turn) = &self.turn {
            turn.peer().connected();
        }
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.connected_at.is_some()
    }

    pub(super) const fn upstream_duration(&self) -> Option<Duration> {
        self.answered_after
    }

    /// What n4n made of the call; none where it was not sent or was for another path.
    pub(super) fn unlock_result(&self, outcome: Outcome) -> Option<UnlockResult> {
        let sent = self.is_unlock() && self.is_connected();
        let whole = self.answer.as_ref().filter(|_| matches!(outcome, Outcome::Forwarded { .. }));
        sent.then(|| whole.map_or(UnlockResult::Unreadable, AnswerReader::result))
    }
}

/// A request's place among those in flight, given back when dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    gateway: Arc<Gateway>,
    before: usize,
}

impl InFlight {
    pub(super) fn take(gateway: &Arc<Gateway>) -> Self {
        let before = gateway.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { gateway: gateway.clone(), before }
    }

    /// Whether as many as are allowed were in flight before it.
    pub(super) const fn is_over(&self, allowed: usize) -> bool {
        self.before >= allowed
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gateway.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
