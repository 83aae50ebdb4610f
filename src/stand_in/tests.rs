use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::request::MAX_BODY;
use super::wire::MAX_HEAD;
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

#[tokio::test]
async fn the_documented_call_is_answered_with_true() {
    let address = start().await;
    for _ in 0..2 {
        assert_eq!(
            exchange(address, call("customer_id=191")).await,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntrue"
        );
    }
}

#[tokio::test]
async fn a_lock_is_lifted_once_whatever_the_customer_is_looked_up_by() {
    let address = start().await;
    for (body, want) in [
        ("customer_id=191", "true"),
        ("subscription_id=5191", "true"),
        ("orderid=90191", "true"),
        ("orderid=90291", "true"),
        ("orderid=90192", "true"),
        ("customer_id=192", NOT_LOCKED),
        ("subscription_id=5192", NOT_LOCKED),
        ("subscription_id=5193", "true"),
        ("customer_id=193", NOT_LOCKED),
        ("customer_id=194", NOT_LOCKED),
        ("orderid=90295", NOT_LOCKED),
        ("customer_id=5191", NOT_FOUND),
        ("subscription_id=191", NOT_FOUND),
        ("orderid=191", NOT_FOUND),
        ("customer_id=slow-soon", NOT_FOUND),
        ("customer_id=Fail", NOT_FOUND),
        ("orderid=fail", NOT_FOUND),
    ] {
        assert_eq!(ask(address, call(body)).await, (OK.into(), want.into()), "{body}");
    }
}

#[tokio::test]
async fn a_body_is_read_as_php_reads_it() {
    let address = start().await;
    let (missing, known) = (("400 Bad Request", NO_LOOKUP), (OK, "true"));
    for (body, want) in [
        ("customer.id=191", known),
        ("+customer%5Fid=%3191", known),
        ("customer_id=7&customer[id=191", known),
        ("customer_id=191&customer_id=7", (OK, NOT_FOUND)),
        ("customer_id[]=7&customer_id=191", known),
        ("customer_id=191&customer_id[]=7", missing),
        ("customer_id=7;customer_id=191", (OK, NOT_FOUND)),
        ("orderid=7&customer_id=191", known),
        ("customer_id=&subscription_id=5191", known),
        ("customer_id=0&subscription_id[]=5&orderid=90191", known),
        ("Customer_id=191", missing),
        ("{\"customer_id\":191}", missing),
        ("customer_id=", missing),
        ("", missing),
    ] {
        let (status, answer) = ask(address, call_with("Content-Type: text/plain\r\n", body)).await;
        assert_eq!((status.as_str(), answer.as_str()), want, "{body}");
    }
}

#[tokio::test]
async fn fields_are_read_as_cgi_hands_them_on() {
    let address = start().await;
    let (refused, known) = (("401 Unauthorized", NOT_ALLOWED), (OK, "true"));
    let (name, key) = (SAMPLE_USERNAME, SAMPLE_KEY);
    for (fields, want) in [
        (format!("api-username: {name}\r\napi-key: {key}\r\n"), known),
        (format!("API_USERNAME:{name}\r\nApi.Key:  {key} \r\n"), known),
        (format!("api-username: {name}\r\napi-key: {key}\r\napi_key: {key}\r\n"), refused),
        (format!("api-username: {name}\r\napi-username: {name}\r\napi-key: {key}\r\n"), refused),
        (format!("api-username: {name}\r\napi-key: {key}0\r\n"), refused),
        (format!("api-username: N4N_ADMIN\r\napi-key: {key}\r\n"), refused),
        (format!("api-username: {name}\r\n"), refused),
        (format!("api-key: {key}\r\n"), refused),
        (String::new(), refused),
    ] {
        let request = format!(
            "PATCH /api/customer/unlock HTTP/1.1\r\nContent-Length: 15\r\n{fields}\r\ncustomer_id=191"
        );
        let (status, body) = ask(address, request).await;
        assert_eq!((status.as_str(), body.as_str()), want, "{fields}");
    }
}

#[tokio::test]
async fn path_and_method_decide_before_anything_else() {
    let address = start().await;
    let wrong_method = "405 Method Not Allowed";
    for (line, fields, want) in [
        ("PATCH /api/customer/unlock", "", OK),
        ("PATCH /api/customer/unlock?customer_id=7", "", OK),
        ("PATCH http://n4n/api/customer/unlock", "", OK),
        ("POST /api/customer/unlock", "X-HTTP-Method: PATCH\r\n", OK),
        ("POST /api/customer/unlock", "X_HTTP_METHOD_OVERRIDE: patch\r\n", OK),
        ("POST /api/customer/unlock", "X-Method-Override: PATCH\r\n", OK),
        ("POST /api/customer/unlock", "X-HTTP-Method: DELETE\r\n", wrong_method),
        ("POST /api/customer/unlock", "", wrong_method),
        ("GET /api/customer/unlock", "X-HTTP-Method: PATCH\r\n", wrong_method),
        ("patch /api/customer/unlock", "", wrong_method),
        ("PATCH /api/customer/unlock/", "", "404 Not Found"),
        ("PATCH /API/customer/unlock", "", "404 Not Found"),
        ("PATCH /", "", "404 Not Found"),
        ("GET /favicon.ico", "", "404 Not Found"),
        ("GET /", "", OK),
        ("GET http://n4n", "", OK),
    ] {
        let credentials = credentials();
        let request =
            format!("{line} HTTP/1.1\r\nContent-Length: 15\r\n{credentials}{fields}\r\ncustomer_id=191");
        let (status, body) = ask(address, request).await;
        assert_eq!(status, want, "{line} {fields}");
        assert_eq!(body == "true", want == OK && !line.starts_with("GET"), "{line} {fields}");
        assert_eq!(body == WRONG_METHOD, want == wrong_method, "{line} {fields}");
    }
}

#[tokio::test]
async fn a_head_request_is_answered_without_a_body() {
    let answer = exchange(start().await, "HEAD / HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn every_framing_of_a_body_is_read() {
    let address = start().await;
    let huge = MAX_BODY + 1;
    for (fields, body, want) in [
        ("Content-Length: 15", "customer_id=191".to_owned(), OK),
        ("Content-Length: 15\r\nContent-Length: 15", "customer_id=191".to_owned(), OK),
        ("Transfer-Encoding: chunked", "f\r\ncustomer_id=191\r\n0\r\n\r\n".to_owned(), OK),
        ("Transfer-Encoding: Chunked", "5;a=b\r\ncusto\r\nA\r\nmer_id=191\r\n0\r\nX: y\r\n\r\n".into(), OK),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", "f\r\ncustomer_id=191\r\n0\r\n\r\n".into(), OK),
        ("Content-Length: 15\r\nContent-Length: 16", String::new(), "400 Bad Request"),
        ("Content-Length: +15", String::new(), "400 Bad Request"),
        ("Content-Length:", String::new(), "400 Bad Request"),
        ("Content-Length: 1048577", String::new(), "413 Payload Too Large"),
        ("Content-Length: 99999999999999999999999", String::new(), "413 Payload Too Large"),
        ("Transfer-Encoding: gzip, chunked", String::new(), "501 Not Implemented"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", String::new(), "501 Not Implemented"),
        ("Transfer-Encoding: chunked", "g\r\n".to_owned(), "400 Bad Request"),
        ("Transfer-Encoding: chunked", "1\r\nabc\r\n".to_owned(), "400 Bad Request"),
        ("Transfer-Encoding: chunked", format!("{huge:x}\r\n"), "413 Payload Too Large"),
        ("Transfer-Encoding: chunked", "ffffffffffffffff\r\n".to_owned(), "413 Payload Too Large"),
        ("Transfer-Encoding: chunked", "0\r\n:\r\n\r\n".to_owned(), "400 Bad Request"),
    ] {
        let credentials = credentials();
        let request = format!("PATCH /api/customer/unlock HTTP/1.1\r\n{credentials}{fields}\r\n\r\n{body}");
        assert_eq!(ask(address, request).await.0, want, "{fields} {body}");
    }
}

#[tokio::test]
async fn head_and_body_are_bounded() {
    let address = start().await;
    let padded = |size| {
        let bare = "GET / HTTP/1.1\r\nA: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(size - bare))
    };
    let many_fields = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(257));
    let body = format!("customer_id=191&{}", "a".repeat(MAX_BODY - 16));
    let chunk = "1000\r\n".to_owned() + &"a".repeat(4096) + "\r\n";
    let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &chunk.repeat(257);
    let too_large = "431 Request Header Fields Too Large";
    for (name, request, want) in [
        ("a head as long as may be", padded(MAX_HEAD), OK),
        ("a byte more", padded(MAX_HEAD + 1), too_large),
        ("too many fields", many_fields, too_large),
        ("a body as long as may be", call(&body), OK),
        ("chunks without end", chunks, "413 Payload Too Large"),
    ] {
        assert_eq!(ask(address, request).await.0, want, "{name}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_get_a_400_and_a_close() {
    let address = start().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\napi-key\x00: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    ] {
        let mut stream = connect(address, bytes).await;
        let answer = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let address = start().await;
    let requests = call("customer_id=193") + &call("customer_id=7") + &call("customer_id=193");
    let order = ["true", NOT_FOUND, NOT_LOCKED];
    let in_order = |answer: &str| {
        let bodies = answer.split("HTTP/1.1 200 OK").skip(1).filter_map(|one| one.split("\r\n\r\n").nth(1));
        bodies.collect::<Vec<_>>() == order
    };
    let answer = exchange(address, &requests).await;
    assert!(in_order(&answer), "{answer}");

    // Byte by byte, to another one that remembers nothing of the first.
    let address = start().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in requests.bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.unwrap();
    let answer = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
    assert!(in_order(&answer), "{answer}");
}

#[tokio::test]
async fn the_connection_ends_when_the_client_says_so() {
    let address = start().await;
    let http10 = call("customer_id=191").replace("HTTP/1.1", "HTTP/1.0");
    for request in [call_with("Connection: x, Close\r\n", "customer_id=191"), http10] {
        let mut stream = connect(address, &request).await;
        let answer = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
        assert!(answer.contains("\r\nConnection: close\r\n\r\ntrue"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_held_back_is_asked_for() {
    let address = start().await;
    let request = call_with("Expect: 100-continue\r\n", "customer_id=191");
    let (head, body) = request.split_at(request.len() - "customer_id=191".len());
    let mut stream = connect(address, head).await;
    let mut interim = [0; 25];
    timeout(LONG, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\ntrue"), "{answer}");

    let too_large = head.replace("Content-Length: 15", "Content-Length: 1048577");
    assert_eq!(ask(address, too_large).await.0, "413 Payload Too Large");
}

#[tokio::test]
async fn a_customer_id_can_ask_for_a_broken_answer() {
    let address = start().await;
    for (customer_id, want) in [
        ("half", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntr"),
        ("nonsense", "\0\u{1}\u{2} this is not HTTP \u{fffd}\u{fffd}\r\n\r\n"),
        ("close", ""),
    ] {
        let mut stream = connect(address, call(&format!("customer_id={customer_id}"))).await;
        let bytes = rest(&mut stream).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), want, "{customer_id}");
    }
    let mut stream = connect(address, call("customer_id=reset")).await;
    assert_eq!(rest(&mut stream).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_customer_id_can_ask_for_an_answer_that_is_no_unlock() {
    let address = start().await;
    for (customer_id, status, page) in
        [("fail", "500 Internal Server Error", "<b>Fatal error</b>"), ("html", OK, "<p>Please log in.</p>")]
    {
        let answer = exchange(address, call(&format!("customer_id={customer_id}"))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("\r\nContent-Type: text/html; charset=UTF-8\r\n"), "{answer}");
        assert!(answer.contains(page), "{answer}");
    }
}

#[tokio::test]
async fn a_big_answer_comes_in_chunks_to_those_who_know_them() {
    let address = start().await;
    let (_, mut chunked) = ask(address, call("customer_id=big")).await;
    let mut json = String::new();
    loop {
        let (size, rest) = chunked.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        json.push_str(&rest[..size]);
        assert_eq!(&rest[size..size + 2], "\r\n");
        if size == 0 {
            break;
        }
        chunked = rest[size + 2..].to_owned();
    }
    assert_eq!(json.len(), 1024 * 1024);
    assert!(serde_json::from_str::<String>(&json).is_ok());

    let http10 = call("customer_id=big").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(ask(address, http10).await.1, json);
}

#[tokio::test]
async fn a_customer_id_can_ask_for_a_slow_answer_or_none() {
    let address = start().await;
    let mut byte = [0];
    let mut slow = connect(address, call("customer_id=slow-200")).await;
    let mut silent = connect(address, call("customer_id=hang")).await;
    assert!(timeout(SHORT, slow.read(&mut byte)).await.is_err(), "answered at once");
    slow.shutdown().await.unwrap();
    assert!(rest(&mut slow).await.unwrap().ends_with(b"\r\n\r\ntrue"));

    assert!(timeout(SHORT, silent.read(&mut byte)).await.is_err(), "answered or closed");
    silent.shutdown().await.unwrap();
    assert_eq!(rest(&mut silent).await.unwrap(), b"");
}

#[test]
fn the_longest_delay_is_a_minute() {
    for (milliseconds, want) in
        [("0", 0), ("59999", 59_999), ("60001", 60_000), ("18446744073709551615", 60_000)]
    {
        let request = call(&format!("customer_id=slow-{milliseconds}"));
        let (length, (mut parsed, _)) = request::parse_head(request.as_bytes()).unwrap().unwrap();
        parsed.body = request.as_bytes()[length..].to_vec();
        let Conduct::AnswerAfter(delay, _) = respond(&parsed, &Customers::default()) else {
            panic!("{milliseconds}: not slow")
        };
        assert_eq!(delay, Duration::from_millis(want));
    }
}

#[tokio::test]
async fn connections_end_with_the_server() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener));
    let mut stream = connect(address, call("customer_id=191")).await;
    timeout(LONG, stream.read_exact(&mut [0; 70])).await.unwrap().unwrap();
    server.abort();
    rest(&mut stream).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "still listens");
}
