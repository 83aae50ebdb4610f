//! One HTTP/1.1 connection: a call out, its whole answer in.

use std::{
    cmp::Ordering,
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
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why a run proves nothing.
#[derive(Debug)]
pub enum Fault {
    /// The connection failed.
    Connection(io::Error),
    /// HTTP/2 broke, on a stream or as a whole.
    Http2(h2::Error),
    /// No answer came in time.
    Silence,
    /// The certificate cannot be used.
    Certificate(String),
    /// The arguments make no request.
    Request(String),
    /// Another answer came than the one expected.
    Answer(String),
    /// A defect of this program's.
    Panic,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "the connection failed: {error}"),
            Self::Http2(error) => write!(f, "HTTP/2 failed: {error}"),
            Self::Silence => write!(f, "no answer came within {} s", PATIENCE.as_secs()),
            Self::Certificate(error) => write!(f, "the certificate cannot be used: {error}"),
            Self::Request(error) => write!(f, "the arguments make no request: {error}"),
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

impl From<h2::Error> for Fault {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
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
        Ok(Self { address, tls: certificate.map(tls).transpose()?.map(Arc::new) })
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

/// TLS that believes one certificate and resumes no session.
pub fn tls(certificate: &Path) -> Result<ClientConfig, Fault> {
    config(certificate).map_err(Fault::Certificate)
}

fn config(certificate: &Path) -> Result<ClientConfig, String> {
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
    Ok(config)
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
        Some(Ordering::Equal) => check(expect, &bytes[head..], expect).map(|()| true),
        Some(Ordering::Greater) => Ok(false),
        Some(Ordering::Less) | None => Err(fault()),
    }
}

/// Whether an answer is the one that is expected: n4n's `true`, or a refusal with the status foreseen.
pub fn check(status: u16, body: &[u8], expect: u16) -> Result<(), Fault> {
    if status == expect && (expect != 200 || body == b"true") {
        return Ok(());
    }
    Err(Fault::Answer(format!("{status} {}", String::from_utf8_lossy(body))))
}
