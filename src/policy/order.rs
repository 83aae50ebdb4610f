//! The order of judgement: one function that the gateway puts every request through, and `explain` as well.

use std::net::IpAddr;

use bytes::Bytes;

use super::{Call, Credentials, Head, Lookup, Mode, Policy, Route, UserRules, access, credential, head};
use crate::reason::Reason;

/// The rules on who may connect.
const CLIENT: &[Reason] = &[Reason::ClientNotAllowed];

/// The rule on how often an address may call.
const CLIENT_QUOTA: &[Reason] = &[Reason::ClientQuotaExceeded];

/// The rule on paths.
const PATH: &[Reason] = &[Reason::PathUnknown];

/// The rules on what a head declares of its body.
const DECLARATION: &[Reason] = &[Reason::MediaTypeUnsupported, Reason::BodyTooLarge];

/// The rules on a body as it arrives. Its chunking is judged then too, what it holds is not.
const ARRIVAL: &[Reason] = &[Reason::BodyTooLarge, Reason::BodyTimeout];

/// The rules that follow the judgement and depend on more than the request.
pub const AFTERWARDS: [Reason; 4] =
    [Reason::Overloaded, Reason::AuditUnavailable, Reason::UpstreamUnavailable, Reason::QuotaExceeded];

/// A request while it is judged: gives the head and the body, and takes note of what is found.
pub trait Judged: Send {
    /// Its head.
    fn head(&self) -> Head<'_>;

    /// The other end of its connection.
    fn peer(&self) -> IpAddr;

    /// Takes note that these rules are judged next.
    fn judges(&mut self, _rules: &'static [Reason]) {}

    /// Takes note of what was found out.
    fn note(&mut self, found: Found<'_>);

    /// Finds the listed user of that name; gives the user's rules.
    fn find_user(&mut self, name: &str) -> Option<&UserRules>;

    /// Takes a call from the quota of its client's address.
    ///
    /// # Errors
    /// `client_quota_exceeded`.
    fn spend_client(&mut self) -> Result<(), Reason>;

    /// Its whole body, read once and kept.
    ///
    /// # Errors
    /// `body_too_large`, `body_timeout`, `body_malformed` for broken chunking, `client_gone`.
    fn body(&mut self) -> impl Future<Output = Result<Bytes, Reason>> + Send;
}

/// What the judgement has found out about a request.
#[derive(Debug)]
pub enum Found<'a> {
    /// The client it comes from.
    Client(IpAddr),
    /// Where it goes.
    Route(Route),
    /// Its credentials, well-formed.
    Credentials(&'a Credentials),
    /// That whoever calls is the user that the credentials name.
    User,
    /// By what a customer is looked up.
    Lookup(&'a Lookup),
    /// The rule it breaks and that observe mode lets pass.
    Observed(Reason),
}

/// A request that may pass, as far as policy is concerned.
#[derive(Debug)]
pub struct Judgement {
    /// Where it goes.
    pub route: Route,
    /// The call to forward in canonical form; none for another path, and for what observe mode lets pass as it came.
    pub call: Option<Call>,
}

impl Judgement {
    /// Whether a rule that comes [afterwards](AFTERWARDS) applies to the request.
    pub fn asks(&self, rule: Reason) -> bool {
        match (self.route, &self.call) {
            (Route::Unlock, Some(_)) => true,
            (Route::Unlock, None) => rule != Reason::QuotaExceeded,
            (Route::Other, _) => !matches!(rule, Reason::QuotaExceeded | Reason::AuditUnavailable),
        }
    }
}

impl Policy {
    /// Judges a request by every rule that depends on it alone, in the order of the contract's table.
    ///
    /// # Errors
    /// The first broken rule that is not let pass.
    pub async fn judge(&self, request: &mut impl Judged) -> Result<Judgement, Reason> {
        request.judges(CLIENT);
        let client = self.judge_client(request.peer(), &request.head())?;
        request.note(Found::Client(client));
        request.judges(CLIENT_QUOTA);
        request.spend_client()?;
        request.judges(PATH);
        let route = self.destination(&request.head())?;
        request.judges(route.rules());
        route.judge(&request.head())?;
        request.note(Found::Route(route));
        let is_observed = self.observes(route);
        if route == Route::Other || is_observed {
            // Refused now, before anything is counted: it could not be passed on as it came.
            request.head().uri()?;
        }
        if route == Route::Other {
            return Ok(Judgement { route, call: None });
        }
        let call = match self.judge_call(request, client).await {
            Ok(call) => Some(call),
            Err(broken) if is_observed && broken.is_observable() => {
                request.note(Found::Observed(broken));
                None
            }
            Err(broken) => return Err(broken),
        };
        if is_observed {
            // The broken rule may have come before the body was read; a body that is too large or late refuses it all the same.
            request.judges(ARRIVAL);
            request.body().await?;
        }
        Ok(Judgement { route, call })
    }

    /// Whether observe mode applies to requests on this route.
    pub fn observes(&self, route: Route) -> bool {
        route == Route::Unlock && self.mode == Mode::Observe
    }

    async fn judge_call(&self, request: &mut impl Judged, client: IpAddr) -> Result<Call, Reason> {
        request.judges(head::UNLOCK_REASONS);
        request.judges(credential::RULES);
        let credentials = self.judge_head(&request.head())?;
        request.note(Found::Credentials(&credentials));
        request.judges(access::RULES);
        let listed = request.find_user(credentials.username.as_str());
        self.judge_user(&credentials, listed, client)?;
        request.note(Found::User);
        request.judges(DECLARATION);
        self.judge_declaration(&request.head())?;
        request.judges(ARRIVAL);
        let body = request.body().await?;
        request.judges(Lookup::RULES);
        let call = self.judge_body(credentials, &body)?;
        request.note(Found::Lookup(&call.lookup));
        Ok(call)
    }
}
