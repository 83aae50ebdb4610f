//! Fields that say where a request came from (RFC 7239, and the names used before it).

/// Fields by which a client could claim to have been forwarded, in any spelling; the gateway alone may say so.
pub const FORWARDING: [&str; 8] = [
    "x-request-id",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
];
