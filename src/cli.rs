//! The commands and their flags.

use std::{
    ffi::OsStr,
    fmt,
    future::pending,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;

use crate::{
    admin_socket::{self, Request},
    audit,
    check::Checked,
    config::{AccessSink, Inspection, Settings},
    demo,
    explain::Explanation,
    gateway::Gateway,
    policy::{access::KeyDigest, credential},
    print::{Printed, print},
    running::{Clients, Quota, Running},
    secret_input,
    server::{self, Control, Server},
    stand_in,
    telemetry::log,
};

/// A gateway for the customer-unlock call of NATS for Networks (n4n).
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve in the foreground until SIGTERM.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Take the listening sockets over from the running process, once it gets SIGQUIT.
        #[arg(long)]
        upgrade: bool,
    },
    /// Read the whole configuration and print every fault, also in what `run` would open, or what will be; opens no port.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print faults, warnings and summary as JSON, and nothing else.
        #[arg(long)]
        json: bool,
    },
    /// Run a gateway with an n4n stand-in behind it; nothing to configure.
    Demo {
        /// The gateway's address; 0.0.0.0 is reached from other machines too.
        #[arg(long, value_name = "ADDR", default_value_t = LOOPBACK)]
        listen: IpAddr,
        /// The gateway's port.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// The admin listener's address.
        #[arg(long, value_name = "ADDR", default_value_t = LOOPBACK)]
        admin_listen: IpAddr,
        /// The admin listener's port.
        #[arg(long, default_value_t = 9464)]
        admin_port: u16,
        /// Also send a lively mix of good and bad calls.
        #[arg(long)]
        traffic: bool,
    },
    /// Judge one raw HTTP/1.1 request from standard input, without sending anything; exit 1 where it would be refused.
    Explain {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// From which address the request comes.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
        client: IpAddr,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read an api-key from standard input and print its `key_sha256` line.
    HashKey,
    /// Look after an audit trail.
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
    /// Look at the quota of a user in a running gateway, or make it whole.
    Quota {
        #[command(subcommand)]
        command: Quota,
    },
    /// Act on the clients that a running gateway shuts out.
    Clients {
        #[command(subcommand)]
        command: Clients,
    },
    /// Run the n4n stand-in alone.
    StandIn {
        /// Where it listens.
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
    },
}

#[derive(Debug, Subcommand)]
enum Audit {
    /// Check a trail's chain, its files in order; print its length and the hash of its last record.
    Verify {
        /// The trail's files, the oldest first.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Where a demo is reached, unless it is told otherwise: from this machine alone.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The most bytes that `explain` reads, far more than any request that passes.
const LONGEST_REQUEST: usize = 1024 * 1024;

/// The most bytes that `hash-key` reads, far more than any key has.
const LONGEST_INPUT: usize = 4096;

/// The exit code for a configuration that is not sound.
const UNSOUND: u8 = 2;

/// How long the end of a process that served waits for its last log lines to be taken.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// How long a command's reader may take, a person with a pager perhaps.
const READ_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

impl Cli {
    /// Whether a command, by its name, acts on signals while it serves.
    pub fn acts_on_signals(command: &OsStr) -> bool {
        command == "run" || command == "demo"
    }

    /// Carries the command out; `control` is there already for one that acts on signals.
    pub fn run(self, control: Option<io::Result<Control>>) -> ExitCode {
        if let Err(error) = log::start() {
            // Without a log there is nobody to hold up yet.
            let _ = writeln!(io::stderr(), "cannot start: {error}");
            return ExitCode::FAILURE;
        }
        std::panic::set_hook(Box::new(tell_of_panic));
        let serves = matches!(self.command, Command::Run { .. } | Command::Demo { .. });
        let _told = Told { within: if serves { TOLD_WITHIN } else { READ_WITHIN } };
        self.carry_out(|| control.unwrap_or_else(Control::begin))
    }

    fn carry_out(self, control: impl FnOnce() -> io::Result<Control>) -> ExitCode {
        match self.command {
            Command::Run { config, upgrade } => load(&config, Inspection::ToStart).map_or_else(
                |code| code,
                |settings| {
                    log::follow(settings.log.level, settings.log.format);
                    finish(run(settings, &config, upgrade, control))
                },
            ),
            Command::Check { config, json } => check(&config, json),
            Command::Demo { listen, port, admin_listen, admin_port, traffic } => {
                let (http, admin) =
                    (SocketAddr::new(listen, port), SocketAddr::new(admin_listen, admin_port));
                if port != 0 && http == admin {
                    log::say(format_args!("--port and --admin-port are both {port}; name two ports"));
                    return ExitCode::from(UNSOUND);
                }
                let control = control().map_err(server::Error::from);
                finish(control.and_then(|control| demo::run(http, admin, traffic, control)))
            }
            Command::Explain { config, client, json } => load(&config, Inspection::Alone).map_or_else(
                |code| code,
                |settings| match explain(settings, client, json) {
                    Ok(Explained::Forwarded) => ExitCode::SUCCESS,
                    Ok(Explained::Refused) => ExitCode::FAILURE,
                    Err(error) => finish(Err(error)),
                },
            ),
            Command::Audit { command: Audit::Verify { files } } => verify(&files),
            Command::Quota { command } => ask(command.request()),
            Command::Clients { command } => ask(command.request()),
            Command::HashKey => finish(hash_key()),
            Command::StandIn { listen } => finish(run_stand_in(listen)),
        }
    }
}

/// Waits at the end of a command, a defect's included, until its last log lines are taken.
struct Told {
    within: Duration,
}

impl Drop for Told {
    fn drop(&mut self) {
        log::flush(self.within);
    }
}

/// Says where it was and not what it was about, which may be a client's secret.
fn tell_of_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let at = panic.location().map(ToString::to_string);
    tracing::error!(at, thread = std::thread::current().name(), "a defect in the gateway; please report it");
}

fn load(config: &Path, inspection: Inspection) -> Result<Settings, ExitCode> {
    Settings::load(config, inspection).map_err(|faults| {
        for fault in &faults {
            log::say(format_args!("{}: {fault}", config.display()));
        }
        ExitCode::from(UNSOUND)
    })
}

fn check(config: &Path, json: bool) -> ExitCode {
    let checked = Checked::of(config);
    let told = if json {
        serde_json::to_string_pretty(&checked)
            .map_err(|error| error.to_string())
            .and_then(|text| tell(text + "\n"))
    } else {
        checked.say();
        tell(&checked)
    };
    match told {
        Ok(()) if !checked.is_sound() => ExitCode::from(UNSOUND),
        told => finish(told),
    }
}

fn run(
    settings: Settings,
    config: &Path,
    is_upgrade: bool,
    control: impl FnOnce() -> io::Result<Control>,
) -> Result<(), server::Error> {
    let control = control()?;
    let server = if is_upgrade {
        Server::take_over(settings, control)?
    } else {
        Some(Server::open(settings, control)?)
    };
    server.map_or(Ok(()), |server| server.run(Some(config), pending()))
}

fn finish<E: fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Who closes our output early has not read that the trail is whole.
fn verify(files: &[PathBuf]) -> ExitCode {
    match audit::verify(files) {
        Ok(verified) => match print(verified) {
            Ok(Printed::Whole) => ExitCode::SUCCESS,
            Ok(Printed::ReaderLeft) => ExitCode::FAILURE,
            Err(error) => finish(Err(format!("cannot print: {error}"))),
        },
        Err(broken) => {
            log::say(format_args!("{broken}"));
            ExitCode::FAILURE
        }
    }
}

/// Has a running gateway do something, and prints what it says.
fn ask((running, request): (Running, Request)) -> ExitCode {
    let configured = running.config.map(|config| {
        load(&config, Inspection::Alone).map(|settings| (config, settings.listen.admin_socket))
    });
    let socket = match configured {
        Some(Err(code)) => return code,
        Some(Ok((config, None))) => {
            log::say(format_args!(
                "{}: listen.admin_socket: is not set; set it and restart",
                config.display()
            ));
            return ExitCode::from(UNSOUND);
        }
        Some(Ok((_, socket))) => socket,
        None => running.socket,
    };
    // One of the two is there.
    finish(admin_socket::ask(&socket.unwrap_or_default(), &request).and_then(tell))
}

/// What would become of a request, which is the command's exit code.
enum Explained {
    Forwarded,
    Refused,
}

fn explain(mut settings: Settings, client: IpAddr, json: bool) -> Result<Explained, String> {
    // Nothing is forwarded, so nothing is recorded.
    settings.log.access = AccessSink::Off;
    settings.log.audit = None;
    let request =
        secret_input::read(LONGEST_REQUEST).map_err(|error| format!("cannot read the request: {error}"))?;
    if request.is_empty() {
        return Err("there is no request; give a raw HTTP/1.1 request on standard input".into());
    }
    let gateway = Gateway::open(settings).map_err(|error| error.to_string())?;
    let explanation = Explanation::of(&gateway.live(), client, &request);
    let text = if json {
        serde_json::to_string_pretty(&explanation).map_err(|error| error.to_string())? + "\n"
    } else {
        explanation.to_string()
    };
    tell(text)?;
    Ok(if explanation.is_refused() { Explained::Refused } else { Explained::Forwarded })
}

/// Prints what a command has found out.
fn tell(text: impl fmt::Display) -> Result<(), String> {
    print(text).map(drop).map_err(|error| format!("cannot print: {error}"))
}

/// Digests the key on standard input; it is shown nowhere and wiped afterwards.
fn hash_key() -> Result<(), String> {
    let key = secret_input::read_or_ask("api-key (it is not shown): ", LONGEST_INPUT)
        .map_err(|error| format!("cannot read the key: {error}"))?;
    let line = key.strip_suffix(b"\n").unwrap_or(&key);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || !credential::is_well_formed(line) {
        return Err("the key must be 1 to 256 visible ASCII characters; give it on standard input".into());
    }
    tell(format_args!("key_sha256 = [\"{:x}\"]\n", KeyDigest::of(line)))
}

fn run_stand_in(listen: SocketAddr) -> Result<(), server::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bound = TcpListener::bind(listen).await;
        let listener = bound.map_err(|source| server::Error::Listen { address: listen, source })?;
        match print(format_args!("n4n stand-in on http://{}\n", listener.local_addr()?))? {
            Printed::Whole => Ok(stand_in::serve(listener).await?),
            // Nobody is to know where it is.
            Printed::ReaderLeft => Ok(()),
        }
    })
}
