//! The live page: its files, its stream of events, and whom it answers.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;

use super::View;

/// How many may watch at once: more than an operator's team, fewer than would cost anything.
const MAX_WATCHERS: usize = 64;

/// Every answer of the page carries these.
const PROTECTION: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    // A proxy that compressed the stream would hold it back.
    ("cache-control", "no-store, no-transform"),
];

/// The page's routes.
pub(super) fn routes(view: View) -> Router<View> {
    let file = |content_type: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, content_type)], text) })
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page.html")))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("page.css")))
        .route("/page.js", file("text/javascript; charset=utf-8", include_str!("page.js")))
        .route("/icon.svg", file("image/svg+xml", include_str!("icon.svg")))
        .route("/events", get(events))
        .route_layer(middleware::from_fn_with_state(view, guard))
}

/// Answers only to names of the gateway's own: a foreign name that was made to resolve here would let that
/// name's owner read the page from a browser (DNS rebinding).
async fn guard(State(view): State<View>, request: Request, next: Next) -> Response {
    let is_own = is_own(request.headers(), &view.gateway.live().settings.listen.admin_hosts);
    let answer = if is_own {
        next.run(request).await
    } else {
        let text = "This page answers to IP addresses, localhost and the names in listen.admin_hosts.\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    };
    (PROTECTION, answer).into_response()
}

fn is_own(headers: &HeaderMap, admin_hosts: &[String]) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_named = |own: &str| name.eq_ignore_ascii_case(own);
    !host.as_str().contains('@')
        && (address.parse::<IpAddr>().is_ok()
            || is_named("localhost")
            || admin_hosts.iter().any(|own| is_named(own)))
}

/// Every event from now on, beginning with the present one. Who reads slowly misses some.
async fn events(State(view): State<View>) -> Response {
    if view.events.receiver_count() >= MAX_WATCHERS.min(view.gateway.live().shares.admin / 2) {
        return (StatusCode::SERVICE_UNAVAILABLE, "Too many are watching.\n").into_response();
    }
    let mut events = view.events.subscribe();
    events.mark_changed();
    let events = stream::unfold(events, |mut events| async move {
        events.changed().await.ok()?;
        let event = events.borrow_and_update().clone();
        Some((Ok::<_, Infallible>(event), events))
    });
    let fields = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // nginx, and who follows it, then passes each event on at once.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (fields, Body::from_stream(events)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_answered() {
        let admin_hosts = ["gateway.internal".to_owned()];
        let asked = |hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            is_own(&headers, &admin_hosts)
        };
        for own in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "[::1]",
            "[::1]:9464",
            "10.1.2.3:80",
            "localhost:9464",
            "LocalHost",
            "gateway.internal",
            "Gateway.Internal:9464",
        ] {
            assert!(asked(&[own]), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "gateway.internal.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "",
            "[::1",
            "localhost, evil.example",
        ] {
            assert!(!asked(&[foreign]), "{foreign}");
        }
        assert!(!asked(&[]));
        assert!(!asked(&["localhost", "localhost"]));
    }
}
