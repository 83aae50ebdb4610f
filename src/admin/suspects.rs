//! Who asks for too many different customers, as the live page shows it.

use std::net::IpAddr;

use serde::Serialize;

use crate::{gateway::Live, telemetry::suspects};

/// A user who asked for too many.
#[derive(Serialize)]
pub(super) struct Suspect {
    /// When the last call was that was one too many.
    time: u64,
    client: Option<IpAddr>,
    name: Box<str>,
    is_listed: bool,
    count: u32,
    distinct: u32,
    per_ms: u64,
    is_refused: bool,
    times: u64,
}

impl Suspect {
    /// The suspect, with the time of its last call as the page has it.
    pub(super) fn at(time: u64, suspect: suspects::Suspect) -> Self {
        let suspects::Suspect { client, user, is_listed, suspicion, is_refused, times, .. } = suspect;
        Self {
            time,
            client,
            name: user,
            is_listed,
            count: suspicion.count,
            distinct: suspicion.limit.distinct.get(),
            per_ms: u64::try_from(suspicion.limit.per.as_millis()).unwrap_or(u64::MAX),
            is_refused,
            times,
        }
    }
}

/// Whether it is counted of anybody what they ask for.
pub(super) fn is_watching(live: &Live) -> bool {
    live.watchlist.is_some() || live.users.iter().any(|user| user.limit().is_some())
}
