//! Upstreams that record every byte they are sent and answer by a script.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::DEADLINE;
use super::http::{Message, MessageReader};

/// What the upstream does about one request.
pub(crate) enum Reply {
    /// Writes these bytes and keeps the connection.
    Bytes(Vec<u8>),
    /// Writes these bytes and closes.
    Last(Vec<u8>),
    /// Writes these bytes one by one, 50 ms apart.
    Drip(Vec<u8>),
    /// Writes these bytes and resets the connection.
    Reset(Vec<u8>),
    /// Writes the first bytes once and the second ones for as long as anybody takes them.
    Endless(Vec<u8>, Vec<u8>),
    /// Writes the first bytes, and the second ones, which nobody asked for, once the first gate is open; then opens
    /// the second.
    Unasked(Vec<u8>, Gate, Vec<u8>, Gate),
}

impl Reply {
    /// A whole answer with a JSON body.
    pub(crate) fn json(status: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}");
        Self::Bytes(format!("{head}\r\n\r\n{body}").into_bytes())
    }
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// A listener on loopback, with what it was sent.
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Seen {
    /// The bytes of each connection.
    connections: Vec<Vec<u8>>,
    /// How many of them have not ended.
    open: usize,
    requests: Vec<Message>,
}

impl Upstream {
    /// Answers `true` to everything.
    pub(crate) fn start() -> Self {
        Self::scripted(|_| Reply::json("200 OK", "true"))
    }

    /// Answers every request with these bytes.
    pub(crate) fn answering(answer: impl AsRef<[u8]>) -> Self {
        let answer = answer.as_ref().to_vec();
        Self::scripted(move |_| Reply::Bytes(answer.clone()))
    }

    /// Accepts and closes at once.
    pub(crate) fn closing_at_once() -> Self {
        Self::serving(|_, _| {})
    }

    /// One that answers `true` as soon as the gate is open.
    pub(crate) fn held_by(gate: &Gate) -> Self {
        let gate = gate.clone();
        Self::scripted(move |_| {
            gate.pass();
            Reply::json("200 OK", "true")
        })
    }

    /// Answers each request as the script tells.
    pub(crate) fn scripted(script: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        Self::serving(move |stream, shared| {
            if shared.converse(&mut *stream, &script) == End::Reset {
                set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
            }
        })
    }

    /// Answers as soon as the head of a request is there, and closes without having read its body.
    pub(crate) fn answering_the_head(answer: impl AsRef<[u8]>) -> Self {
        let answer = answer.as_ref().to_vec();
        Self::serving(move |stream, shared| {
            let connection = shared.open_connection();
            let mut tap = Tap { stream: &mut *stream, shared, connection };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && tap.read(&mut byte).is_ok_and(|read| read > 0) {
                head.extend_from_slice(&byte);
            }
            let _ = stream.write_all(&answer);
        })
    }

    /// Answers `true` to everything, under TLS; what it remembers is what came out of it.
    pub(crate) fn under_tls(config: Arc<ServerConfig>) -> Self {
        Self::serving(move |stream, shared| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = StreamOwned::new(session, stream);
            shared.converse(stream, &|_| Reply::json("200 OK", "true"));
        })
    }

    fn serving(serve: impl Fn(&mut TcpStream, &Shared) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let (accepting, serve) = (Arc::clone(&shared), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_nodelay(true).unwrap();
                let (shared, serve) = (Arc::clone(&accepting), Arc::clone(&serve));
                thread::spawn(move || {
                    let mut stream = stream;
                    serve(&mut stream, &shared);
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The whole requests so far, in the order in which they were complete.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.shared.seen.lock().unwrap().requests.clone()
    }

    /// How many whole requests have come so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().requests.len()
    }

    /// How many connections have been made so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.lock().unwrap().connections.len()
    }

    /// Waits until so many connections are open.
    pub(crate) fn wait_for_open(&self, count: usize) {
        let seen = self.shared.seen.lock().unwrap();
        let waited = self.shared.changed.wait_timeout_while(seen, DEADLINE, |seen| seen.open != count);
        let (seen, _) = waited.unwrap();
        assert_eq!(seen.open, count, "open connections");
    }

    /// Every byte so far, of all connections; what does not belong to a whole request is in here too.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.shared.seen.lock().unwrap().connections.concat()
    }

    /// Forgets what it was sent so far.
    pub(crate) fn forget(&self) {
        let mut seen = self.shared.seen.lock().unwrap();
        seen.requests.clear();
        seen.connections.iter_mut().for_each(|bytes| *bytes = Vec::new());
    }

    /// Waits for the request number `count`, from one; panics at the deadline.
    pub(crate) fn wait_for(&self, count: usize) -> Message {
        let seen = self.shared.seen.lock().unwrap();
        let waited =
            self.shared.changed.wait_timeout_while(seen, DEADLINE, |seen| seen.requests.len() < count);
        let (seen, _) = waited.unwrap();
        assert!(seen.requests.len() >= count, "{} of {count} requests came", seen.requests.len());
        seen.requests[count - 1].clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then lets go of the listener.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn open_connection(&self) -> usize {
        let connections = &mut self.seen.lock().unwrap().connections;
        connections.push(Vec::new());
        connections.len() - 1
    }

    /// Answers the requests of one connection as the script tells.
    fn converse(&self, stream: impl Read + Write, script: &dyn Fn(&Message) -> Reply) -> End {
        let connection = self.open_connection();
        let _open = Open::count(self);
        let mut reader = MessageReader::new(Tap { stream, shared: self, connection });
        while let Ok(request) = reader.request() {
            self.remember(request.clone());
            let stream = &mut reader.source().stream;
            let goes_on = match script(&request) {
                Reply::Bytes(bytes) => stream.write_all(&bytes).is_ok(),
                Reply::Last(bytes) => {
                    let _ = stream.write_all(&bytes);
                    false
                }
                Reply::Reset(bytes) => {
                    let _ = stream.write_all(&bytes);
                    return End::Reset;
                }
                Reply::Endless(first, then) => {
                    let mut written = stream.write_all(&first);
                    while written.is_ok() {
                        written = stream.write_all(&then);
                    }
                    false
                }
                Reply::Unasked(bytes, asked, unasked, done) => {
                    let mut written = stream.write_all(&bytes);
                    asked.pass();
                    written = written.and_then(|()| stream.write_all(&unasked));
                    done.open();
                    written.is_ok()
                }
                Reply::Drip(bytes) => bytes.iter().all(|byte| {
                    thread::sleep(Duration::from_millis(50));
                    stream.write_all(&[*byte]).is_ok()
                }),
            };
            if !goes_on {
                break;
            }
        }
        End::Close
    }

    fn remember(&self, request: Message) {
        self.seen.lock().unwrap().requests.push(request);
        self.changed.notify_all();
    }
}

/// A connection that is being served.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn count(shared: &'a Shared) -> Self {
        shared.seen.lock().unwrap().open += 1;
        shared.changed.notify_all();
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.seen.lock().unwrap().open -= 1;
        self.0.changed.notify_all();
    }
}

/// Records the bytes it lets through.
struct Tap<'a, S> {
    stream: S,
    shared: &'a Shared,
    connection: usize,
}

impl<S: Read> Read for Tap<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.shared.seen.lock().unwrap().connections[self.connection].extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

/// Holds scripts back until the test opens it.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.shared.0.lock().unwrap() = true;
        self.shared.1.notify_all();
    }

    pub(crate) fn pass(&self) {
        let open = self.shared.0.lock().unwrap();
        let (open, _) = self.shared.1.wait_timeout_while(open, DEADLINE, |open| !*open).unwrap();
        assert!(*open, "the gate was never opened");
    }
}

/// An address of loopback that refuses connections for as long as the returned guard lives.
pub(crate) fn refusing_address() -> (SocketAddr, impl Sized) {
    // The near end of a connection has a port that nobody listens on and nobody else can be given.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (connection.local_addr().unwrap(), (listener, connection))
}

/// An address of loopback that neither accepts nor refuses for as long as the returned guard lives.
pub(crate) fn silent_address() -> (SocketAddr, impl Sized) {
    // Once the queue of a listener that accepts nothing is full, the system drops what else comes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let patience = Duration::from_millis(200);
    let queue: Vec<TcpStream> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&address, patience).ok()).take(10_000).collect();
    (address, (listener, queue))
}
