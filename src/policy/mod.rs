//! What may pass, in which order it is judged, and why not: no I/O, no clock, no state.
//!
//! A request whose framing is beyond doubt ([`wire`](crate::wire)) is judged in steps, because what the later ones need
//! costs more to have: [`Policy::client`], [`Policy::route`], [`Policy::judge_head`], [`Policy::judge_user`],
//! [`Policy::judge_declaration`] and, once the body is there, [`Policy::judge_body`]; [`order`] is what calls them one after
//! the other. What has state, quotas and the number of calls in flight, is no part of it.

pub mod access;
pub mod body;
pub mod client;
pub mod credential;
pub mod head;
pub mod key_digest;
pub mod misplaced;
pub mod order;
pub mod other_paths;
pub mod path;
pub mod pattern;

use std::net::IpAddr;

use bytes::Bytes;

use crate::{
    operation::{Operation, UNLOCK},
    reason::Reason,
};
pub use access::{Access, Listed, UserRules};
pub use body::{Lookup, LookupKey};
pub use client::Clients;
pub use credential::{ApiKey, ApiUsername, Credentials};
pub use head::Head;
pub use misplaced::{KnownKeys, Misplaced, Place};
pub use other_paths::{ListedPath, OtherPaths};
pub use pattern::{Pattern, Patterns};

/// Whether the rules on what a call means refuse or only take note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A broken rule refuses the call.
    Enforce,
    /// Rules that [are observable](Reason::is_observable) are judged, and the call passes all the same.
    Observe,
}

/// The rules, as configured.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whether broken rules refuse.
    pub mode: Mode,
    /// Which clients may call at all.
    pub clients: Clients,
    /// What becomes of other paths.
    pub other_paths: OtherPaths,
    /// Whether `api_key` and `api_username` are accepted as well.
    pub legacy_credentials: bool,
    /// Which users may call, and from where.
    pub access: Access,
    /// The most bytes of body that are read.
    pub max_body: usize,
    /// What lookup values must be.
    pub patterns: Patterns,
}

/// Where a request goes, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// An unlock call: its head and body are judged.
    Unlock,
    /// Another path, passed on as it is.
    Other,
}

impl Route {
    /// The operation that is called; none for a path that is passed on as it is.
    pub fn operation(self) -> Option<&'static Operation> {
        match self {
            Self::Unlock => Some(&UNLOCK),
            Self::Other => None,
        }
    }

    /// What its rules are named.
    const fn rules(self) -> &'static [Reason] {
        match self {
            Self::Unlock => head::EVER_REASONS,
            Self::Other => head::OTHER_PATH_REASONS,
        }
    }

    /// Judges a head by the rules that hold on the route in whichever mode.
    fn judge(self, head: &Head<'_>) -> Result<(), Reason> {
        match self {
            Self::Unlock => head.keeps(&head::EVER_RULES),
            Self::Other => head.keeps(&head::OTHER_PATH_RULES),
        }
    }
}

/// A call that broke no rule.
#[derive(Debug)]
pub struct Call {
    /// What n4n will be shown.
    pub credentials: Credentials,
    /// Which customer is to be unlocked.
    pub lookup: Lookup,
    /// The one body n4n may read.
    pub canonical_body: Bytes,
}

impl Policy {
    /// Finds the client's address, which [`Clients::judge`] judges; `peer` is the other end of the connection.
    ///
    /// # Errors
    /// `client_not_allowed`, where it cannot be read.
    pub fn client(&self, peer: IpAddr, head: &Head<'_>) -> Result<IpAddr, Reason> {
        self.clients.address(peer, head.fields).ok_or(Reason::ClientNotAllowed)
    }

    /// Tells whether a request is an unlock call, and judges one that is not.
    ///
    /// # Errors
    /// `path_unknown`, or `method_not_allowed` for CONNECT; for another path that may pass, `method_override` or
    /// `expectation_failed` too.
    pub fn route(&self, head: &Head<'_>) -> Result<Route, Reason> {
        let route = self.destination(head)?;
        route.judge(head)?;
        Ok(route)
    }

    /// Where a target leads.
    fn destination(&self, head: &Head<'_>) -> Result<Route, Reason> {
        match path::classify(head.target) {
            path::Class::Unlock { .. } => Ok(Route::Unlock),
            path::Class::Other if self.other_paths.let_pass(head) => Ok(Route::Other),
            path::Class::Other | path::Class::Disguised => Err(Reason::PathUnknown),
        }
    }

    /// Judges what an unlock call asks for, and finds its credentials.
    ///
    /// # Errors
    /// The first broken rule from `method_not_allowed` to `credential_malformed`.
    pub fn judge_head(&self, head: &Head<'_>) -> Result<Credentials, Reason> {
        head.keeps(&head::UNLOCK_RULES)?;
        Credentials::of(head.fields, self.legacy_credentials)
    }

    /// Judges who makes the call; `listed` has the rules of the user that its credentials name, if it is listed.
    ///
    /// # Errors
    /// `credential_unknown`, `user_disabled` or `user_network`.
    pub fn judge_user(
        &self,
        credentials: &Credentials,
        listed: Option<&UserRules>,
        client: IpAddr,
    ) -> Result<(), Reason> {
        self.access.judge(credentials, listed, client)
    }

    /// Judges whether the body that the head of a call declares is worth reading.
    ///
    /// # Errors
    /// `media_type_unsupported` or `body_too_large`.
    pub fn judge_declaration(&self, head: &Head<'_>) -> Result<(), Reason> {
        head.declaring_a_plain_form()?;
        head.with_length_up_to(self.max_body)
    }

    /// Judges the body of a call whose head has passed.
    ///
    /// # Errors
    /// The first broken rule from `body_too_large` to `lookup_invalid`.
    pub fn judge_body(&self, credentials: Credentials, body: &[u8]) -> Result<Call, Reason> {
        if body.len() > self.max_body {
            return Err(Reason::BodyTooLarge);
        }
        let lookup = Lookup::of(body, &self.patterns)?;
        let canonical_body = lookup.canonical_body();
        Ok(Call { credentials, lookup, canonical_body })
    }
}

#[cfg(test)]
mod tests;
