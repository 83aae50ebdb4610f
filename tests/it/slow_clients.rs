//! Slow clients: each is gone when its time is over, and those who call beside them do not notice.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::harness::{Call, DEADLINE, Gateway, Http2, NAME, Reply, Secured, TlsClient, Upstream};

const MIB: u64 = 1024 * 1024;

/// The deadline of everything that these clients are slow at.
const DEADLINE_OF_ALL: Duration = Duration::from_secs(3);

/// What a client may be late in going.
const GRACE: Duration = Duration::from_secs(1);

/// How many are slow at the same time. `N4N_SLOW_CLIENTS=2000` is what the gateway is made for; it needs as many
/// file descriptors (`ulimit -n 10000`) and a machine of its own.
fn slow_clients() -> usize {
    std::env::var("N4N_SLOW_CLIENTS").map_or(200, |count| count.parse().unwrap())
}

/// In which way a client is slow.
#[derive(Debug, Clone, Copy)]
enum Habit {
    DripsItsHead,
    DripsItsBody,
    TakesNoAnswer,
    OpensNoWindow,
}

const HABITS: [Habit; 4] =
    [Habit::DripsItsHead, Habit::DripsItsBody, Habit::OpensNoWindow, Habit::TakesNoAnswer];

/// The call that is answered without end.
fn long_answer() -> Call {
    Call::unlock().with("User-Agent", "long")
}

fn upstream() -> Upstream {
    Upstream::scripted(|request| match request.field("User-Agent") {
        Some("long") => Reply::Endless(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".to_vec(),
            vec![b'a'; 16 * 1024],
        ),
        _ => Reply::json("200 OK", "true"),
    })
}

/// Writes bytes, then others one by one, until the other side has had enough; how long that took.
async fn drip(gateway: &Gateway, first: &[u8], then: u8) -> Duration {
    let mut stream = TcpStream::connect(gateway.http()).await.unwrap();
    let start = Instant::now();
    let _ = stream.write_all(first).await;
    let (mut answers, mut requests) = stream.split();
    let dripping = async {
        while requests.write_all(&[then]).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = dripping => {}
        _ = answers.read_to_end(&mut answer) => {}
    }
    start.elapsed()
}

/// Takes nothing of its answer, and finds out by writing whether anybody is still there.
async fn take_nothing(gateway: &Gateway) -> Duration {
    let mut stream = TcpStream::connect(gateway.http()).await.unwrap();
    let start = Instant::now();
    stream.write_all(&long_answer().bytes()).await.unwrap();
    while stream.write_all(b"P").await.is_ok() {
        sleep(Duration::from_millis(100)).await;
    }
    start.elapsed()
}

/// Asks by HTTP/2 for an answer that it opens no window for.
async fn open_no_window(gateway: &Gateway, client: &TlsClient) -> Duration {
    let mut config = client.config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(gateway.https()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(NAME).unwrap(), socket).await.unwrap();
    let handshake = h2::client::Builder::new().initial_window_size(0).handshake::<_, bytes::Bytes>(stream);
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    poll_fn(|cx| sender.poll_ready(cx)).await.unwrap();
    let start = Instant::now();
    let (answer, mut body) = sender.send_request(Http2::unlock(NAME).body(()).unwrap(), false).unwrap();
    body.send_data("customer_id=191".into(), true).unwrap();
    let mut answer = answer.await.unwrap().into_body();
    assert!(answer.data().await.is_none_or(|data| data.is_err()), "there was no window");
    connection.abort();
    start.elapsed()
}

/// The 99th percentile of calls, one after the other, for as long as `go_on`.
fn p99(gateway: &Gateway, go_on: impl Fn() -> bool) -> Duration {
    let (mut wire, mut times) = (gateway.connect(), Vec::new());
    while go_on() {
        let start = Instant::now();
        assert_eq!(wire.call(&Call::unlock()).status(), 200);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn slow_clients_are_gone_in_time_and_nobody_notices() {
    let upstream = upstream();
    let seconds = DEADLINE_OF_ALL.as_secs();
    let deadlines = format!(
        "idle_timeout = \"{seconds}s\"\nmax_in_flight = 10000\n[policy]\nheader_timeout = \"{seconds}s\"\n\
         body_timeout = \"{seconds}s\""
    );
    let secured = Secured::before(&upstream, &deadlines);
    let (gateway, client) = (&secured.gateway, secured.client());
    // Shares the machine and the upstream, but none of its callers is slow.
    let apart = Gateway::before(upstream.address()).start();
    let for_a_while = || {
        let start = Instant::now();
        move || start.elapsed() < DEADLINE_OF_ALL
    };
    let before = p99(gateway, for_a_while());
    let memory = gateway.resident_memory();
    let over = AtomicBool::new(false);
    let (lives, during, apart) = std::thread::scope(|scope| {
        let calling = scope.spawn(|| p99(gateway, || !over.load(Ordering::SeqCst)));
        let calling_apart = scope.spawn(|| p99(&apart, || !over.load(Ordering::SeqCst)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lives = runtime.block_on(async {
            let head = Call::unlock().head();
            let unended = Call::unlock().body("x".repeat(8000)).head();
            let slow = (0..slow_clients()).map(|number| {
                // Few of the last kind: the system takes megabytes for each before it shows that nobody reads them.
                let habit = HABITS[if number % 16 == 0 { 3 } else { number % 3 }];
                let (head, unended, client) = (&head, &unended, &client);
                async move {
                    let life = async {
                        match habit {
                            Habit::DripsItsHead => drip(gateway, &head[..head.len() - 2], b'x').await,
                            Habit::DripsItsBody => drip(gateway, unended, b'x').await,
                            Habit::TakesNoAnswer => take_nothing(gateway).await,
                            Habit::OpensNoWindow => open_no_window(gateway, client).await,
                        }
                    };
                    let life = timeout(DEADLINE, life).await;
                    (habit, life.unwrap_or_else(|_| panic!("{habit:?}: nothing has ended it")))
                }
            });
            futures_util::future::join_all(slow).await
        });
        over.store(true, Ordering::SeqCst);
        (lives, calling.join().unwrap(), calling_apart.join().unwrap())
    });
    let after = p99(gateway, for_a_while());

    for habit in HABITS {
        let lived = lives.iter().filter(|(is, _)| format!("{is:?}") == format!("{habit:?}"));
        let longest = lived.map(|(_, life)| *life).max().unwrap();
        // The time of the last kind begins when the system has taken its megabytes.
        let filling = if matches!(habit, Habit::TakesNoAnswer) { DEADLINE_OF_ALL } else { Duration::ZERO };
        assert!(longest < filling + DEADLINE_OF_ALL + GRACE, "{habit:?}: {longest:?}");
        assert!(longest > DEADLINE_OF_ALL / 2, "{habit:?} was not slow: {longest:?}");
    }
    // Below that it is the noise of an unoptimised build on cores that it shares with those who drive it.
    let usual = before.max(after).max(apart).max(Duration::from_millis(20));
    let told = format!("{during:?} beside slow clients, {apart:?} apart, {before:?} before, {after:?} after");
    assert!(during <= 2 * usual, "p99 {told}");
    eprintln!("p99 {told}");
    gateway.wait_for_metric("n4n_gateway_connections", 0.0);
    let start = Instant::now();
    while gateway.resident_memory() > memory + 8 * MIB {
        let grown = (gateway.resident_memory() - memory) / MIB;
        assert!(start.elapsed() < DEADLINE, "{grown} MiB have not been given back");
        assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    }
    // What they asked for was forwarded, and each call has an end in the log's counts.
    let calls = gateway.metrics();
    assert_eq!(calls.sum("n4n_gateway_in_flight"), 0.0);
    assert!(calls.sum("n4n_gateway_requests_total{code=\"header_timeout\"}") > 0.0);
    assert!(calls.sum("n4n_gateway_requests_total{code=\"body_timeout\"}") > 0.0);
}

#[test]
fn a_call_whose_answer_is_not_taken_still_has_its_outcome_in_the_trail() {
    let upstream = upstream();
    let gateway = Gateway::before(upstream.address())
        .set("listen", "idle_timeout = \"500ms\"")
        .set("log", "audit = \"audit.jsonl\"")
        .start();
    let mut wire = gateway.connect();
    wire.send(long_answer().bytes());
    upstream.wait_for(1);
    // Nothing of the answer is read: it is the gateway that ends this.
    gateway.wait_for_metric("n4n_gateway_connections", 0.0);
    gateway.wait_for_metric("n4n_gateway_requests_total", 1.0);
    let trail = std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
    let records: Vec<serde_json::Value> =
        trail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2, "{trail}");
    assert_eq!(records[0]["request_id"], records[1]["request_id"], "{trail}");
}
