//! What clients spell otherwise and mean alike is alike.

use http::Request;

use crate::harness::{Call, Gateway, Http2, NAME, Secured, Upstream};

#[test]
fn the_default_port_is_no_other_host() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let at = |origin: &str, host: &str| {
        Call::unlock().path(&format!("{origin}/api/customer/unlock")).set("Host", host)
    };
    for (origin, host) in [
        ("http://n4n.example.com:80", "n4n.example.com"),
        ("http://n4n.example.com", "n4n.example.com:80"),
        ("http://N4N.example.com:", "n4n.example.com"),
        ("https://n4n.example.com:443", "n4n.example.com"),
        ("http://[::1]:80", "[::1]"),
        ("", "n4n.example.com:80"),
    ] {
        let answer = gateway.call(&at(origin, host));
        assert_eq!((answer.status(), answer.text()), (200, "true"), "{origin} {host}");
    }
    let seen = upstream.count();
    for (origin, host) in [
        ("http://n4n.example.com:443", "n4n.example.com"),
        ("https://n4n.example.com:80", "n4n.example.com"),
        ("http://n4n.example.com:8080", "n4n.example.com"),
        ("http://n4n.example.com:80", "other.example.com"),
        ("http://me@n4n.example.com:80", "n4n.example.com"),
        ("http://n4n.example.com:80", "n4n.example.com:80:80"),
    ] {
        assert_eq!(gateway.call(&at(origin, host)).code(), "framing_ambiguous", "{origin} {host}");
    }
    assert_eq!(upstream.count(), seen);
}

#[test]
fn the_default_port_is_no_other_host_over_http2() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let mut connection = secured.connect();
    let mut call = |authority: &str, host: &str| {
        connection.call(Http2::unlock(authority).header("host", host), b"customer_id=191", None).unwrap()
    };
    let with_port = format!("{NAME}:443");
    for (authority, host) in [(&*with_port, NAME), (NAME, &*with_port), (NAME, &format!("{NAME}:"))] {
        let answer = call(authority, host);
        assert_eq!((answer.status, &*answer.body), (200, "true"), "{authority} {host}");
    }
    for (authority, host) in [(NAME, "gateway.test:80"), ("gateway.test:444", NAME), ("other.test:443", NAME)]
    {
        assert_eq!(call(authority, host).code(), "framing_ambiguous", "{authority} {host}");
    }
    // A scheme of its own has a default port of its own.
    let mut plain = Request::patch(format!("http://{NAME}:443/api/customer/unlock"));
    plain.headers_mut().unwrap().clone_from(Http2::unlock(NAME).header("host", NAME).headers_ref().unwrap());
    let answer = connection.call(plain, b"customer_id=191", None).unwrap();
    assert_eq!(answer.code(), "framing_ambiguous");
}

#[test]
fn a_parameter_of_a_media_type_may_be_empty() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    const FORM: &str = "application/x-www-form-urlencoded";
    for parameters in [";", " ; ", "; ;charset=utf-8", " \t;\t; charset=\"utf-8\" ;;"] {
        let answer = gateway.call(&Call::unlock().set("Content-Type", &format!("{FORM}{parameters}")));
        assert_eq!((answer.status(), answer.text()), (200, "true"), "{parameters}");
    }
    let sent = upstream.requests();
    assert!(sent.iter().all(|request| request.one("Content-Type") == FORM));
    for parameters in ["; charset=latin1;", ";;x=y", ";=", ";,", " ;charset"] {
        let answer = gateway.call(&Call::unlock().set("Content-Type", &format!("{FORM}{parameters}")));
        assert_eq!(answer.code(), "media_type_unsupported", "{parameters}");
    }
    assert_eq!(upstream.count(), sent.len());
}
