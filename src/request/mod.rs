//! What one request carries from its head to its record.

mod enumeration;
pub mod forwarded;
pub mod problem;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use crate::{
    audit::{self, Intent, Seen, Trail},
    downstream::Client,
    enumeration::Asked,
    gateway::{Gateway, Live},
    outcome::{Beginning, Outcome, Record, RequestId, UnlockResult},
    policy::{ApiUsername, Call, Lookup, LookupKey, Route},
    quota::{AccountId, Balance, Exhausted},
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
    /// Whom the certificate is for that the client has shown.
    pub certificate: Option<Arc<str>>,
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
    /// Whom the certificate is for that was shown on the connection.
    pub certificate: Option<Arc<str>>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The api-username, once it was read; who calls need not be that user.
    pub username: Option<ApiUsername>,
    /// The listed user who calls, once the right key was shown, if one is configured; none: everyone else.
    pub user: Option<Arc<ListedUser>>,
    /// By what the customer is looked up, once that was read.
    pub lookup: Option<LookupKey>,
    /// The unlisted user's account, once it was asked for.
    account: Option<AccountId>,
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
    /// Its body, or why it could not be read, once that was tried.
    body: Option<Result<Bytes, Reason>>,
    in_flight: Option<InFlight>,
    /// Whether the audit trail has its intent and lacks its outcome.
    is_intended: bool,
    /// Whether some of it may have been sent to n4n.
    is_sent: bool,
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
            certificate: arrival.certificate,
            scheme: arrival.scheme,
            username: None,
            user: None,
            lookup: None,
            account: None,
            rate_limit: None,
            asked: None,
            is_observed: false,
            observed: None,
            upstream: UpstreamRecord::default(),
            body: None,
            in_flight: None,
            is_intended: false,
            is_sent: false,
        }
    }

    /// The whole body, read once.
    ///
    /// # Errors
    /// As of [`Client::body`].
    pub async fn body(&mut self, client: &mut impl Client) -> Result<Bytes, Reason> {
        if let Some(body) = &self.body {
            return body.clone();
        }
        let body = self.read_body(client).await;
        self.body = Some(body.clone());
        body
    }

    async fn read_body(&self, client: &mut impl Client) -> Result<Bytes, Reason> {
        if self.head.awaits_continue() {
            client.ask_for_body().await.map_err(|_| Reason::ClientGone)?;
        }
        let settings = &self.live.settings;
        if client.is_read() {
            return Ok(Bytes::new());
        }
        client.body(settings.policy.max_body, Instant::now() + settings.deadlines.body).await
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

    /// Turns it away where its client's network is shut out.
    ///
    /// # Errors
    /// `client_blocked`.
    pub fn refuse_blocked(&self) -> Result<(), Reason> {
        match &self.live.blocks {
            Some(blocks) if blocks.hold(self.client, self.beginning.instant) => Err(Reason::ClientBlocked),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes note that it showed a wrong key.
    pub fn note_wrong_key(&self) {
        if let Some(blocks) = &self.live.blocks {
            blocks.wrong_key(self.client, Instant::now());
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

    /// Takes a place among the requests in flight on its route, until it [leaves](Self::leave) or is dropped. Unlock calls
    /// have places that no other request takes.
    ///
    /// # Errors
    /// `overloaded` where there was none; the place is taken all the same.
    pub fn enter(&mut self, route: Route) -> Result<(), Reason> {
        let taken = in_flight(&self.gateway, route).fetch_add(1, Ordering::Relaxed);
        self.in_flight = Some(InFlight { gateway: self.gateway.clone(), route });
        let most = match route {
            Route::Unlock => self.live.shares.in_flight,
            Route::Other => self.live.shares.passing,
        };
        if taken >= most { Err(Reason::Overloaded) } else { Ok(()) }
    }

    /// Gives that place back, n4n having answered: a client that does not take its answer holds up no other call.
    pub fn leave(&mut self) {
        self.in_flight = None;
    }

    /// Takes the call from its user's account.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub async fn spend(&mut self, call: &Call, connection: &StoreConnection) -> Result<(), Reason> {
        let username = call.credentials.username.folded();
        let account = match &self.user {
            Some(user) => user.account(),
            None => self.live.ledger.account(username, self.client),
        };
        let Some(account) = account else {
            return Ok(());
        };
        self.account = account.id();
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

    /// The user as log and trail tell it: here alone it is decided what they are told.
    fn told_user(&self) -> Option<&str> {
        self.username.as_ref().map(ApiUsername::as_str)
    }

    /// Takes note of what n4n made of it. A user who unlocks a customer is one whom n4n lets in.
    pub fn note_result(&mut self, result: UnlockResult) {
        self.upstream.unlock = Some(result);
        if let (UnlockResult::Unlocked, Some(user)) = (result, self.account) {
            self.live.ledger.know(user, Instant::now());
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
            client_certificate: self.certificate.as_deref(),
            user: self.told_user(),
            lookup: lookup.map(|lookup| lookup.key),
            value: lookup.map(Lookup::shown),
        };
        trail.intent(&intent).await.map_err(|_| Reason::AuditUnavailable)?;
        self.is_intended = true;
        Ok(())
    }

    /// Whether the audit trail is to be tried before the quota is asked.
    pub fn doubts_trail(&self) -> bool {
        self.live.trail.as_ref().is_some_and(|trail| trail.is_doubtful())
    }

    /// Takes note that from now on some of it may have been sent to n4n.
    pub fn begin_sending(&mut self) {
        self.is_sent = true;
    }

    /// Records in the audit trail that a call with an intent was answered by n4n, and waits until that is written.
    pub async fn conclude(&mut self, status: u16, result: UnlockResult) {
        self.record_end(Some(Seen::Answer { status, result }), None).await;
    }

    /// Records in the audit trail why a call with an intent has no answer of n4n, and waits until that is written.
    pub async fn conclude_unanswered(&mut self, reason: Reason) {
        self.record_end(None, Some(reason)).await;
    }

    async fn record_end(&mut self, answer: Option<Seen>, reason: Option<Reason>) {
        if let Some((trail, outcome)) = self.conclusion(answer, reason) {
            // Counted and told by the trail, which tries again; the answer goes out all the same.
            let _ = trail.outcome(&outcome).await;
        }
    }

    fn conclusion(
        &mut self,
        answer: Option<Seen>,
        reason: Option<Reason>,
    ) -> Option<(Arc<Trail>, audit::Conclusion)> {
        let trail = self.live.trail.clone().filter(|_| self.is_intended)?;
        self.is_intended = false;
        let seen = answer.unwrap_or(if self.is_sent { Seen::Nothing } else { Seen::NotSent });
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
                user: self.told_user(),
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
                client_certificate: self.certificate.as_deref(),
                suspicion,
            },
        );
    }
}

/// However a request ends, one with an intent leaves its outcome in the audit trail, and what it asked for is settled.
impl Drop for Request {
    fn drop(&mut self) {
        self.settle();
        if let Some((trail, outcome)) = self.conclusion(None, None) {
            trail.outcome_later(&outcome);
        }
    }
}

impl RateLimit {
    const fn exhausted(policy: &'static str, exhausted: Exhausted) -> Self {
        Self { policy, balance: exhausted.balance, retry_after: Some(exhausted.retry_after) }
    }
}

/// How many requests are in flight on a route.
fn in_flight(gateway: &Gateway, route: Route) -> &AtomicUsize {
    match route {
        Route::Unlock => &gateway.in_flight,
        Route::Other => &gateway.passing,
    }
}

/// A place among the requests in flight on a route, given back when dropped.
#[derive(Debug)]
struct InFlight {
    gateway: Arc<Gateway>,
    route: Route,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        in_flight(&self.gateway, self.route).fetch_sub(1, Ordering::Relaxed);
    }
}
