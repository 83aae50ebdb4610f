//! What the application makes of a request.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use super::customers::{CustomerKey, Customers, Unlock};
use super::request::CgiRequest;
use super::response::Response;
use super::{SAMPLE_KEY, SAMPLE_USERNAME};
use crate::php;

const UNLOCK_PATH: &str = "/api/customer/unlock";

/// Fields by which a client that can only `POST` asks for another method.
const OVERRIDES: [&str; 3] = ["HTTP_X_HTTP_METHOD_OVERRIDE", "HTTP_X_HTTP_METHOD", "HTTP_X_METHOD_OVERRIDE"];

/// The longest an answer is held back.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The size of the answer to `big`.
const BIG: usize = 1024 * 1024;

/// What an application says of itself that has lost its database.
const FATAL_ERROR: &str = "<br />\n<b>Fatal error</b>:  Uncaught PDOException: SQLSTATE[HY000] [2002] \
    Connection refused in /var/www/n4n/lib/db.php:42\nStack trace:\n#0 {main}\n  thrown in \
    <b>/var/www/n4n/lib/db.php</b> on line <b>42</b><br />";

/// How a request is answered.
#[derive(Debug)]
pub(super) enum Conduct {
    /// The answer.
    Answer(Response),
    /// The answer, in a while.
    AnswerAfter(Duration, Response),
    /// These bytes and a close.
    Break(&'static [u8]),
    /// A reset.
    Reset,
    /// Nothing at all.
    Hang,
}

/// What `request` is met with; `customers` remember it.
pub(super) fn respond(request: &CgiRequest, customers: &Customers) -> Conduct {
    if request.path != UNLOCK_PATH {
        let is_home = request.path == "/" && matches!(request.method.as_str(), "GET" | "HEAD");
        return Conduct::Answer(if is_home {
            Response::page(StatusCode::OK, "It works.")
        } else {
            Response::page(StatusCode::NOT_FOUND, "Not found.")
        });
    }
    if !is_patch(request) {
        let wrong = Response::error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
        return Conduct::Answer(wrong.allowing("PATCH"));
    }
    let (username, key) = (request.variable("HTTP_API_USERNAME"), request.variable("HTTP_API_KEY"));
    // A database finds the name in whatever case it is spelt.
    let is_known = username.is_some_and(|name| name.eq_ignore_ascii_case(SAMPLE_USERNAME.as_bytes()))
        && key == Some(SAMPLE_KEY.as_bytes());
    if !is_known {
        return Conduct::Answer(Response::error(StatusCode::UNAUTHORIZED, "Invalid api-username or api-key"));
    }
    let Some((key, value)) = lookup(&request.body) else {
        return Conduct::Answer(Response::error(
            StatusCode::BAD_REQUEST,
            "One of customer_id, subscription_id and orderid is required",
        ));
    };
    if let Some(trouble) = trouble(&value) {
        return trouble;
    }
    Conduct::Answer(match customers.unlock(key, &value) {
        Unlock::Done => unlocked(),
        Unlock::NotLocked => Response::error(StatusCode::OK, "Customer is not locked"),
        Unlock::Unknown => Response::error(StatusCode::OK, "Customer not found"),
    })
}

fn unlocked() -> Response {
    Response::json(&b"true"[..])
}

fn is_patch(request: &CgiRequest) -> bool {
    match request.method.as_str() {
        "PATCH" => true,
        "POST" => OVERRIDES
            .iter()
            .find_map(|name| request.variable(name))
            .is_some_and(|method| method.eq_ignore_ascii_case(b"PATCH")),
        _ => false,
    }
}

/// The first lookup that PHP's `empty` does not call empty.
fn lookup(body: &[u8]) -> Option<(CustomerKey, Cow<'_, [u8]>)> {
    CustomerKey::ALL.into_iter().find_map(|key| {
        let last = php::parse_str(body).filter(|variable| *variable.name == *key.name().as_bytes()).last()?;
        let is_empty = matches!(*last.value, [] | [b'0']);
        (!last.is_array && !is_empty).then_some((key, last.value))
    })
}

/// The misbehaviour that an id asks for.
fn trouble(id: &[u8]) -> Option<Conduct> {
    Some(match id {
        b"fail" => Conduct::Answer(Response::page(StatusCode::INTERNAL_SERVER_ERROR, FATAL_ERROR)),
        b"html" => Conduct::Answer(Response::page(StatusCode::OK, "Please log in.")),
        b"big" => {
            let mut json = vec![b'n'; BIG];
            json[0] = b'"';
            json[BIG - 1] = b'"';
            Conduct::Answer(Response::json(json).chunked())
        }
        b"half" => Conduct::Break(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntr",
        ),
        b"nonsense" => Conduct::Break(b"\x00\x01\x02 this is not HTTP \xff\xfe\r\n\r\n"),
        b"close" => Conduct::Break(b""),
        b"reset" => Conduct::Reset,
        b"hang" => Conduct::Hang,
        _ => {
            let digits = str::from_utf8(id.strip_prefix(b"slow-")?).ok()?;
            let delay = Duration::from_millis(digits.parse().ok()?);
            Conduct::AnswerAfter(delay.min(MAX_DELAY), unlocked())
        }
    })
}
