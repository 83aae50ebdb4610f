//! HTTP/2 frame by frame, for clients that keep to no rule.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{API_KEY, API_USERNAME, NAME, TlsClient};

/// The types of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags of HEADERS, DATA and CONTINUATION.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One connection under TLS on which frames are written as they are.
pub(crate) struct Frames {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Frames {
    /// A connection that has greeted; its streams' windows are open so far.
    pub(crate) fn connect(client: &TlsClient, address: SocketAddr, window: u32) -> Self {
        let mut config = client.config();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(NAME).unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut frames = Self { stream: StreamOwned::new(session, socket) };
        let initial_window = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        let greeting = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &initial_window)];
        frames.send(&greeting.concat()).unwrap();
        frames
    }

    /// Writes bytes; what the other side says meanwhile is not read.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Reads and drops what has come.
    pub(crate) fn read(&mut self) -> io::Result<()> {
        self.stream.sock.set_read_timeout(Some(Duration::from_millis(1)))?;
        match self.stream.read(&mut [0; 64 * 1024]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The documented call's fields in HPACK, none of them kept.
pub(crate) fn unlock_fields() -> Vec<u8> {
    // `:scheme` is `https` by its number; the others have their name by number, or spelt out.
    let mut block = vec![0x87];
    for (name, value) in [(2, "PATCH"), (4, "/api/customer/unlock"), (1, NAME)] {
        block.push(name);
        block.extend(text(value));
    }
    for (name, value) in [
        ("api-key", API_KEY),
        ("api-username", API_USERNAME),
        ("content-type", "application/x-www-form-urlencoded"),
    ] {
        block.push(0);
        block.extend(text(name));
        block.extend(text(value));
    }
    block
}

/// A field that the other side is not to keep.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// A field that the other side is to keep; from then on [`KEPT`] stands for it.
pub(crate) fn kept_field(name: &str, value: &str) -> Vec<u8> {
    [vec![0x40], text(name), text(value)].concat()
}

/// The field kept last.
pub(crate) const KEPT: u8 = 0x80 | 62;

/// A string of HPACK.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len() {
        short @ ..127 => bytes.push(short as u8),
        long => {
            bytes.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                bytes.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
