//! The stand-in over real sockets.

mod answers;
mod connections;
mod misbehaviour;

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

/// Longer than any answer takes here.
const LONG: Duration = Duration::from_secs(30);
/// Long enough to see that an answer does not come.
const SHORT: Duration = Duration::from_millis(50);

const OK: &str = "200 OK";
const NOT_LOCKED: &str = r#"{"result":"Error","message":"Customer is not locked"}"#;
const NOT_FOUND: &str = r#"{"result":"Error","message":"Customer not found"}"#;
const NO_LOOKUP: &str =
    r#"{"result":"Error","message":"One of customer_id, subscription_id and orderid is required"}"#;
const NOT_ALLOWED: &str = r#"{"result":"Error","message":"Invalid api-username or api-key"}"#;
const WRONG_METHOD: &str = r#"{"result":"Error","message":"Method not allowed"}"#;

async fn start() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener));
    address
}

fn credentials() -> String {
    format!("api-username: {SAMPLE_USERNAME}\r\napi-key: {SAMPLE_KEY}\r\n")
}

/// An unlock call with the sample credentials and these further field lines.
fn call_with(fields: &str, body: &str) -> String {
    let (credentials, length) = (credentials(), body.len());
    format!(
        "PATCH /api/customer/unlock HTTP/1.1\r\nHost: n4n\r\n{credentials}Content-Length: {length}\r\n{fields}\r\n{body}"
    )
}

fn call(body: &str) -> String {
    call_with("", body)
}

async fn connect(address: SocketAddr, request: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    stream
}

/// All that comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the stand-in closes")?;
    Ok(bytes)
}

/// All that comes for a request, after which the client has nothing more to say.
async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = connect(address, request).await;
    stream.shutdown().await.unwrap();
    String::from_utf8_lossy(&rest(&mut stream).await.unwrap()).into_owned()
}

/// Status and body of the one answer for a request.
async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> (String, String) {
    let answer = exchange(address, request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).unwrap();
    (status.to_owned(), body.to_owned())
}
