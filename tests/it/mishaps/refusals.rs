//! Whoever is refused leaves a trace: a metric, and a line in the log that a flood cannot multiply.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tempfile::TempDir;

use crate::harness::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, frame, kept_field, unlock_fields,
};
use crate::harness::{
    API_KEY, API_USERNAME, Authority, Call, DEADLINE, Gate, Gateway, NAME, Secured, TlsClient, Upstream,
    VALID, tool,
};

const HANDSHAKES: &str = "n4n_gateway_tls_handshake_failures_total";
const CONNECTIONS: &str = "n4n_gateway_connections_refused_total";
const STREAMS: &str = "n4n_gateway_streams_refused_total";

/// Waits until a series has a value, however slow the machine.
fn wait_for(gateway: &Gateway, series: &str, is_enough: impl Fn(f64) -> bool) {
    let start = Instant::now();
    while !is_enough(gateway.metrics().sum(series)) {
        assert!(start.elapsed() < DEADLINE, "{series}: {}", gateway.metrics().sum(series));
        std::thread::yield_now();
    }
}

fn openssl(arguments: &str, folder: &Path) -> String {
    let arguments = arguments.split_whitespace();
    let output = tool("openssl", "install openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A gateway that asks its clients for a certificate from `clients.pem`, whose key is `clients.key`.
struct Mutual {
    gateway: Gateway,
    server: Authority,
    folder: TempDir,
}

impl Mutual {
    fn before(upstream: &Upstream) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Authority::new();
        server.issue(&[NAME], VALID).write(folder.path(), "a");
        let ca = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=clients \
                  -keyout clients.key -out clients.pem";
        openssl(ca, folder.path());
        let path = folder.path().display();
        let https = format!(
            "https = [{{ address = \"127.0.0.1:0\", certificate = \"{path}/a.pem\", key = \"{path}/a.key\", \
             client_ca = \"{path}/clients.pem\" }}]"
        );
        Self { gateway: Gateway::before(upstream.address()).set("listen", &https).start(), server, folder }
    }

    /// Issues `name.pem` with these extensions, or as plain `openssl x509 -req` of OpenSSL 3.0 does.
    fn issue(&self, name: &str, extensions: Option<&str>) {
        let folder = self.folder.path();
        let request = format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        );
        openssl(&request, folder);
        let mut issue = format!(
            "x509 -req -in {name}.csr -CA clients.pem -CAkey clients.key -CAcreateserial -days 30 -out {name}.pem"
        );
        if let Some(extensions) = extensions {
            std::fs::write(folder.join(format!("{name}.ext")), extensions).unwrap();
            issue.push_str(&format!(" -extfile {name}.ext"));
        }
        openssl(&issue, folder);
        let is_version_1 =
            || openssl(&format!("x509 -in {name}.pem -noout -text"), folder).contains("Version: 1 ");
        if extensions.is_none() && !is_version_1() {
            // Later ones have to be told.
            openssl(&format!("{issue} -x509v1"), folder);
        }
    }

    /// Tries to shake hands with OpenSSL's client; whether that succeeded shows in the metrics.
    fn openssl_client(&self, arguments: &str) {
        let mut client = tool("openssl", "install openssl")
            .args(["s_client", "-quiet", "-connect", &self.gateway.https().to_string()])
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ =
            client.stdin.take().unwrap().write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let _ = client.wait();
    }

    /// Asserts that one handshake more failed for this reason, and that the log tells of it.
    fn assert_failed(&self, reason: &str) {
        wait_for(&self.gateway, &format!("{HANDSHAKES}{{reason=\"{reason}\"}}"), |failed| failed >= 1.0);
        self.gateway.wait_for_line(&format!("reason=\"{reason}\""));
        let output = self.gateway.output();
        let line = output.lines().find(|line| line.contains(&format!("reason=\"{reason}\""))).unwrap();
        assert!(line.contains("WARN") && line.contains("client=127.0.0.1:"), "{line}");
    }
}

#[test]
fn each_reason_for_which_a_handshake_fails_is_counted_and_told() {
    let upstream = Upstream::start();
    let mutual = Mutual::before(&upstream);
    let address = mutual.gateway.https();
    // Each reason is there from the start, at zero.
    assert!(mutual.gateway.metrics().has(&format!("{HANDSHAKES}{{reason=\"timeout\"}}")));
    assert_eq!(mutual.gateway.metrics().sum(HANDSHAKES), 0.0);
    let silent = TcpStream::connect(address).unwrap();
    // Who leaves without a word was not refused.
    drop(TcpStream::connect(address).unwrap());

    let strangers = Authority::new();
    let call = |client: &TlsClient| client.connect(address, NAME).try_call(&Call::unlock());
    let shows = |issued| TlsClient::trusting(&mutual.server, Some(&issued));
    assert!(call(&TlsClient::trusting(&mutual.server, None)).is_err());
    mutual.assert_failed("certificate_missing");
    assert!(call(&shows(strangers.issue(&["client.test"], VALID))).is_err());
    mutual.assert_failed("certificate_unknown_ca");
    assert!(call(&TlsClient::trusting(&strangers, None)).is_err());
    mutual.assert_failed("refused_by_client");

    mutual.issue("plain", None);
    mutual.openssl_client("-cert plain.pem -key plain.key");
    mutual.assert_failed("certificate_version_1");
    mutual.issue("server", Some("basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"));
    mutual.openssl_client("-cert server.pem -key server.key");
    mutual.assert_failed("certificate_wrong_usage");

    mutual.openssl_client("-tls1_1 -cipher ALL:@SECLEVEL=0");
    mutual.assert_failed("no_common_version");
    mutual.openssl_client("-tls1_2 -cipher AES256-SHA");
    mutual.assert_failed("no_common_cipher");
    mutual.openssl_client("-alpn spdy/3");
    mutual.assert_failed("no_common_protocol");

    for (bytes, reason) in
        [(&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], "plain_http"), (b"SSH-2.0-OpenSSH_9.2\r\n", "not_tls")]
    {
        let mut plain = TcpStream::connect(address).unwrap();
        plain.write_all(bytes).unwrap();
        mutual.assert_failed(reason);
    }
    let mut leaving = TcpStream::connect(address).unwrap();
    leaving.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    drop(leaving);
    mutual.assert_failed("client_gone");
    mutual.assert_failed("timeout");
    drop(silent);

    mutual.issue("good", Some("basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n"));
    let before = mutual.gateway.metrics().sum(HANDSHAKES);
    mutual.openssl_client("-cert good.pem -key good.key");
    mutual.gateway.wait_for_metric("n4n_gateway_requests_total{code=\"path_unknown\"}", 1.0);
    assert_eq!(mutual.gateway.metrics().sum(HANDSHAKES), before);
}

#[test]
fn a_flood_of_refused_handshakes_fills_no_log() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let (start, gateway) = (Instant::now(), &secured.gateway);
    for _ in 0..300 {
        let mut plain = TcpStream::connect(gateway.https()).unwrap();
        let _ = plain.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let _ = plain.read(&mut [0; 64]);
    }
    wait_for(gateway, &format!("{HANDSHAKES}{{reason=\"plain_http\"}}"), |failed| failed >= 300.0);
    let most = start.elapsed().as_secs() as usize + 2;
    let told = gateway.output().lines().filter(|line| line.contains("handshake failed")).count();
    assert!((1..=most).contains(&told), "{told} lines in {:?}", start.elapsed());
}

/// What is answered to these bytes: the code, and whether the connection closes without more being sent.
fn refused(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut wire = gateway.connect();
    wire.send(bytes);
    let answer = wire.answer();
    assert_eq!(answer.status(), 400, "{answer:?}");
    wire.assert_closes();
    answer.code()
}

#[test]
fn what_is_no_http_is_told_from_smuggling_and_tls_at_once() {
    let upstream = Upstream::start();
    // Nothing below may wait for it.
    let gateway = Gateway::before(upstream.address()).set("policy", "header_timeout = \"10m\"").start();
    let hello = b"\x16\x03\x01\x00\xc0\x01\x00\x00\xbc\x03\x03";
    assert_eq!(refused(&gateway, hello), "request_malformed");
    wait_for(&gateway, &format!("{CONNECTIONS}{{reason=\"tls_on_plain_port\"}}"), |refused| refused == 1.0);
    gateway.wait_for_line("TLS on the plain port");
    for no_http in [&b"SSH-2.0-x\n"[..], b"hello\n", b"EHLO gateway.test\r\nQUIT\n"] {
        assert_eq!(refused(&gateway, no_http), "request_malformed", "{}", no_http.escape_ascii());
    }
    for http in [&b"PATCH / HTTP/1.1\n"[..], b"GET /\n", b"\nGET / HTTP/1.1\r\n"] {
        assert_eq!(refused(&gateway, http), "framing_ambiguous", "{}", http.escape_ascii());
    }
    gateway
        .wait_for_metric("n4n_gateway_requests_total{code=\"request_malformed\",status_class=\"4xx\"}", 4.0);
    // A TLS client, and not only its first bytes.
    let client = TlsClient::trusting(&Authority::new(), None);
    assert!(client.connect(gateway.http(), NAME).try_call(&Call::unlock()).is_err());
    wait_for(&gateway, &format!("{CONNECTIONS}{{reason=\"tls_on_plain_port\"}}"), |refused| refused == 2.0);
}

#[test]
fn http_2_by_prior_knowledge_is_told_from_other_malformed_requests() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let mut curl = tool("curl", "install curl");
    curl.args(["--silent", "--http2-prior-knowledge", &gateway.url()]).stdout(Stdio::null());
    assert!(!curl.status().unwrap().success());
    wait_for(&gateway, &format!("{CONNECTIONS}{{reason=\"http2_prior_knowledge\"}}"), |refused| {
        refused == 1.0
    });
    gateway.wait_for_line("reason=\"http2_prior_knowledge\"");
    gateway.wait_for_metric("n4n_gateway_requests_total{code=\"request_malformed\"}", 1.0);
}

#[test]
fn connections_over_max_connections_are_counted_and_told() {
    let gate = Gate::default();
    let upstream = Upstream::held_by(&gate);
    let gateway = Gateway::before(upstream.address()).set("listen", "max_connections = 1").start();
    let mut kept = gateway.connect();
    kept.send(Call::unlock().bytes());
    // It is not idle, so that it does not give way.
    upstream.wait_for(1);
    for _ in 0..50 {
        gateway.connect().assert_closes();
    }
    gateway.wait_for_metric(&format!("{CONNECTIONS}{{reason=\"max_connections\"}}"), 50.0);
    gateway.wait_for_line("reason=\"max_connections\"");
    gate.open();
    assert_eq!(kept.answer().status(), 200);
}

#[test]
fn what_the_layer_of_http2_refuses_is_counted_and_told() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "[policy]\nheader_timeout = \"2s\"");
    let gateway = &secured.gateway;
    let connect = || Frames::connect(&secured.client(), gateway.https(), 65_535);
    let open = |stream, more: &[u8]| frame(HEADERS, END_HEADERS, stream, &[&unlock_fields(), more].concat());

    let mut malformed = connect();
    malformed.send(&open(1, &kept_field("connection", "close"))).unwrap();
    wait_for(gateway, &format!("{STREAMS}{{reason=\"protocol_error\"}}"), |refused| refused == 1.0);
    gateway.wait_for_line("a stream of HTTP/2 was refused");

    let mut crowded = connect();
    let many: Vec<u8> = (0..40).flat_map(|number| open(2 * number + 1, b"")).collect();
    crowded.send(&many).unwrap();
    wait_for(gateway, &format!("{STREAMS}{{reason=\"refused_stream\"}}"), |refused| refused >= 1.0);

    let mut lawless = connect();
    lawless.send(&frame(DATA, END_STREAM, 0, b"x")).unwrap();
    wait_for(gateway, &format!("{CONNECTIONS}{{reason=\"http2_protocol_error\"}}"), |refused| refused == 1.0);
    gateway.wait_for_line("reason=\"http2_protocol_error\"");

    let mut flooding = connect();
    let reset = |stream| [open(stream, b""), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    let flood: Vec<u8> = (0..500).flat_map(|number| reset(2 * number + 1)).collect();
    let _ = flooding.send(&flood);
    wait_for(gateway, &format!("{CONNECTIONS}{{reason=\"http2_enhance_your_calm\"}}"), |refused| {
        refused >= 1.0
    });

    let mut config = secured.client().config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut silent = shaken(config, gateway.https());
    wait_for(gateway, &format!("{CONNECTIONS}{{reason=\"http2_preface\"}}"), |refused| refused == 1.0);
    gateway.wait_for_line("reason=\"http2_preface\"");
    let _ = silent.read(&mut [0; 64]);
}

/// A connection on which nothing but the handshake has been sent.
fn shaken(config: rustls::ClientConfig, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from(NAME).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    stream.conn.complete_io(&mut stream.sock).unwrap();
    stream
}

#[test]
fn a_client_that_offers_http_1_0_alone_is_served() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let mut config = secured.client().config();
    config.alpn_protocols = vec![b"http/1.0".to_vec()];
    let mut stream = shaken(config, secured.gateway.https());
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.0"[..]));
    let call = format!(
        "PATCH /api/customer/unlock HTTP/1.0\r\nHost: {NAME}\r\napi-key: {API_KEY}\r\napi-username: {API_USERNAME}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 15\r\n\r\ncustomer_id=191"
    );
    stream.write_all(call.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("true"), "{answer}");
    // And curl, which of Debian 12 offers that alone.
    let ca = secured.authority.write(secured.folder.path(), "ca.pem");
    let port = secured.gateway.https().port();
    let output = curl_http_1_0(&ca, port).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "true",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn curl_http_1_0(ca: &Path, port: u16) -> Command {
    let mut curl = tool("curl", "install curl");
    curl.args(["--silent", "--show-error", "--http1.0", "--request", "PATCH", "--data", "customer_id=191"])
        .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1"), "--cacert"])
        .arg(ca)
        .args(["--header", &format!("api-key: {API_KEY}")])
        .args(["--header", &format!("api-username: {API_USERNAME}")])
        .arg(format!("https://{NAME}:{port}/api/customer/unlock"));
    curl
}
