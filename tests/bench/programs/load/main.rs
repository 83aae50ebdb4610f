//! Sends unlock calls, as fast as answers come or at a fixed rate, and fails at the first answer that is not the
//! one it was told to expect.
//!
//! At a fixed rate each call has its time, and its latency counts from then, whether a connection was free to send
//! it or not: a target that stalls is charged for every call that had to wait.

mod client;
mod streams;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use client::{Client, Fault, Target};

#[derive(Parser)]
struct Arguments {
    /// Where to.
    #[arg(long)]
    target: SocketAddr,
    /// Over TLS; the one certificate to be believed.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// How many connections, each used by one call at a time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// HTTP/2, with so many calls at a time on each connection.
    #[arg(long, requires = "certificate", conflicts_with_all = ["reconnect", "linger", "rate"])]
    streams: Option<usize>,
    /// A new connection for each call.
    #[arg(long)]
    reconnect: bool,
    /// For how long.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How many calls, instead of a time.
    #[arg(long)]
    requests: Option<u64>,
    /// How many seconds connections stay open after the last call.
    #[arg(long, default_value_t = 0.0)]
    linger: f64,
    /// Calls per second; without it, as fast as answers come.
    #[arg(long)]
    rate: Option<u32>,
    /// Who calls; with `--users`, the beginning of their names.
    #[arg(long, default_value = "n4n_admin")]
    user: String,
    /// How many users take turns.
    #[arg(long, default_value_t = 1)]
    users: u64,
    /// The caller's User-Agent.
    #[arg(long, default_value = "load")]
    agent: String,
    /// What is called.
    #[arg(long, default_value = "/api/customer/unlock")]
    path: String,
    /// The call's body.
    #[arg(long, default_value = "customer_id=191")]
    body: String,
    /// The status that every answer must have.
    #[arg(long, default_value_t = 200)]
    expect: u16,
}

/// More than so many calls as are asked for ever take.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The api-key of n4n's documented samples, which the stand-in knows.
const SAMPLE_KEY: &str = "44b5498dbcb481a0d00b404c0169af62";

/// When calls are sent, and which.
struct Plan {
    start: Instant,
    length: Duration,
    requests: u64,
    interval: Option<Duration>,
    next: AtomicU64,
}

impl Plan {
    /// A plan that begins now.
    fn begin(arguments: &Arguments) -> Self {
        Self {
            start: Instant::now(),
            length: arguments.requests.map_or(Duration::from_secs_f64(arguments.seconds), |_| A_DAY),
            requests: arguments.requests.unwrap_or(u64::MAX),
            interval: arguments.rate.map(|rate| Duration::from_secs(1) / rate),
            next: AtomicU64::new(0),
        }
    }

    /// The next call's number and time; none when enough have been sent.
    fn take(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = match self.interval {
            None => Instant::now(),
            Some(interval) => self.start + interval.mul_f64(number as f64),
        };
        (number < self.requests && due < self.start + self.length).then_some((number, due))
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("load: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, Fault> {
    let (length, mut latencies) = match (arguments.streams, &arguments.certificate) {
        (Some(streams), Some(certificate)) => streams::run(arguments, certificate, streams)?,
        _ => one_at_a_time(arguments)?,
    };
    let seconds = length.as_secs_f64();
    latencies.sort_unstable();
    let micros = |share: f64| {
        let rank = (share * latencies.len() as f64) as usize;
        latencies.get(rank).or(latencies.last()).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    };
    Ok(format!(
        "{{\"requests\":{},\"seconds\":{seconds:.4},\"p50\":{:.1},\"p99\":{:.1},\"p99.9\":{:.1}}}",
        latencies.len(),
        micros(0.5),
        micros(0.99),
        micros(0.999)
    ))
}

/// A thread for each connection; how long all of it took, and each call.
fn one_at_a_time(arguments: &Arguments) -> Result<(Duration, Vec<Duration>), Fault> {
    let target = Target::new(arguments.target, arguments.certificate.as_deref())?;
    let mut clients = (0..arguments.connections).map(|_| target.connect()).collect::<Result<Vec<_>, _>>()?;
    let plan = Plan::begin(arguments);
    let latencies = thread::scope(|scope| {
        let work = |client| scope.spawn(|| work(client, &target, &plan, arguments));
        let workers: Vec<_> = clients.iter_mut().map(work).collect();
        let mut latencies = Vec::new();
        for worker in workers {
            latencies.append(&mut worker.join().map_err(|_| Fault::Panic)??);
        }
        Ok::<_, Fault>(latencies)
    })?;
    let length = plan.start.elapsed();
    thread::sleep(Duration::from_secs_f64(arguments.linger));
    Ok((length, latencies))
}

/// Sends calls over one connection, or one after the other, and tells how long each took.
fn work(
    client: &mut Client,
    target: &Target,
    plan: &Plan,
    arguments: &Arguments,
) -> Result<Vec<Duration>, Fault> {
    let mut latencies = Vec::new();
    let mut request = Vec::new();
    while let Some((number, due)) = plan.take() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if arguments.reconnect {
            *client = target.connect()?;
        }
        write_request(&mut request, arguments, number);
        client.call(&request, arguments.expect)?;
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

fn write_request(request: &mut Vec<u8>, arguments: &Arguments, number: u64) {
    use std::io::Write as _;
    let Arguments { user, users, agent, path, body, target, .. } = arguments;
    request.clear();
    let written = write!(
        request,
        "PATCH {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {agent}\r\nAccept: application/json\r\n\
         api-key: {SAMPLE_KEY}\r\napi-username: {user}"
    )
    .and_then(|()| if *users > 1 { write!(request, "{}", number % users) } else { Ok(()) })
    .and_then(|()| {
        let length = body.len();
        write!(
            request,
            "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    });
    written.expect("memory takes all that is written");
}
