//! The order of judgement: one function that the gateway puts every request through, and `explain` as well.

use std::net::IpAddr;

use bytes::Bytes;

use super::{
    ApiUsername, Call, Credentials, Head, Listed, Lookup, Misplaced, Mode, Policy, Route, access, credential,
    head,
};
use crate::reason::Reason;

/// The rules on who may connect.
const CLIENT: &[Reason] = &[Reason::ClientNotAllowed, Reason::ClientDenied];

/// The rule on who has guessed keys.
const CLIENT_BLOCK: &[Reason] = &[Reason::ClientBlocked];

/// The rule on how often an address may call.
const CLIENT_QUOTA: &[Reason] = &[Reason::ClientQuotaExceeded];

/// The rule on paths.
const PATH: &[Reason] = &[Reason::PathUnknown];

/// The rules on what a head declares of its body.
const DECLARATION: &[Reason] = &[Reason::MediaTypeUnsupported, Reason::BodyTooLarge];

/// The rules on a body as it arrives. Its chunking is judged then too, what it holds is not.
const ARRIVAL: &[Reason] = &[Reason::BodyTooLarge, Reason::BodyTimeout];

/// The rules that follow the judgement and depend on more than the request.
pub const AFTERWARDS: [Reason; 5] = [
    Reason::Overloaded,
    Reason::AuditUnavailable,
    Reason::UpstreamUnavailable,
    Reason::EnumerationSuspected,
    Reason::QuotaExceeded,
];

/// Of these, the rules on what a user does; they need a call whose user and customer are known.
const USERS: [Reason; 2] = [Reason::EnumerationSuspected, Reason::QuotaExceeded];

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

    /// Finds the listed user of that name, in whatever case it is spelt.
    fn find_user(&mut self, name: &ApiUsername) -> Option<Listed<'_>>;

    /// Turns it away where its client's network is shut out.
    ///
    /// # Errors
    /// `client_blocked`.
    fn refuse_blocked(&mut self) -> Result<(), Reason>;

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
    /// Its credentials, well-formed; a listed user's name in its listed spelling.
    Credentials(&'a Credentials),
    /// Its api-username, beyond doubt although the credentials are not.
    Username(ApiUsername),
    /// That it is not known by its key.
    WrongKey,
    /// That whoever calls is the user that the credentials name.
    User,
    /// By what a customer is looked up.
    Lookup(&'a Lookup),
    /// An api-key where something else belongs.
    Misplaced(Misplaced),
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
    /// What is asked for by a call that observe mode lets pass as it came, where that is beyond doubt.
    as_it_came: Option<Lookup>,
}

impl Judgement {
    /// By what a customer is looked up, where that is beyond doubt.
    pub fn lookup(&self) -> Option<&Lookup> {
        self.call.as_ref().map(|call| &call.lookup).or(self.as_it_came.as_ref())
    }

    /// Whether a rule that comes [afterwards](AFTERWARDS) applies to the request.
    pub fn asks(&self, rule: Reason) -> bool {
        match (self.route, &self.call) {
            (Route::Unlock, Some(_)) => true,
            (Route::Unlock, None) => !USERS.contains(&rule),
            (Route::Other, _) => !USERS.contains(&rule) && rule != Reason::AuditUnavailable,
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
        let client = self.client(request.peer(), &request.head())?;
        request.note(Found::Client(client));
        self.clients.judge(client)?;
        request.judges(CLIENT_BLOCK);
        request.refuse_blocked()?;
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
            return Ok(Judgement { route, call: None, as_it_came: None });
        }
        let call = match self.judge_call(request, client).await {
            Ok(call) => Some(call),
            Err(broken) if is_observed && broken.is_observable() => {
                request.note(Found::Observed(broken));
                if broken < access::RULES[0] {
                    self.find_caller(request, client);
                }
                None
            }
            Err(broken) => return Err(broken),
        };
        let mut as_it_came = None;
        if is_observed {
            // The broken rule may have come before the body was read; a body that is too large or late refuses it all the same.
            request.judges(ARRIVAL);
            let body = request.body().await?;
            as_it_came = if call.is_none() { Lookup::beyond_doubt(&request.head(), &body) } else { None };
            if let Some(lookup) = &mut as_it_came {
                self.tell_lookup(request, lookup);
            }
        }
        Ok(Judgement { route, call, as_it_came })
    }

    /// Finds out who calls, for the records of a call that passes although it broke a rule before that was judged.
    fn find_caller(&self, request: &mut impl Judged, client: IpAddr) {
        let fields = request.head().fields;
        if let Ok(credentials) = Credentials::of(fields, self.legacy_credentials) {
            if self.identify(request, credentials, client).1.is_ok() {
                request.note(Found::User);
            }
        } else if let Some(mut username) = ApiUsername::of(fields, self.legacy_credentials) {
            let listed = request.find_user(&username).map(|listed| listed.name.clone());
            if let Some(listed) = listed {
                username = listed;
            } else if let Some(misplaced) = self.access.known.in_bare_username(&username) {
                username.hide();
                request.note(Found::Misplaced(misplaced));
            }
            request.note(Found::Username(username));
        }
    }

    /// Finds the user that credentials name and judges whether it is the one who calls; gives the credentials as they are
    /// to be told.
    fn identify(
        &self,
        request: &mut impl Judged,
        mut credentials: Credentials,
        client: IpAddr,
    ) -> (Credentials, Result<(), Reason>) {
        let listed = request.find_user(&credentials.username);
        let verdict = self.judge_user(&credentials, listed.map(|listed| listed.rules), client);
        let is_listed = listed.is_some();
        // Of a call that passes under a listed name the name is no key. Of others it is digested, whether it is listed or
        // not, so that a refusal takes as long.
        let misplaced = (!is_listed || verdict == Err(Reason::CredentialUnknown))
            .then(|| self.access.known.in_username(&credentials, is_listed))
            .flatten();
        if let Some(listed) = listed {
            credentials.username = listed.name.clone();
        }
        if let Some(misplaced) = misplaced {
            credentials.username.hide();
            request.note(Found::Misplaced(misplaced));
        }
        request.note(Found::Credentials(&credentials));
        (credentials, verdict)
    }

    /// Hides a key that stands where a lookup value belongs, and tells what is looked up.
    fn tell_lookup(&self, request: &mut impl Judged, lookup: &mut Lookup) {
        if let Some(misplaced) = self.access.known.in_lookup(request.head().fields, lookup) {
            lookup.hide();
            request.note(Found::Misplaced(misplaced));
        }
        request.note(Found::Lookup(lookup));
    }

    /// Whether observe mode applies to requests on this route.
    pub fn observes(&self, route: Route) -> bool {
        route == Route::Unlock && self.mode == Mode::Observe
    }

    async fn judge_call(&self, request: &mut impl Judged, client: IpAddr) -> Result<Call, Reason> {
        request.judges(head::UNLOCK_REASONS);
        request.judges(credential::RULES);
        let credentials = self.judge_head(&request.head())?;
        request.judges(access::RULES);
        let (credentials, known) = self.identify(request, credentials, client);
        if known == Err(Reason::CredentialUnknown) {
            request.note(Found::WrongKey);
        }
        known?;
        request.note(Found::User);
        request.judges(DECLARATION);
        self.judge_declaration(&request.head())?;
        request.judges(ARRIVAL);
        let body = request.body().await?;
        request.judges(Lookup::RULES);
        let mut call = self.judge_body(credentials, &body)?;
        self.tell_lookup(request, &mut call.lookup);
        Ok(call)
    }
}
