//! A client that speaks HTTP/2 over TLS, one stream at a time or several.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{API_KEY, API_USERNAME, DEADLINE, TlsClient, assert_unseen};

/// One connection.
pub(crate) struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Http2Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Http2Answer {
    /// The `code` of a problem document.
    pub(crate) fn code(&self) -> String {
        let problem: serde_json::Value =
            serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"));
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// A stream whose answer has not been read.
pub(crate) struct Exchange {
    answer: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
}

impl Http2 {
    pub(crate) fn connect(client: &TlsClient, address: SocketAddr, name: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, connection) = runtime.block_on(async {
            let mut config = client.config();
            config.alpn_protocols = vec![b"h2".to_vec()];
            let socket = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let stream = connector.connect(name, socket).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            (sender, tokio::spawn(connection))
        });
        Self { runtime, sender, connection }
    }

    /// The documented call, without its body.
    pub(crate) fn unlock(authority: &str) -> http::request::Builder {
        Request::patch(format!("https://{authority}/api/customer/unlock"))
            .header("api-key", API_KEY)
            .header("api-username", API_USERNAME)
            .header("content-type", "application/x-www-form-urlencoded")
    }

    /// Opens a stream with a request's head.
    pub(crate) fn open(&mut self, head: http::request::Builder, ends: bool) -> Result<Exchange, h2::Error> {
        let request = head.body(()).unwrap();
        let sender = self.sender.clone();
        let (answer, body) = self.runtime.block_on(async {
            let mut sender = timeout(DEADLINE, sender.ready()).await.unwrap()?;
            sender.send_request(request, ends)
        })?;
        Ok(Exchange { answer, body })
    }

    /// Reads the answer of a stream.
    pub(crate) fn answer(&mut self, exchange: Exchange) -> Result<Http2Answer, h2::Error> {
        self.runtime.block_on(async {
            timeout(DEADLINE, async {
                let (head, body) = exchange.answer.await?.into_parts();
                let body = whole(body).await?;
                if head.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json") {
                    assert_unseen("a problem document", format!("{:?}{body}", head.headers));
                }
                Ok(Http2Answer { status: head.status.as_u16(), headers: head.headers, body })
            })
            .await
            .unwrap()
        })
    }

    /// Sends a request with its body, and after it trailers, and reads the answer.
    pub(crate) fn call(
        &mut self,
        head: http::request::Builder,
        body: &[u8],
        trailers: Option<HeaderMap>,
    ) -> Result<Http2Answer, h2::Error> {
        let mut exchange = self.open(head, false)?;
        // In two pieces, so that more than one frame comes.
        let (first, second) = body.split_at(body.len() / 2);
        exchange.body.send_data(Bytes::copy_from_slice(first), false)?;
        exchange.body.send_data(Bytes::copy_from_slice(second), trailers.is_none())?;
        if let Some(trailers) = trailers {
            exchange.body.send_trailers(trailers)?;
        }
        self.answer(exchange)
    }

    /// Lets the connection go on while something is waited for.
    pub(crate) fn run_while<T: Send>(&mut self, wait: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let (waited, over) = oneshot::channel();
            scope.spawn(|| drop(waited.send(wait())));
            self.runtime.block_on(over).unwrap()
        })
    }

    /// Lets the connection go on for so long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        self.runtime.block_on(async { sleep(time).await });
    }

    /// How many streams the gateway lets be open at once.
    pub(crate) fn max_streams(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Lets go of a stream, and waits until that has been sent.
    pub(crate) fn reset(&mut self, mut exchange: Exchange) {
        exchange.body.send_reset(h2::Reason::CANCEL);
        drop(exchange);
        self.runtime.block_on(tokio::task::yield_now());
    }

    /// Waits until the gateway has ended the connection.
    pub(crate) fn wait_end(self) -> Result<(), h2::Error> {
        self.runtime.block_on(async {
            drop(self.sender);
            timeout(DEADLINE, self.connection).await.unwrap().unwrap()
        })
    }

    /// Whether it takes more streams, as far as the gateway has said.
    pub(crate) fn is_open(&mut self) -> bool {
        let asked = poll_fn(|cx| std::task::Poll::Ready(self.sender.poll_ready(cx)));
        self.runtime.block_on(async {
            tokio::task::yield_now().await;
            !matches!(asked.await, std::task::Poll::Ready(Err(_)))
        })
    }

    /// Waits until the gateway says that it takes no more streams.
    pub(crate) fn wait_refusal(&mut self) {
        self.runtime.block_on(async {
            timeout(DEADLINE, poll_fn(|cx| self.sender.poll_ready(cx).map(|ready| ready.err())))
                .await
                .unwrap();
        });
    }
}

async fn whole(mut body: RecvStream) -> Result<String, h2::Error> {
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        whole.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(String::from_utf8(whole).unwrap())
}
