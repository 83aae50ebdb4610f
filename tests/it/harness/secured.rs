//! A gateway with a TLS listener, and the clients that believe its certificate.

use tempfile::TempDir;

use super::{Authority, Gateway, GatewayBuilder, Http2, TlsClient, Upstream, VALID};

/// The name that the listener's certificate is for.
pub(crate) const NAME: &str = "gateway.test";

/// A gateway with a TLS listener, its authority and its files: `a.pem` and `a.key`.
pub(crate) struct Secured {
    pub(crate) gateway: Gateway,
    pub(crate) authority: Authority,
    pub(crate) folder: TempDir,
}

impl Secured {
    /// A gateway before an upstream, with these lines more in its `[listen]`.
    pub(crate) fn before(upstream: &Upstream, listen: &str) -> Self {
        // They may end in sections of their own, so they come last.
        Self::listening(Gateway::before(upstream.address()), listen)
    }

    /// A gateway of this configuration.
    pub(crate) fn of(builder: GatewayBuilder) -> Self {
        Self::listening(builder, "")
    }

    fn listening(builder: GatewayBuilder, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.issue(&[NAME], VALID).write(folder.path(), "a");
        let path = folder.path().display();
        let https = format!(
            "https = [{{ address = \"127.0.0.1:0\", certificate = \"{path}/a.pem\", key = \"{path}/a.key\" }}]"
        );
        let gateway = builder.set("listen", &https).set("listen", more).start();
        Self { gateway, authority, folder }
    }

    /// A connection that speaks HTTP/2.
    pub(crate) fn connect(&self) -> Http2 {
        Http2::connect(&self.client(), self.gateway.https(), NAME)
    }

    /// What connects to it.
    pub(crate) fn client(&self) -> TlsClient {
        TlsClient::trusting(&self.authority, None)
    }
}
