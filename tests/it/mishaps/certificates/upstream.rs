//! An upstream's certificate that cannot be believed, and what else stands between: each is told by what it is.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;

use super::{P256, Workshop};
use crate::harness::{Authority, Call, Gateway, Issued, Upstream, VALID, refusing_address};

/// An upstream's certificate, and what the gateway makes of it.
struct Shown {
    issued: Issued,
    trusts: PathBuf,
    cause: &'static str,
    says: &'static str,
}

/// Certificates that an upstream may show, each of no use in its own way.
fn unbelievable(shop: &Workshop) -> Vec<Shown> {
    let trusted = |authority: &Authority, name: &str| authority.write(shop.0.path(), name);
    let (authority, other) = (Authority::new(), Authority::new());
    let expired = Authority::of((2000, 2001));
    let (ca, expired_ca) = (trusted(&authority, "ca.pem"), trusted(&expired, "expired-ca.pem"));
    let shown = |issued, trusts: &Path, cause, says| Shown { issued, trusts: trusts.to_owned(), cause, says };
    let host = "n4n.test";
    let mut all = vec![
        shown(
            authority.issue(&["other.test"], VALID),
            &ca,
            "certificate_name",
            "is for other names; set upstream.host",
        ),
        shown(other.issue(&[host], VALID), &ca, "certificate_unknown_ca", "name the CA in upstream.tls.ca"),
        shown(authority.issue(&[host], (2000, 2001)), &ca, "certificate_expired", "has expired; renew it"),
        shown(
            authority.issue(&[host], (3000, 3001)),
            &ca,
            "certificate_not_yet_valid",
            "set the clock, or wait",
        ),
        shown(
            expired.issue(&[host], VALID),
            &expired_ca,
            "ca_not_valid",
            "in upstream.tls.ca is valid today",
        ),
    ];
    shop.openssl(&format!("{P256} -out root.key"));
    shop.openssl("req -x509 -new -key root.key -subj /CN=root -days 300 -out root.pem");
    let root = shop.path("root.pem");
    for (name, extensions, cause, says) in [
        // Without extensions OpenSSL 3.0 writes the first version; a later one does when it is told to.
        ("version1", None, "certificate_version_1", "is of X.509 version 1; issue it with extensions"),
        ("unnamed", Some("basicConstraints=CA:FALSE"), "certificate_no_name", "has no subjectAltName"),
        (
            "authority",
            Some("basicConstraints=CA:TRUE\nsubjectAltName=DNS:n4n.test"),
            "certificate_is_ca",
            "shows a CA's certificate as its own",
        ),
        (
            "client",
            Some("extendedKeyUsage=clientAuth\nsubjectAltName=DNS:n4n.test"),
            "certificate_purpose",
            "is not for servers; issue it with extendedKeyUsage serverAuth",
        ),
    ] {
        shop.openssl(&format!("{P256} -out {name}.key"));
        shop.openssl(&format!("req -new -key {name}.key -subj /CN={host} -out {name}.csr"));
        shop.write("extensions", extensions.unwrap_or_default());
        let with = if extensions.is_some() { " -extfile extensions" } else { "" };
        shop.openssl(&format!(
            "x509 -req -in {name}.csr -CA root.pem -CAkey root.key -CAcreateserial -days 300{with} -out {name}.pem"
        ));
        all.push(shown(shop.issued(name), &root, cause, says));
    }
    all
}

#[test]
fn what_is_wrong_with_the_upstreams_certificate_is_told_with_the_mend() {
    let shop = Workshop::new();
    for Shown { issued, trusts, cause, says } in unbelievable(&shop) {
        let upstream = Upstream::under_tls(issued.careless_server());
        let tls = format!("host = \"n4n.test\"\ntls = {{ ca = \"{}\" }}", trusts.display());
        let check = "health_check = { every = \"20s\", timeout = \"20s\", fall = 1 }";
        let gateway = Gateway::before(upstream.address()).set("upstream", &tls).start();
        let answer = gateway.call(&Call::unlock());
        assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_unreachable"), "{cause}");
        gateway.wait_for_line("a call failed");
        let output = gateway.output();
        let line = output.lines().find(|line| line.contains("a call failed")).unwrap();
        assert!(line.contains(cause) && line.contains(says), "{cause}: {line}");
        gateway.wait_for_event(says);

        let gateway =
            Gateway::before(upstream.address()).set("upstream", &tls).set("upstream", check).start();
        gateway.wait_for_line("the peer is unhealthy");
        let output = gateway.output();
        let line = output.lines().find(|line| line.contains("the peer is unhealthy")).unwrap();
        assert!(line.contains(says), "{cause}: {line}");
        assert!(upstream.bytes().is_empty(), "{cause}: nothing is sent to whom nobody believes");
    }
}

/// A server that says this to whoever connects, until the test ends.
fn speaking_first(words: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(words);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    address
}

#[test]
fn what_else_stands_between_is_told_too() {
    let shop = Workshop::new();
    let authority = Authority::new();
    let ca = authority.write(shop.0.path(), "ca.pem");
    let plain = speaking_first(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let closing = Upstream::closing_at_once();
    let strict = Upstream::under_tls(authority.issue(&["n4n.test"], VALID).server(Some(&Authority::new())));
    let (nobody, _guard) = refusing_address();
    for (upstream, causes) in [
        (closing.address(), &["handshake_ended", "connection_broken", "handshake_failed"][..]),
        (strict.address(), &["client_certificate"]),
        (nobody, &["connect_refused"]),
        (plain, &["not_tls"]),
    ] {
        let tls = format!("host = \"n4n.test\"\ntls = {{ ca = \"{}\" }}", ca.display());
        let gateway = Gateway::before(upstream)
            .set("upstream", &tls)
            .set("upstream", "response_timeout = \"5s\"")
            .start();
        let _ = gateway.call(&Call::unlock());
        gateway.wait_for_line("a call failed");
        let output = gateway.output();
        let line = output.lines().find(|line| line.contains("a call failed")).unwrap();
        assert!(
            causes.iter().any(|cause| line.contains(&format!("cause=\"{cause}\""))),
            "{causes:?}: {line}"
        );
    }
}
