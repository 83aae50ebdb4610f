//! A client that writes the bytes it is given and reads the answers strictly.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::http::{Broken, Message, MessageReader};
use super::{Call, DEADLINE};

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    reader: MessageReader<TcpStream>,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let reader = MessageReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    /// Writes bytes; that the other side has left shows when its answer is read.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Ends this side of the connection; answers still come.
    pub(crate) fn stop_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next answer, interim ones too.
    pub(crate) fn answer(&mut self) -> Message {
        self.try_answer().unwrap_or_else(|broken| panic!("no answer: {broken:?}"))
    }

    /// The next answer, or why there is none.
    pub(crate) fn try_answer(&mut self) -> Result<Message, Broken> {
        self.reader.answer()
    }

    /// The next answer, to a HEAD.
    pub(crate) fn answer_to_head(&mut self) -> Message {
        self.reader.answer_to_head().unwrap_or_else(|broken| panic!("no answer: {broken:?}"))
    }

    /// Sends a call and reads its answer.
    pub(crate) fn call(&mut self, call: &Call) -> Message {
        self.send(call.bytes());
        self.answer()
    }

    /// Sends a call and reads its answer, or why there is none.
    pub(crate) fn try_call(&mut self, call: &Call) -> Result<Message, Broken> {
        self.send(call.bytes());
        self.try_answer()
    }

    /// Asserts that the other side closes without another byte.
    pub(crate) fn assert_closes(&mut self) {
        match self.try_answer() {
            Err(Broken::Closed) => {}
            other => panic!("the connection should have been closed, but: {other:?}"),
        }
    }
}
