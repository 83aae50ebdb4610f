//! What goes upstream: the canonical call, or another path's request made the gateway's own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use pingora::{
    Error, ErrorType, OrErr, Result,
    http::RequestHeader,
    upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy},
};

use super::Request;
use crate::{
    config::Upstream,
    downstream::session::Body,
    gateway::Live,
    outcome::RequestId,
    policy::{Call, fields::fold_alike, framing::RequestHead, path},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("api-key");
const API_USERNAME: HeaderName = HeaderName::from_static("api-username");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Fields by which a client could claim to have been forwarded, in any spelling; the gateway alone may say so.
const CLAIMS: [&str; 8] = [
    "x-request-id",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
];

/// What frames a body, or asks for it.
const FRAMING: [HeaderName; 3] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT];

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
    pub(super) fn of(request: &Request) -> Self {
        Self {
            live: request.live.clone(),
            client: request.client,
            scheme: request.scheme,
            downstream_host: request.head.fields.get(header::HOST).cloned(),
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
        for name in &live.settings.forward_headers {
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

    /// A request that is passed on as it came, but for what the gateway says of it and for its framing, where its
    /// body is there already.
    ///
    /// # Errors
    /// None that a request could cause whose target [is a URI](RequestHead::uri).
    pub(super) fn passed_on(self, request: &RequestHead, body: &Body) -> Result<RequestHeader> {
        let uri = request.uri().map_err(|_| Error::explain(ErrorType::InvalidHTTPHeader, "a target"))?;
        let mut head = RequestHeader::build(request.method.clone(), b"/", Some(request.fields.len()))?;
        head.set_uri(uri);
        let mut appended = Ok(true);
        request.each_field(|name, value| {
            let is = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str());
            let is_left_out = is(&header::CONNECTION)
                || CLAIMS.iter().any(|claim| fold_alike(name, claim))
                || (matches!(body, Body::Whole(_)) && FRAMING.iter().any(is));
            if !is_left_out && appended.is_ok() {
                appended = head.append_header(name.to_owned(), value);
            }
        });
        appended?;
        if let Body::Whole(body) = body
            && (!body.is_empty() || request.fields.contains_key(header::CONTENT_LENGTH))
        {
            head.insert_header(header::CONTENT_LENGTH, body.len())?;
        }
        for (name, value) in self.introduction()?.into_iter().flatten() {
            head.insert_header(name, value)?;
        }
        Ok(head)
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
