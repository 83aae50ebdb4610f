//! The Redis server: how to connect to it, and whether workers have lost it.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, aio::MultiplexedConnection};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::Address;
use crate::lookup;

/// A Redis server, and how many workers' connections to it are down.
#[derive(Debug)]
pub struct Store {
    address: Address,
    tls: Option<Tls>,
    connections_down: AtomicUsize,
}

/// The CAs that the server's certificate must come from.
struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// Why Redis gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RedisFault {
    /// There is no connection to it.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// It would not, or broke off.
    #[error("{0}")]
    Refused(#[from] RedisError),
    /// It took too long.
    #[error("no answer in time")]
    Late,
}

/// What a connection's bytes go over.
trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

impl Store {
    /// The server at an address. Nothing is connected yet.
    pub fn at(address: Address) -> Self {
        let is_secure = matches!(address.info().addr(), ConnectionAddr::TcpTls { .. });
        Self { tls: is_secure.then(Tls::of_system), address, connections_down: AtomicUsize::new(0) }
    }

    /// Where it is.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Connects and logs in; the future drives the connection.
    pub(super) async fn connect(
        &self,
    ) -> Result<(MultiplexedConnection, impl Future<Output = ()> + Send + 'static), RedisFault> {
        let info = self.address.info();
        let transport = self.transport(info).await?;
        // Whoever asks a question has a deadline for it, and a shorter one.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        Ok(MultiplexedConnection::new_with_config(info.redis_settings(), transport, config).await?)
    }

    async fn transport(&self, info: &ConnectionInfo) -> io::Result<Box<dyn ByteStream>> {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => Ok(Box::new(tcp(host, *port).await?)),
            ConnectionAddr::TcpTls { host, port, .. } => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let Some(Tls(connector)) = &self.tls else {
                    return Err(io::ErrorKind::Unsupported.into());
                };
                Ok(Box::new(connector.connect(name, tcp(host, *port).await?).await?))
            }
            ConnectionAddr::Unix(path) => Ok(Box::new(unix(path).await?)),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Takes note that a connection is down; logs the first.
    pub(super) fn connection_down(&self, cause: &RedisFault) {
        if self.connections_down.fetch_add(1, Ordering::AcqRel) == 0 {
            tracing::warn!(
                redis = %self.address,
                %cause,
                "Redis fails; until it is back, quotas are judged as when_redis_fails says"
            );
        }
    }

    /// Takes note that a connection is up again; logs the last.
    pub(super) fn connection_up(&self) {
        if self.connections_down.fetch_sub(1, Ordering::AcqRel) == 1 {
            tracing::info!(redis = %self.address, "Redis is back; quotas are shared again");
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup::look_up(host, port).await?;
    let stream = TcpStream::connect(&addresses[..]).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

impl Tls {
    /// Believes who has a certificate from one of the system's CAs, or of those that SSL_CERT_FILE names.
    fn of_system() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a root certificate of the system cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for every safe version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }
}
