//! TLS on both sides: who is shown what, who is let in, and what is sent to nobody else.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Authority, Call, Gateway, Issued, Signal, TlsClient, Upstream, VALID, binary, tool};

const NAME: &str = "gateway.test";

/// An entry of `listen.https` on a port of the system's choice.
fn entry(folder: &Path, name: &str, more: &str) -> String {
    let folder = folder.display();
    format!(
        "{{ address = \"127.0.0.1:0\", certificate = \"{folder}/{name}.pem\", key = \"{folder}/{name}.key\"{more} }}"
    )
}

/// A gateway that shows these certificates, each written under its name.
fn start(upstream: SocketAddr, folder: &Path, certificates: &[(&str, &Issued)], more: &str) -> Gateway {
    for (name, issued) in certificates {
        issued.write(folder, name);
    }
    let entries: Vec<_> = certificates.iter().map(|(name, _)| entry(folder, name, more)).collect();
    Gateway::before(upstream).set("listen", &format!("https = [{}]", entries.join(", "))).start()
}

#[test]
fn a_call_under_tls_is_a_call() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let upstream = Upstream::start();
    let gateway = start(upstream.address(), folder.path(), &[("a", &authority.issue(&[NAME], VALID))], "");
    let mut wire = TlsClient::trusting(&authority, None).connect(gateway.https(), NAME);
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    assert_eq!(upstream.wait_for(1).one("X-Forwarded-Proto"), "https");
    // The same connection, the same rules.
    let refused = wire.call(&Call::unlock().query("customer_id=1"));
    assert_eq!((refused.status(), refused.code().as_str()), (400, "query_not_allowed"));
    let long = "A".repeat(7000);
    assert_eq!(wire.call(&Call::unlock().body(format!("customer_id={long}"))).code(), "lookup_invalid");
    assert_eq!(wire.call(&Call::unlock().chunked(4)).status(), 200);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert_eq!(upstream.wait_for(3).one("X-Forwarded-Proto"), "http");
    let ambiguous = wire.call(&Call::unlock().with("Content-Length", "3"));
    assert_eq!((ambiguous.status(), ambiguous.code().as_str()), (400, "framing_ambiguous"));
    assert_eq!(upstream.count(), 3);
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let upstream = Upstream::start();
    let gateway = start(upstream.address(), folder.path(), &[("a", &authority.issue(&[NAME], VALID))], "");
    let ca = authority.write(folder.path(), "ca.pem");
    for (version, more, spoken) in [
        ("-tls1_3", "", true),
        ("-tls1_2", "", true),
        ("-tls1_1", "DEFAULT@SECLEVEL=0", false),
        ("-tls1", "DEFAULT@SECLEVEL=0", false),
        // Neither without forward secrecy nor with CBC.
        ("-tls1_2", "AES128-GCM-SHA256", false),
        ("-tls1_2", "ECDHE-ECDSA-AES128-SHA", false),
    ] {
        let mut client = tool("openssl", "install openssl");
        client.args(["s_client", version, "-servername", NAME, "-verify_return_error", "-brief"]);
        client.arg("-connect").arg(gateway.https().to_string()).arg("-CAfile").arg(&ca);
        if !more.is_empty() {
            client.args(["-cipher", more]);
        }
        let output = client.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), spoken, "{version} {more}: {said}");
        assert_eq!(said.contains("Verification: OK"), spoken, "{version} {more}: {said}");
    }
}

#[test]
fn a_client_ca_lets_in_who_has_its_certificate_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let ca = clients.write(folder.path(), "clients.pem");
    let upstream = Upstream::start();
    let more = format!(", client_ca = \"{}\"", ca.display());
    let gateway = start(upstream.address(), folder.path(), &[("a", &authority.issue(&[NAME], VALID))], &more);
    let call = |shows: Option<&Issued>| {
        TlsClient::trusting(&authority, shows).connect(gateway.https(), NAME).try_call(&Call::unlock())
    };
    for (case, shows) in [
        ("none", None),
        ("another authority's", Some(strangers.issue(&["client"], VALID))),
        ("an expired one", Some(clients.issue(&["client"], (2000, 2001)))),
        ("one not yet valid", Some(clients.issue(&["client"], (3000, 3001)))),
    ] {
        assert!(call(shows.as_ref()).is_err(), "{case}");
    }
    assert!(upstream.bytes().is_empty());
    let answer = call(Some(&clients.issue(&["client"], VALID))).unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_certificate_is_chosen_by_the_name_asked_for_and_the_first_is_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let upstream = Upstream::start();
    let first = authority.issue(&[NAME, "127.0.0.1", "unknown.test"], VALID);
    let second = authority.issue(&["second.test", "*.wild.test"], VALID);
    let gateway = start(upstream.address(), folder.path(), &[("a", &first), ("b", &second)], "");
    let client = TlsClient::trusting(&authority, None);
    for (name, shown) in [
        (NAME, &first),
        ("second.test", &second),
        ("SECOND.test", &second),
        ("one.wild.test", &second),
        ("unknown.test", &first),
        ("127.0.0.1", &first),
    ] {
        let mut wire = client.connect(gateway.https(), name);
        assert_eq!(wire.call(&Call::unlock()).status(), 200, "{name}");
        assert_eq!(wire.certificate(), shown.der(), "{name}");
    }
}

#[test]
fn a_reload_swaps_certificates_and_client_cas_and_drops_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, old_clients, new_clients) = (Authority::new(), Authority::new(), Authority::new());
    let ca = old_clients.write(folder.path(), "clients.pem");
    let upstream = Upstream::start();
    let (old, new) = (authority.issue(&[NAME], (2020, 3000)), authority.issue(&[NAME], (2020, 3001)));
    let more = format!(", client_ca = \"{}\"", ca.display());
    let gateway = start(upstream.address(), folder.path(), &[("a", &old)], &more);
    let (old_client, new_client) =
        (old_clients.issue(&["client"], VALID), new_clients.issue(&["client"], VALID));
    let old_client = TlsClient::trusting(&authority, Some(&old_client));
    let new_client = TlsClient::trusting(&authority, Some(&new_client));
    let expiry = format!(
        "n4n_gateway_certificate_expiry_timestamp_seconds{{certificate=\"{}/a.pem\"}}",
        folder.path().display()
    );
    gateway.wait_for_metric(&expiry, 32_503_680_000.0);

    let mut wire = old_client.connect(gateway.https(), NAME);
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    assert!(new_client.connect(gateway.https(), NAME).try_call(&Call::unlock()).is_err());

    // A key that is not the certificate's changes nothing.
    std::fs::write(folder.path().join("a.pem"), &new.certificate).unwrap();
    gateway.send(Signal::Hangup);
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"failure\"}", 1.0);
    let mut still = old_client.connect(gateway.https(), NAME);
    assert_eq!(still.call(&Call::unlock()).status(), 200);
    assert_eq!(still.certificate(), old.der());

    new.write(folder.path(), "a");
    new_clients.write(folder.path(), "clients.pem");
    gateway.send(Signal::Hangup);
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 1.0);
    gateway.wait_for_metric(&expiry, 32_535_216_000.0);
    let mut fresh = new_client.connect(gateway.https(), NAME);
    assert_eq!(fresh.call(&Call::unlock()).status(), 200);
    assert_eq!(fresh.certificate(), new.der());
    // The session it had with the old CA opens nothing any more.
    assert!(old_client.connect(gateway.https(), NAME).try_call(&Call::unlock()).is_err());
    assert_eq!(wire.call(&Call::unlock()).status(), 200);
    let output = gateway.output();
    assert!(!output.contains(new.key.lines().nth(1).unwrap()), "{output}");
}

#[test]
fn a_handshake_that_does_not_finish_counts_as_a_connection_and_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let upstream = Upstream::start();
    let gateway = start(upstream.address(), folder.path(), &[("a", &authority.issue(&[NAME], VALID))], "");
    let start = Instant::now();
    let mut silent = TcpStream::connect(gateway.https()).unwrap();
    gateway.wait_for_metric("n4n_gateway_connections", 1.0);
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let read = std::io::Read::read(&mut silent, &mut [0; 16]).unwrap();
    assert_eq!(read, 0);
    assert!(start.elapsed() > Duration::from_secs(9), "{:?}", start.elapsed());
    gateway.wait_for_metric("n4n_gateway_connections", 0.0);
}

#[test]
fn faults_in_certificates_and_keys_are_told_and_show_nothing_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (one, other) = (authority.issue(&[NAME], VALID), authority.issue(&[NAME], VALID));
    one.write(folder.path(), "one");
    other.write(folder.path(), "other");
    authority.write(folder.path(), "ca.pem");
    authority.write(folder.path(), "ca2.pem");
    authority.issue(&[NAME], (2000, 2001)).write(folder.path(), "expired");
    let mut broken = one.certificate.clone();
    broken.insert_str(40, "AAAA");
    std::fs::write(folder.path().join("broken.pem"), broken).unwrap();
    let https =
        |entries: &str| format!("[listen]\nhttps = [{entries}]\n[upstream]\npeers = [\"127.0.0.1:1\"]\n");
    let upstream = |host: &str, tls: &str| {
        format!(
            "[listen]\nhttp = [\"127.0.0.1:0\"]\n[upstream]\npeers = [\"127.0.0.1:1\"]\nhost = \"{host}\"\ntls = {{ {tls} }}\n"
        )
    };
    let cases = [
        (https("{ address = \"127.0.0.1:0\", certificate = \"one.pem\", key = \"one.key\" }"), 0, ": sound"),
        (
            https("{ address = \"127.0.0.1:0\", certificate = \"expired.pem\", key = \"expired.key\" }"),
            0,
            "warning: certificate `expired.pem` has expired (2001-01-01T00:00:00Z)",
        ),
        (
            https("{ address = \"127.0.0.1:0\", certificate = \"one.pem\", key = \"other.key\" }"),
            2,
            "line 2: listen.https.key: is not the key of the certificate; name",
        ),
        (
            https("{ address = \"127.0.0.1:0\", certificate = \"none.pem\", key = \"one.pem\" }"),
            2,
            "line 2: listen.https.certificate: cannot be read: ",
        ),
        (
            https("{ address = \"127.0.0.1:0\", certificate = \"one.key\", key = \"one.pem\" }"),
            2,
            "line 2: listen.https.key: has no private key in it; name",
        ),
        (
            https("{ address = \"127.0.0.1:0\", certificate = \"broken.pem\", key = \"one.key\" }"),
            2,
            "line 2: listen.https.certificate: has a certificate in it that cannot be read; name",
        ),
        (
            https("{ address = \"127.0.0.1:0\", certificate = \"one.pem\" }"),
            2,
            "listen.https.key: is required",
        ),
        (
            https(
                "{ address = \"127.0.0.1:1\", certificate = \"one.pem\", key = \"one.key\", client_ca = \"ca.pem\" },\
                 { address = \"127.0.0.1:1\", certificate = \"one.pem\", key = \"one.key\", client_ca = \"ca2.pem\" }",
            ),
            2,
            "listen.https.client_ca: differs from that of another entry",
        ),
        (
            https("{ address = \"127.0.0.1:9464\", certificate = \"one.pem\", key = \"one.key\" }"),
            2,
            "listen.https: names 127.0.0.1:9464, which is another listener's",
        ),
        (https(""), 2, "listen.https: is empty"),
        (upstream("n4n.test", ""), 0, ": sound"),
        (
            upstream(
                "n4n.test:8443",
                "ca = \"ca.pem\", client_certificate = \"one.pem\", client_key = \"one.key\"",
            ),
            0,
            ": sound",
        ),
        (
            upstream("n4n_1.test", ""),
            2,
            "line 5: upstream.host: is no name that a certificate can be checked for",
        ),
        (upstream("n4n.test", "client_key = \"one.key\""), 2, "upstream.tls.client_certificate: is required"),
        (upstream("n4n.test", "ca = \"one.key\""), 2, "line 6: upstream.tls.ca: has no certificate in it"),
        (upstream("n4n.test", "verify = false"), 2, "upstream.tls.verify: is an unknown key"),
    ];
    for (text, code, said) in cases {
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, &text).unwrap();
        let output = binary().arg("check").arg("--config").arg(&file).output().unwrap();
        let written = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}{written}");
        assert!(written.contains(said), "{text}{written}");
        for key in [&one.key, &other.key] {
            assert!(!written.contains(key.lines().nth(1).unwrap()), "{written}");
        }
    }
}

/// A gateway in front of an upstream that speaks TLS.
fn start_before(upstream: &Upstream, tls: &str) -> Gateway {
    Gateway::before(upstream.address())
        .set("upstream", &format!("host = \"n4n.test\"\ntls = {{ {tls} }}"))
        .start()
}

#[test]
fn the_upstream_must_prove_its_name_and_nothing_is_sent_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let trust = format!("ca = \"{}\"", authority.write(folder.path(), "ca.pem").display());
    for (case, issued, tls) in [
        ("a wrong name", authority.issue(&["other.test", "127.0.0.1"], VALID), trust.as_str()),
        ("an unknown CA", other.issue(&["n4n.test"], VALID), &trust),
        ("a CA that the system does not know", authority.issue(&["n4n.test"], VALID), ""),
        ("an expired certificate", authority.issue(&["n4n.test"], (2000, 2001)), &trust),
        ("one not yet valid", authority.issue(&["n4n.test"], (3000, 3001)), &trust),
    ] {
        let upstream = Upstream::under_tls(issued.server(None));
        let gateway = start_before(&upstream, tls);
        let answer = gateway.call(&Call::unlock());
        assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_unreachable"), "{case}");
        gateway.wait_for_metric("n4n_gateway_requests_total{code=\"upstream_unreachable\"}", 1.0);
        assert!(upstream.bytes().is_empty(), "{case}: {:?}", upstream.requests());
    }
    // Plain HTTP where TLS is asked for is no way round.
    let upstream = Upstream::start();
    let answer = start_before(&upstream, &trust).call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_unreachable"));
    assert!(upstream.requests().is_empty());
    assert!(!upstream.bytes().windows(7).any(|bytes| bytes == b"api-key"));
}

#[test]
fn a_call_goes_to_the_upstream_under_tls_and_shows_the_clients_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new(), Authority::new());
    let trust = format!("ca = \"{}\"", authority.write(folder.path(), "ca.pem").display());
    clients.issue(&["gateway"], VALID).write(folder.path(), "client");
    let issued = authority.issue(&["n4n.test"], VALID);
    let path = folder.path().display();
    let shows =
        format!("{trust}, client_certificate = \"{path}/client.pem\", client_key = \"{path}/client.key\"");

    let upstream = Upstream::under_tls(issued.server(None));
    let gateway = start_before(&upstream, &trust);
    for count in 1..=3 {
        assert_eq!(gateway.call(&Call::unlock()).text(), "true");
        assert_eq!(upstream.wait_for(count).one("Host"), "n4n.test");
    }

    let upstream = Upstream::under_tls(issued.server(Some(&clients)));
    let gateway = start_before(&upstream, &shows);
    assert_eq!(gateway.call(&Call::unlock()).text(), "true");
    let expiry =
        format!("n4n_gateway_certificate_expiry_timestamp_seconds{{certificate=\"{path}/client.pem\"}}");
    assert!(gateway.metrics().has(&expiry), "{expiry}");

    let upstream = Upstream::under_tls(issued.server(Some(&clients)));
    let answer = start_before(&upstream, &trust).call(&Call::unlock());
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert!(upstream.bytes().is_empty());
}

#[test]
fn a_pooled_connection_does_not_outlive_the_trust_it_was_made_under() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let trust = format!("ca = \"{}\"", old.write(folder.path(), "ca.pem").display());
    let upstream = Upstream::under_tls(old.issue(&["n4n.test"], VALID).server(None));
    let gateway = Gateway::before(upstream.address())
        .set("listen", "threads = 1")
        .set("upstream", &format!("host = \"n4n.test\"\ntls = {{ {trust} }}\nidle_timeout = \"1h\""))
        .start();
    for _ in 0..2 {
        assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    }
    assert_eq!(upstream.connections(), 1, "the connection is used again");
    new.write(folder.path(), "ca.pem");
    gateway.send(Signal::Hangup);
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 1.0);
    let answer = gateway.call(&Call::unlock());
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_unreachable"));
    assert_eq!(upstream.count(), 2);
}
