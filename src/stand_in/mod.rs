//! An n4n to try things on: it answers the unlock call as the real one is known to.
//!
//! It reads a request as a PHP application behind CGI does, not as the gateway does: field names are
//! folded (`api_key` is `api-key`), the body is a form whatever its Content-Type, the last of equal
//! names wins, a `POST` can be made a `PATCH` by an override field, and the query string names nobody.
//! Of several lookups it takes the first that is not empty: `customer_id`, `subscription_id`, `orderid`.
//! Only the documented sample pair of credentials, [`SAMPLE_USERNAME`] and [`SAMPLE_KEY`], is let in.
//!
//! # Customers
//!
//! | `customer_id` | `subscription_id` | `orderid` | lock |
//! |---|---|---|---|
//! | `191` | `5191` | `90191`, `90291` | always locked again, so that the documented call can be repeated |
//! | `192` | `5192` | `90192` | locked until it is unlocked |
//! | `193` | `5193` | `90193` | locked until it is unlocked |
//! | `194` | `5194` | `90194` | not locked |
//! | `195` | `5195` | `90195`, `90295` | not locked |
//!
//! The ids are in columns of numbers, and read as MariaDB reads text there: `191abc`, `0191` and `191e0` find 191. The
//! api-username is found in whatever case it is spelt.
//!
//! A locked customer is answered with `true`. One that is not locked or not known gets 200 too, with a
//! JSON object that says so, for n4n's 200 means no more than that the call was well formed. What was
//! unlocked stays so until [`serve`] ends.
//!
//! # Misbehaviour
//!
//! A call that is right in all else can ask for trouble by its id, as in `orderid=slow-200`; a gateway in front takes a
//! `customer_id` for a number, unless it is told otherwise:
//!
//! | id | what happens |
//! |---|---|
//! | `slow-<milliseconds>` | `true` after that time, 60 s at most |
//! | `fail` | 500 with the HTML page of a PHP error |
//! | `html` | 200 with an HTML page instead of JSON |
//! | `big` | 200 with 1 MiB of JSON, chunked |
//! | `half` | half of an answer, then the connection is closed |
//! | `nonsense` | bytes that are not HTTP, then the connection is closed |
//! | `close` | the connection is closed without an answer |
//! | `reset` | the connection is reset without an answer |
//! | `hang` | no answer for as long as the client stays |
//!
//! Beside the unlock call there is a page at `/` for health checks; anything else is 404. A head over
//! 64 KiB or a body over 1 MiB is refused, and a connection that brings no request in a minute is closed.

mod application;
mod customers;
mod request;
mod response;
mod wire;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use application::{Conduct, respond};
use customers::Customers;
use response::Response;
use wire::{NoRequest, Wire};

/// The api-username of n4n's documented samples.
pub const SAMPLE_USERNAME: &str = "n4n_admin";
/// The api-key of n4n's documented samples; it opens nothing but this stand-in.
pub const SAMPLE_KEY: &str = "44b5498dbcb481a0d00b404c0169af62";

/// How long to wait before accepting again when it failed, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Answers whoever connects to `listener` until the future is dropped, which ends all connections too.
///
/// # Errors
///
/// When `listener` does not listen. Other faults of accepting pass.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let customers = Arc::new(Customers::default());
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    conversations.spawn(converse(stream, Arc::clone(&customers)));
                }
                Err(fault) if fault.kind() == io::ErrorKind::InvalidInput => return Err(fault),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

/// Answers the requests of one connection in turn until either side ends it.
async fn converse(stream: TcpStream, customers: Arc<Customers>) {
    let mut wire = Wire::new(stream);
    // However a conversation ends, it concerns nobody but its client.
    let Err(end) = talk(&mut wire, &customers).await;
    match end {
        Ending::Finish => wire.finish().await,
        Ending::Reset => wire.reset(),
        Ending::Drop => {}
    }
}

/// How a connection is ended.
enum Ending {
    /// What was written is seen to arrive.
    Finish,
    /// The client sees a reset.
    Reset,
    /// There is nobody left to care.
    Drop,
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Drop
    }
}

async fn talk(wire: &mut Wire, customers: &Customers) -> Result<Infallible, Ending> {
    loop {
        let request = match wire.request().await {
            Ok(request) => request,
            Err(NoRequest::Unreadable(status)) => {
                wire.send(&Response::page(status, "Unreadable").encode(None)).await?;
                return Err(Ending::Finish);
            }
            Err(NoRequest::Gone) => return Err(Ending::Drop),
        };
        match respond(&request, customers) {
            Conduct::Answer(response) => wire.send(&response.encode(Some(&request))).await?,
            Conduct::AnswerAfter(delay, response) => {
                tokio::time::sleep(delay).await;
                wire.send(&response.encode(Some(&request))).await?;
            }
            Conduct::Break(bytes) => {
                wire.send(bytes).await?;
                return Err(Ending::Finish);
            }
            Conduct::Reset => return Err(Ending::Reset),
            Conduct::Hang => {
                wire.outlast().await;
                return Err(Ending::Drop);
            }
        }
        if request.is_last {
            return Err(Ending::Finish);
        }
    }
}

#[cfg(test)]
mod tests;
