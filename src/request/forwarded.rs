//! The forwarding fields: what the gateway says of a request's origin, and which of the client's own are dropped.

use std::net::IpAddr;

use super::Request;
use crate::{
    outcome::RequestId,
    wire::{claims, fields::is_same},
};

/// Where a request came from, as the gateway knows it.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// The Host that goes upstream.
    pub upstream_host: &'a str,
    /// The Host it was sent to.
    pub host: Option<&'a [u8]>,
    /// Whose request it is.
    pub client: IpAddr,
    /// `http` or `https`, as it came in.
    pub scheme: &'a str,
    /// Which request it is.
    pub id: RequestId,
}

impl<'a> Forwarded<'a> {
    /// What there is to say of a request.
    pub fn of(request: &'a Request) -> Self {
        Self {
            upstream_host: &request.live.settings.upstream.host,
            host: request.head.fields().first("host"),
            client: request.client,
            scheme: request.scheme,
            id: request.id,
        }
    }

    /// The fields that every forwarded request has, each name in the spelling in which it goes out.
    pub fn each(&self, mut field: impl FnMut(&'static str, &[u8])) {
        field("Host", self.upstream_host.as_bytes());
        field("x-request-id", self.id.encode(&mut [0; RequestId::LENGTH]).as_bytes());
        field("x-forwarded-for", self.client.to_string().as_bytes());
        field("x-forwarded-proto", self.scheme.as_bytes());
        if let Some(host) = self.host {
            field("x-forwarded-host", host);
        }
    }
}

/// Whether a field of the client's is dropped, since only the gateway says such things.
pub fn is_replaced(name: &[u8]) -> bool {
    is_same(name, "host") || claims::ORIGIN.have(name)
}
