//! HTTP/2: several calls at a time over each connection.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderValue, Method, Request};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, runtime, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    Arguments, Plan, SAMPLE_KEY,
    client::{Fault, PATIENCE, check, tls},
};

/// Room for many answers on a connection before the server has to hear that they were read.
const WINDOW: u32 = 1 << 20;

/// All from one thread; how long all of it took, and each call.
pub fn run(
    arguments: &Arguments,
    certificate: &Path,
    streams: usize,
) -> Result<(Duration, Vec<Duration>), Fault> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut tls = tls(certificate)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(tls));
        let mut connections = Vec::new();
        for _ in 0..arguments.connections {
            connections.push(connect(arguments, &tls).await?);
        }
        let plan = Arc::new(Plan::begin(arguments));
        let calls = Arc::new(Calls::new(arguments)?);
        let mut workers = JoinSet::new();
        for connection in &connections {
            for _ in 0..streams {
                workers.spawn(work(connection.clone(), plan.clone(), calls.clone()));
            }
        }
        let mut latencies = Vec::new();
        while let Some(worker) = workers.join_next().await {
            latencies.append(&mut worker.map_err(|_| Fault::Panic)??);
        }
        Ok((plan.start.elapsed(), latencies))
    })
}

/// A connection on which HTTP/2 was agreed; what becomes of it its calls find out.
async fn connect(arguments: &Arguments, tls: &TlsConnector) -> Result<SendRequest<Bytes>, Fault> {
    let socket = TcpStream::connect(arguments.target).await?;
    socket.set_nodelay(true)?;
    let stream = tls.connect(ServerName::from(arguments.target.ip()), socket).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Fault::Answer("another protocol than HTTP/2".to_owned()));
    }
    let mut builder = Builder::new();
    builder.enable_push(false).initial_connection_window_size(WINDOW);
    let (sender, connection) = builder.handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// The calls that are sent, and the answer that each must have.
struct Calls {
    request: Request<()>,
    body: Bytes,
    user: String,
    users: u64,
    expect: u16,
}

impl Calls {
    fn new(arguments: &Arguments) -> Result<Self, Fault> {
        let Arguments { target, path, user, users, agent, body, expect, .. } = arguments;
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("https://{target}{path}"))
            .header("user-agent", agent)
            .header("accept", "application/json")
            .header("api-key", SAMPLE_KEY)
            .header("api-username", user)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("content-length", body.len())
            .body(())
            .map_err(|error| Fault::Request(error.to_string()))?;
        let body = Bytes::from(body.clone());
        Ok(Self { request, body, user: user.clone(), users: *users, expect: *expect })
    }

    fn numbered(&self, number: u64) -> Request<()> {
        let mut request = self.request.clone();
        if self.users > 1 {
            let user = format!("{}{}", self.user, number % self.users);
            let user =
                HeaderValue::try_from(user).expect("a user's name with digits behind it is one as well");
            request.headers_mut().insert("api-username", user);
        }
        request
    }

    /// Sends a call and reads its answer whole.
    async fn send(&self, sender: SendRequest<Bytes>, number: u64) -> Result<(), Fault> {
        let mut sender = sender.ready().await?;
        let (answer, mut stream) = sender.send_request(self.numbered(number), false)?;
        stream.send_data(self.body.clone(), true)?;
        let answer = answer.await?;
        let status = answer.status().as_u16();
        let mut pieces = answer.into_body();
        let mut body = Vec::new();
        while let Some(piece) = pieces.data().await {
            let piece = piece?;
            pieces.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        check(status, &body, self.expect)
    }
}

/// Sends one call after the other and tells how long each took.
async fn work(
    sender: SendRequest<Bytes>,
    plan: Arc<Plan>,
    calls: Arc<Calls>,
) -> Result<Vec<Duration>, Fault> {
    let mut latencies = Vec::new();
    while let Some((number, due)) = plan.take() {
        timeout(PATIENCE, calls.send(sender.clone(), number)).await.map_err(|_| Fault::Silence)??;
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}
