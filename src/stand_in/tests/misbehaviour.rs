//! What an id can ask for.

use super::super::request::parse_head;
use super::*;

#[tokio::test]
async fn an_id_can_ask_for_a_broken_answer() {
    let address = start().await;
    for (id, want) in [
        ("half", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntr"),
        ("nonsense", "\0\u{1}\u{2} this is not HTTP \u{fffd}\u{fffd}\r\n\r\n"),
        ("close", ""),
    ] {
        let mut stream = connect(address, call(&format!("orderid={id}"))).await;
        let bytes = rest(&mut stream).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), want, "{id}");
    }
    let mut stream = connect(address, call("orderid=reset")).await;
    assert_eq!(rest(&mut stream).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_id_can_ask_for_an_answer_that_is_no_unlock() {
    let address = start().await;
    for (id, status, page) in
        [("fail", "500 Internal Server Error", "<b>Fatal error</b>"), ("html", OK, "<p>Please log in.</p>")]
    {
        let answer = exchange(address, call(&format!("orderid={id}"))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("\r\nContent-Type: text/html; charset=UTF-8\r\n"), "{answer}");
        assert!(answer.contains(page), "{answer}");
    }
}

#[tokio::test]
async fn a_big_answer_comes_in_chunks_to_those_who_know_them() {
    let address = start().await;
    let (_, mut chunked) = ask(address, call("orderid=big")).await;
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

    let http10 = call("orderid=big").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(ask(address, http10).await.1, json);
}

#[tokio::test]
async fn an_id_can_ask_for_a_slow_answer_or_none() {
    let address = start().await;
    assert_eq!(ask(address, call("orderid=slow-1")).await, (OK.into(), "true".into()));
    for id in ["slow-60000", "hang"] {
        let mut stream = connect(address, call(&format!("orderid={id}"))).await;
        let silence = timeout(SHORT, stream.read(&mut [0])).await;
        assert!(silence.is_err(), "{id}: answered or closed: {silence:?}");
    }
}

#[tokio::test]
async fn a_call_that_hangs_ends_with_its_client() {
    assert_eq!(exchange(start().await, call("orderid=hang")).await, "");
}

#[test]
fn the_longest_delay_is_a_minute() {
    for (milliseconds, want) in
        [("0", 0), ("59999", 59_999), ("60001", 60_000), ("18446744073709551615", 60_000)]
    {
        let request = call(&format!("orderid=slow-{milliseconds}"));
        let (length, (mut parsed, _)) = parse_head(request.as_bytes()).unwrap().unwrap();
        parsed.body = request.as_bytes()[length..].to_vec();
        let Conduct::AnswerAfter(delay, _) = respond(&parsed, &Customers::default()) else {
            panic!("{milliseconds}: not slow")
        };
        assert_eq!(delay, Duration::from_millis(want));
    }
}
