//! The admin socket: one mechanism to act on a running gateway, for its own user and root alone.
//!
//! A connection has one line of JSON each way: what is asked, and what came of it.

mod deeds;

use std::{
    convert::Infallible,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream as Blocking,
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{sleep, timeout},
};

use crate::{descriptors::ACCEPT_PAUSE, gateway::Gateway, unix_socket::OwnSocket};

/// How long whoever connects may take to ask, and to take the answer.
const WITHIN: Duration = Duration::from_secs(2);

/// How long an answer is waited for: others may come first, and a trail or a Redis may be slow.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// The most bytes that are read of a question or an answer.
const MAX_LINE: u64 = 16 * 1024;

/// What is asked of a running gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What is left of a user's quota.
    QuotaShow {
        /// The api-username, in whatever case.
        user: String,
    },
    /// Makes a user's quota whole.
    QuotaReset {
        /// The api-username, in whatever case.
        user: String,
    },
    /// Lets client networks in again that are shut out, and forgets their wrong keys.
    ClientsForgive {
        /// All client networks that meet this one, in the form `192.0.2.0/24`.
        network: String,
    },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// It is done; this is to be printed.
    Done(String),
    /// It is not; this is why.
    Failed(String),
}

/// Asks the gateway that listens at a path; returns what is to be printed.
///
/// # Errors
/// Why it is not done.
pub fn ask(path: &Path, request: &Request) -> Result<String, String> {
    let reply = exchange(path, request).map_err(|error| {
        format!("no gateway answers at {}: {error}; is listen.admin_socket in force there?", path.display())
    })?;
    match reply {
        Reply::Done(said) => Ok(said),
        Reply::Failed(why) => Err(why),
    }
}

fn exchange(path: &Path, request: &Request) -> io::Result<Reply> {
    let mut stream = Blocking::connect(path)?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    stream.set_write_timeout(Some(ANSWERED_WITHIN))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = Vec::new();
    BufReader::new(stream.take(MAX_LINE)).read_until(b'\n', &mut reply)?;
    Ok(serde_json::from_slice(&reply)?)
}

/// Does what is asked of the gateway, one after the other, for as long as it is polled; without a socket nothing.
pub async fn serve(socket: Option<OwnSocket>, gateway: &Arc<Gateway>) -> Infallible {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        match socket.accept().await {
            Ok(stream) => {
                if let Err(error) = attend(stream, gateway).await {
                    tracing::warn!(%error, "a connection of the admin socket ends");
                }
            }
            Err(error) => {
                gateway.accept_failed(&error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn attend(mut stream: UnixStream, gateway: &Gateway) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    // The file's mode says so already, unless somebody has changed it.
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("uid {uid} may not ask")));
    }
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let mut line = Vec::new();
    let mut reader = tokio::io::BufReader::new((&mut stream).take(MAX_LINE));
    timeout(WITHIN, reader.read_until(b'\n', &mut line)).await.map_err(late)??;
    if line.is_empty() {
        // Somebody who looked whether anybody is there.
        return Ok(());
    }
    let done = match serde_json::from_slice(&line) {
        Ok(request) => deeds::carry_out(gateway, &request, uid).await,
        Err(error) => Err(format!("the gateway does not know what is asked: {error}")),
    };
    let mut line = serde_json::to_vec(&done.map_or_else(Reply::Failed, Reply::Done))?;
    line.push(b'\n');
    timeout(WITHIN, stream.write_all(&line)).await.map_err(late)?
}
