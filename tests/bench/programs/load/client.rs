//! One connection: a call out, its whole answer in.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// No answer takes longer unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a run proves nothing.
#[derive(Debug)]
pub enum Fault {
    /// The connection failed.
    Connection(io::Error),
    /// The certificate cannot be used.
    Certificate(String),
    /// Another answer came than the one expected.
    Answer(String),
    /// A defect of this program's.
    Panic,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "the connection failed: {error}"),
            Self::Certificate(error) => write!(f, "the certificate cannot be used: {error}"),
            Self::Answer(answer) => write!(f, "not the answer that was expected: {answer}"),
            Self::Panic => f.write_str("a worker failed"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// Where calls go.
pub struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// A target, over TLS where there is a certificate to believe.
    pub fn new(address: SocketAddr, certificate: Option<&Path>) -> Result<Self, Fault> {
        let tls = certificate.map(config).transpose().map_err(Fault::Certificate)?;
        Ok(Self { address, tls })
    }

    /// Connects and, over TLS, shakes hands in full.
    pub fn connect(&self) -> Result<Client, Fault> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(socket),
            Some(tls) => {
                let name = ServerName::from(self.address.ip());
                let mut connection = ClientConnection::new(tls.clone(), name)
                    .map_err(|error| Fault::Certificate(error.to_string()))?;
                while connection.is_handshaking() {
                    connection.complete_io(&mut socket)?;
                }
                Box::new(StreamOwned::new(connection, socket))
            }
        };
        Ok(Client { stream, answer: Vec::with_capacity(4096) })
    }
}

fn config(certificate: &Path) -> Result<Arc<ClientConfig>, String> {
    let certificate =
        CertificateDer::from_pem_file(certificate).map_err(|error| format!("{certificate:?}: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| error.to_string())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each connection pays for its handshake.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A connection that is kept.
pub struct Client {
    stream: Box<dyn Stream>,
    answer: Vec<u8>,
}

impl Client {
    /// Sends a call and reads its answer, which must have this status and leave the connection open.
    pub fn call(&mut self, request: &[u8], expect: u16) -> Result<(), Fault> {
        self.stream.write_all(request)?;
        self.stream.flush()?;
        self.answer.clear();
        loop {
            let start = self.answer.len();
            self.answer.resize(start + 4096, 0);
            let read = self.stream.read(&mut self.answer[start..])?;
            self.answer.truncate(start + read);
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if is_whole(&self.answer, expect)? {
                return Ok(());
            }
        }
    }
}

/// Whether an answer is there whole; anything but the answer that is expected is a fault.
fn is_whole(bytes: &[u8], expect: u16) -> Result<bool, Fault> {
    let fault = || Fault::Answer(String::from_utf8_lossy(bytes).into_owned());
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|_| fault())? else {
        return Ok(false);
    };
    let value = |name: &str| {
        response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let closes = value("connection").is_some_and(|option| option.eq_ignore_ascii_case(b"close"));
    if response.code != Some(expect) || closes {
        return Err(fault());
    }
    let length =
        value("content-length").and_then(|length| str::from_utf8(length).ok()?.parse::<usize>().ok());
    match length.map(|length| (head + length).cmp(&bytes.len())) {
        Some(std::cmp::Ordering::Equal) => Ok(true),
        Some(std::cmp::Ordering::Greater) => Ok(false),
        Some(std::cmp::Ordering::Less) | None => Err(fault()),
    }
}
