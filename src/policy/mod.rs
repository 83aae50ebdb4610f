//! What may pass, in which order it is judged, and why not: no I/O, no clock, no state.
//!
//! A call is judged in two steps, because its body is read only once its head has passed:
//! [`Policy::judge_head`], then [`Policy::judge_body`]. Framing comes before both ([`framing`]); the
//! quota, which has state, comes after.

pub mod body;
pub mod credential;
pub mod fields;
pub mod framing;
pub mod head;
pub mod path;

use bytes::Bytes;
use regex::bytes::Regex;

use crate::reason::Reason;
pub use body::{Lookup, LookupKey};
pub use credential::{ApiKey, ApiUsername, Credentials};
pub use head::Head;

/// What to do with paths other than the unlock path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherPaths {
    /// Refuse them with `path_unknown`.
    Reject,
    /// Pass them on, unless they could be read as the unlock path.
    Forward,
}

/// The rules, as configured.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What becomes of other paths.
    pub other_paths: OtherPaths,
    /// The most bytes of body that are read.
    pub max_body: usize,
    /// What a lookup value must be, whole, once decoded.
    pub value_pattern: Regex,
    /// Whether `api_key` and `api_username` are accepted as well.
    pub legacy_credentials: bool,
}

/// Where a request that passed its head's rules goes.
#[derive(Debug)]
pub enum Route {
    /// An unlock call; its body is judged next.
    Unlock(Credentials),
    /// Another path, passed on as it is.
    Other,
}

/// A call that broke no rule.
#[derive(Debug)]
pub struct Call {
    /// Who calls.
    pub credentials: Credentials,
    /// Which customer is to be unlocked.
    pub lookup: Lookup,
    /// The one body n4n may read.
    pub canonical_body: Bytes,
}

impl Policy {
    /// Judges everything but the body.
    ///
    /// # Errors
    /// The first broken rule from `path_unknown` to `body_too_large`.
    pub fn judge_head(&self, head: &Head<'_>) -> Result<Route, Reason> {
        match (path::classify(head.target), self.other_paths) {
            (path::Class::Unlock { .. }, _) => {}
            (path::Class::Other, OtherPaths::Forward) => {
                head.without_method_override()?;
                head.without_rewritten_target()?;
                head.expecting_at_most_100_continue()?;
                return Ok(Route::Other);
            }
            (path::Class::Other, OtherPaths::Reject) | (path::Class::Disguised, _) => {
                return Err(Reason::PathUnknown);
            }
        }
        head.patching()?;
        head.without_method_override()?;
        head.without_query()?;
        head.expecting_at_most_100_continue()?;
        let credentials = Credentials::of(head.fields, self.legacy_credentials)?;
        head.declaring_a_plain_form()?;
        head.with_length_up_to(self.max_body)?;
        Ok(Route::Unlock(credentials))
    }

    /// Judges the body of a call whose head has passed.
    ///
    /// # Errors
    /// The first broken rule from `body_too_large` to `lookup_invalid`.
    pub fn judge_body(&self, credentials: Credentials, body: &[u8]) -> Result<Call, Reason> {
        if body.len() > self.max_body {
            return Err(Reason::BodyTooLarge);
        }
        let lookup = Lookup::of(body, &self.value_pattern)?;
        let canonical_body = lookup.canonical_body();
        Ok(Call { credentials, lookup, canonical_body })
    }
}

#[cfg(test)]
mod tests;
