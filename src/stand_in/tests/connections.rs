//! How requests are told apart on a connection, and when it ends.

use super::super::request::MAX_BODY;
use super::super::wire::MAX_HEAD;
use super::*;

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
async fn a_refusal_arrives_though_the_body_is_still_being_sent() {
    let answer = exchange(start().await, call(&"a".repeat(4 * MAX_BODY))).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
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
