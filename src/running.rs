//! The commands that act on a running gateway, and what each asks of it.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use ipnet::IpNet;

use crate::admin_socket::Request;

/// What can be done about a user's quota.
#[derive(Debug, Subcommand)]
pub enum Quota {
    /// Print what a user has left.
    Show(QuotaOf),
    /// Make a user's quota whole.
    Reset(QuotaOf),
}

/// Whose quota is meant, and where.
#[derive(Debug, Args)]
pub struct QuotaOf {
    /// The api-username, listed or not, in whatever case.
    #[arg(value_name = "NAME")]
    user: String,
    #[command(flatten)]
    running: Running,
}

/// What can be done about clients.
#[derive(Debug, Subcommand)]
pub enum Clients {
    /// Let a client network in again that `clients.wrong_keys` shuts out, and forget its wrong keys.
    Forgive(Forgiven),
}

/// Who is let in again, and where.
#[derive(Debug, Args)]
pub struct Forgiven {
    /// An address, or a network for all within it.
    #[arg(value_name = "NETWORK", value_parser = network)]
    network: IpNet,
    #[command(flatten)]
    running: Running,
}

/// Which running gateway is meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Running {
    /// Its configuration file, for `listen.admin_socket`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Its admin socket.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl Quota {
    /// What it asks of which gateway.
    pub fn request(self) -> (Running, Request) {
        match self {
            Self::Show(QuotaOf { user, running }) => (running, Request::QuotaShow { user }),
            Self::Reset(QuotaOf { user, running }) => (running, Request::QuotaReset { user }),
        }
    }
}

impl Clients {
    /// What it asks of which gateway.
    pub fn request(self) -> (Running, Request) {
        match self {
            Self::Forgive(Forgiven { network, running }) => {
                (running, Request::ClientsForgive { network: network.to_string() })
            }
        }
    }
}

/// A network, or the one that an address is.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse().map(|address: IpAddr| IpNet::from(address.to_canonical()));
    let network = address.or_else(|_| text.parse().map(|network: IpNet| network.trunc()));
    network.map_err(|_| "write an address such as 192.0.2.1, or a network such as 192.0.2.0/24".into())
}
