//! What goes upstream: the canonical call, or another path's request made the gateway's own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use pingora::{
    ErrorType, OrErr, Result,
    http::RequestHeader,
    proxy::Session,
    upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy},
};

use super::{REQUEST_ID, Request};
use crate::{
    config::Upstream,
    gateway::Live,
    outcome::RequestId,
    policy::{Call, fields::fold_alike, path},
};

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const API_USERNAME: HeaderName = HeaderName::from_static("api-username");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// The caller's own fields that are forwarded with an unlock call.
const FORWARDED: [HeaderName; 5] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Fields by which a client could claim to have been forwarded; the gateway alone may say so.
const CLAIMS: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
];

/// The peer at an address, to be connected to within so long, with the other limits as configured.
pub(crate) fn peer(
    address: SocketAddr,
    upstream: &Upstream,
    generation: u64,
    connect_within: Duration,
) -> HttpPeer {
    let mut peer = match &upstream.tls {
        Some(tls) => tls.trust.peer(address, generation),
        None => HttpPeer::new(address, false, String::new()),
    };
    let options = &mut peer.options;
    options.connection_timeout = Some(connect_within);
    options.total_connection_timeout = Some(connect_within);
    options.read_timeout = Some(upstream.response_timeout);
    options.write_timeout = Some(upstream.response_timeout);
    options.idle_timeout = Some(upstream.idle_timeout);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    peer
}

/// What the gateway says of where a request came from.
pub struct Forwarding {
    /// The settings that name the upstream's host.
    pub live: Arc<Live>,
    /// Whose request it is.
    pub client: IpAddr,
    /// `http` or `https`, as it came in.
    pub scheme: &'static str,
    /// The Host it was sent to.
    pub downstream_host: Option<HeaderValue>,
    /// Which request it is.
    pub request_id: RequestId,
}

impl Forwarding {
    pub(super) fn of(request: &Request, session: &Session) -> Self {
        Self {
            live: request.live.clone(),
            client: request.client,
            scheme: request.scheme,
            downstream_host: session.req_header().headers.get(header::HOST).cloned(),
            request_id: request.id,
        }
    }

    /// The one form in which a call reaches n4n.
    ///
    /// # Errors
    /// None that a judged call could cause.
    pub fn canonical(self, call: &Call, original: &HeaderMap) -> Result<RequestHeader> {
        let live = self.live.clone();
        // Made of http's own parts, because Pingora's header keeps and parses every name twice, for its case.
        let mut fields = HeaderMap::with_capacity(16);
        for (name, value) in self.introduction()?.into_iter().flatten() {
            fields.insert(name, value);
        }
        let credentials = &call.caller.credentials;
        fields.insert(API_KEY, credentials.key.as_value().clone());
        fields.insert(API_USERNAME, credentials.username.as_value().clone());
        fields.insert(header::CONTENT_TYPE, FORM);
        fields.insert(header::CONTENT_LENGTH, call.canonical_body.len().into());
        for name in FORWARDED.iter().chain(&live.settings.forward_headers) {
            for value in original.get_all(name) {
                fields.append(name.clone(), value.clone());
            }
        }
        let (mut canonical, ()) = http::Request::new(()).into_parts();
        canonical.method = Method::PATCH;
        canonical.uri = Uri::from_static(path::UNLOCK);
        canonical.version = Version::HTTP_11;
        canonical.headers = fields;
        Ok(canonical.into())
    }

    /// Makes a call that passes as it came speak for the gateway, with a body of known length.
    pub(super) fn reframe(self, upstream: &mut RequestHeader, length: usize) -> Result<()> {
        upstream.remove_header(&header::TRANSFER_ENCODING);
        upstream.remove_header(&header::EXPECT);
        if length > 0 || upstream.headers.contains_key(header::CONTENT_LENGTH) {
            upstream.insert_header(header::CONTENT_LENGTH, length)?;
        }
        self.amend(upstream)
    }

    /// Makes another path's request speak for the gateway.
    pub(super) fn amend(self, upstream: &mut RequestHeader) -> Result<()> {
        let claims: Vec<_> = upstream
            .headers
            .keys()
            .filter(|name| CLAIMS.iter().any(|claim| fold_alike(name.as_str(), claim)))
            .cloned()
            .collect();
        for claim in claims {
            upstream.remove_header(&claim);
        }
        let target = String::from_utf8_lossy(upstream.raw_path()).into_owned();
        upstream.set_raw_path(path::origin_form(&target).as_bytes())?;
        for (name, value) in self.introduction()?.into_iter().flatten() {
            upstream.insert_header(name, value)?;
        }
        Ok(())
    }

    /// The fields that every forwarded request has.
    fn introduction(self) -> Result<[Option<(HeaderName, HeaderValue)>; 5]> {
        let value = |text: &str| {
            HeaderValue::from_str(text).or_err(ErrorType::InvalidHTTPHeader, "a value of the gateway's own")
        };
        Ok([
            Some((header::HOST, value(&self.live.settings.upstream.host)?)),
            Some((REQUEST_ID, value(self.request_id.encode(&mut [0; 36]))?)),
            Some((FORWARDED_FOR, value(&self.client.to_string())?)),
            Some((FORWARDED_PROTO, HeaderValue::from_static(self.scheme))),
            self.downstream_host.map(|host| (FORWARDED_HOST, host)),
        ])
    }
}
