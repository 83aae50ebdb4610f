//! What one request carries from its head to its record.

mod enumeration;
pub mod forwarded;
pub mod problem;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use crate::{
    audit::{self, Intent, Seen, Trail},
    downstream::Client,
    enumeration::Asked,
    gateway::{Gateway, Live},
    outcome::{Beginning, Outcome, Record, RequestId, UnlockResult},
    policy::{Call, Credentials, Lookup, LookupKey},
    quota::{Balance, Exhausted},
    quota_store::{SharedAccounts, StoreConnection},
    reason::Reason,
    users::ListedUser,
    wire::RequestHead,
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
}

/// One request on its way through.
#[derive(Debug)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// When its first byte was there.
    pub beginning: Beginning,
    /// Its head.
    pub head: RequestHead,
    /// The settings it began with.
    pub live: Arc<Live>,
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The connection's other end; once that is known, the client it speaks for.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The credentials, once they were read.
    pub credentials: Option<Credentials>,
    /// The listed user who calls, once the right key was shown, if one is configured; none: everyone else.
    pub user: Option<Arc<ListedUser>>,
    /// By what the customer is looked up, once that was read.
    pub lookup: Option<LookupKey>,
    /// The state of the quota that was asked last.
    pub rate_limit: Option<RateLimit>,
    /// What became of the value it looks up, once its user's values were counted.
    pub asked: Option<Asked>,
    /// Whether observe mode applies to this request.
    pub is_observed: bool,
    /// The first rule that observe mode let it break.
    pub observed: Option<Reason>,
    /// What became of it upstream.
    pub upstream: UpstreamRecord,
    body: Option<Bytes>,
    in_flight: Option<InFlight>,
    /// Whether the audit trail has its intent and lacks its outcome.
    is_intended: bool,
}

/// What became of a request upstream, for its record.
#[derive(Debug, Default)]
pub struct UpstreamRecord {
    /// The peer it was sent to, or that could not be reached.
    pub peer: Option<SocketAddr>,
    /// From the connection to the head of the answer.
    pub duration: Option<Duration>,
    /// What n4n made of an unlock call; none where nothing was sent.
    pub unlock: Option<UnlockResult>,
}

/// The state of a quota, as the RateLimit fields tell it.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    /// The name of the quota, as the RateLimit fields give it.
    policy: &'static str,
    balance: Balance,
    retry_after: Option<Duration>,
}

impl Request {
    /// A request whose framing has been judged and nothing else.
    pub fn new(gateway: Arc<Gateway>, arrival: Arrival) -> Self {
        Self {
            id: RequestId::next(),
            beginning: arrival.beginning,
            head: arrival.head,
            live: gateway.live(),
            gateway,
            client: arrival.client.ip().to_canonical(),
            scheme: arrival.scheme,
            credentials: None,
            user: None,
            lookup: None,
            rate_limit: None,
            asked: None,
            is_observed: false,
            observed: None,
            upstream: UpstreamRecord::default(),
            body: None,
            in_flight: None,
            is_intended: false,
        }
    }

    /// The whole body, read once.
    ///
    /// # Errors
    /// As of [`Client::body`].
    pub async fn body(&mut self, client: &mut impl Client) -> Result<Bytes, Reason> {
        if let Some(body) = &self.body {
            return Ok(body.clone());
        }
        if self.head.awaits_continue() {
            client.ask_for_body().await.map_err(|_| Reason::ClientGone)?;
        }
        let settings = &self.live.settings;
        let body = if client.is_read() {
            Bytes::new()
        } else {
            client.body(settings.policy.max_body, Instant::now() + settings.deadlines.body).await?
        };
        self.body = Some(body.clone());
        Ok(body)
    }

    /// Lets a broken rule pass where observe mode says so.
    ///
    /// # Errors
    /// The rule, where it does not.
    pub fn tolerate(&mut self, broken: Reason) -> Result<(), Reason> {
        if self.is_observed && broken.is_observable() {
            self.observed.get_or_insert(broken);
            Ok(())
        } else {
            Err(broken)
        }
    }

    /// Takes the request from its client address' account.
    ///
    /// # Errors
    /// `client_quota_exceeded`.
    pub fn spend_client(&mut self) -> Result<(), Reason> {
        self.live.ledger.spend_client(self.client, self.beginning.instant).map_err(|exhausted| {
            self.rate_limit = Some(RateLimit::exhausted("client", exhausted));
            Reason::ClientQuotaExceeded
        })
    }

    /// Takes a place among the calls in flight, until the request is dropped.
    ///
    /// # Errors
    /// `overloaded` where there was none; the place is taken all the same.
    pub fn enter(&mut self) -> Result<(), Reason> {
        let before = self.gateway.in_flight.fetch_add(1, Ordering::Relaxed);
        self.in_flight = Some(InFlight(self.gateway.clone()));
        if before >= self.live.shares.in_flight { Err(Reason::Overloaded) } else { Ok(()) }
    }

    /// Takes the call from its user's account.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub async fn spend(&mut self, call: &Call, connection: &StoreConnection) -> Result<(), Reason> {
        let username = call.credentials.username.as_str();
        let account = match &self.user {
            Some(user) => user.account(),
            None => self.live.ledger.account(username),
        };
        let Some(account) = account else {
            return Ok(());
        };
        let spent = match &self.live.settings.quota_store {
            None => account.spend(Instant::now()).map(Some),
            Some(store) => {
                let when_redis_fails = store.when_redis_fails;
                SharedAccounts { connection, when_redis_fails }.spend(username, account).await
            }
        };
        match spent {
            Ok(balance) => {
                self.rate_limit =
                    balance.map(|balance| RateLimit { policy: "user", balance, retry_after: None });
                Ok(())
            }
            Err(exhausted) => {
                self.rate_limit = Some(RateLimit::exhausted("user", exhausted));
                Err(Reason::QuotaExceeded)
            }
        }
    }

    /// Records in the audit trail what is about to be forwarded.
    ///
    /// # Errors
    /// `audit_unavailable`; then it must not be forwarded.
    pub async fn intend(&mut self, lookup: Option<&Lookup>) -> Result<(), Reason> {
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
        trail.intent(&intent).await.map_err(|_| Reason::AuditUnavailable)?;
        self.is_intended = true;
        Ok(())
    }

    /// Whether the audit trail is to be tried before the quota is asked.
    pub fn doubts_trail(&self) -> bool {
        self.live.trail.as_ref().is_some_and(|trail| trail.is_doubtful())
    }

    /// Records in the audit trail how a call with an intent ended, once, and waits until it is written.
    pub async fn conclude(&mut self, seen: Seen, reason: Option<Reason>) {
        if let Some((trail, outcome)) = self.conclusion(seen, reason) {
            // Counted and told by the trail, which tries again; the answer goes out all the same.
            let _ = trail.outcome(&outcome).await;
        }
    }

    fn conclusion(&mut self, seen: Seen, reason: Option<Reason>) -> Option<(Arc<Trail>, audit::Conclusion)> {
        let trail = self.live.trail.clone().filter(|_| self.is_intended)?;
        self.is_intended = false;
        Some((trail, audit::Conclusion { time: SystemTime::now(), request_id: self.id, seen, reason }))
    }

    /// Makes the one record of how it ended; `status` is what the client was sent.
    pub fn record(&self, outcome: Outcome, status: Option<u16>) {
        let (suspicion, passed_by) = self.told_suspicion(outcome);
        self.gateway.record(
            &self.live,
            &Record {
                time: self.beginning.time,
                request_id: self.id,
                client: Some(self.client),
                user: self.credentials.as_ref().map(|credentials| credentials.username.as_str()),
                listed: self.user.as_ref().map(|user| &user.counters),
                method: Some(self.head.method()),
                path: Some(self.head.path()),
                outcome,
                status,
                duration: self.beginning.instant.elapsed(),
                upstream_duration: self.upstream.duration,
                peer: self.upstream.peer,
                lookup: self.lookup,
                unlock: self.upstream.unlock,
                observed: self.observed.or(passed_by),
                suspicion,
            },
        );
    }
}

/// However a request ends, a forwarded one leaves its outcome in the audit trail.
impl Drop for Request {
    fn drop(&mut self) {
        if let Some((trail, outcome)) = self.conclusion(Seen::Nothing, None) {
            trail.outcome_later(&outcome);
        }
    }
}

impl RateLimit {
    const fn exhausted(policy: &'static str, exhausted: Exhausted) -> Self {
        Self { policy, balance: exhausted.balance, retry_after: Some(exhausted.retry_after) }
    }
}

/// A place among the calls in flight, given back when dropped.
#[derive(Debug)]
struct InFlight(Arc<Gateway>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
