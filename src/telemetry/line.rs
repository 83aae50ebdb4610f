//! One request as a line of JSON, written by hand because every request has one.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;

use crate::{outcome::Record, reason::Reason};

/// The text of the second last written, kept because most lines share it.
#[derive(Debug, Default)]
pub(super) struct Second {
    since_epoch: u64,
    text: String,
}

impl Second {
    /// The time, in RFC 3339 with microseconds: what reads six digits and no more takes longer ones for local time.
    pub(super) fn write(&mut self, lines: &mut Vec<u8>, time: SystemTime) {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.since_epoch != since_epoch.as_secs() {
            self.since_epoch = since_epoch.as_secs();
            let second = UNIX_EPOCH + Duration::from_secs(self.since_epoch);
            self.text = Timestamp::try_from(second).unwrap_or_default().to_string();
            self.text.truncate("2026-01-01T00:00:00".len());
        }
        lines.extend_from_slice(self.text.as_bytes());
        lines.push(b'.');
        padded::<6>(lines, since_epoch.subsec_micros().into());
        lines.push(b'Z');
    }
}

/// Adds a record's line.
pub(super) fn write(lines: &mut Vec<u8>, second: &mut Second, record: &Record<'_>) {
    lines.extend_from_slice(b"{\"time\":\"");
    second.write(lines, record.time);
    lines.extend_from_slice(b"\",\"request_id\":\"");
    lines.extend_from_slice(record.request_id.encode(&mut [0; 36]).as_bytes());
    lines.extend_from_slice(b"\",\"client\":");
    optional(lines, record.client, |lines, client| quoted(lines, |lines| address(lines, client)));
    lines.extend_from_slice(b",\"user\":");
    optional(lines, record.user, escaped);
    lines.extend_from_slice(b",\"method\":");
    optional(lines, record.method, escaped);
    lines.extend_from_slice(b",\"path\":");
    optional(lines, record.path, escaped);
    lines.extend_from_slice(b",\"status\":");
    optional(lines, record.status, |lines, status| integer(lines, status.into()));
    lines.extend_from_slice(b",\"outcome\":");
    quoted(lines, |lines| lines.extend_from_slice(record.outcome.label().as_bytes()));
    lines.extend_from_slice(b",\"code\":");
    quoted(lines, |lines| lines.extend_from_slice(record.outcome.code().as_bytes()));
    lines.extend_from_slice(b",\"duration_ms\":");
    millis(lines, record.duration);
    lines.extend_from_slice(b",\"upstream_ms\":");
    optional(lines, record.upstream_duration, millis);
    lines.extend_from_slice(b",\"peer\":");
    optional(lines, record.peer, |lines, peer| quoted(lines, |lines| socket(lines, peer)));
    lines.extend_from_slice(b",\"lookup\":");
    optional(lines, record.lookup, |lines, key| {
        quoted(lines, |lines| lines.extend_from_slice(key.name().as_bytes()));
    });
    if let Some(observed) = record.observed.map(Reason::code) {
        lines.extend_from_slice(b",\"observed\":");
        quoted(lines, |lines| lines.extend_from_slice(observed.as_bytes()));
    }
    if let Some(certificate) = record.client_certificate {
        lines.extend_from_slice(b",\"client_certificate\":");
        escaped(lines, certificate);
    }
    lines.extend_from_slice(b"}\n");
}

fn optional<T>(lines: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => write(lines, value),
        None => lines.extend_from_slice(b"null"),
    }
}

/// What needs no escaping.
fn quoted(lines: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    lines.push(b'"');
    write(lines);
    lines.push(b'"');
}

/// Text that a client chose.
fn escaped(lines: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(lines, text).expect("memory takes all that is written");
}

fn address(lines: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            integer(lines, first.into());
            for octet in rest {
                lines.push(b'.');
                integer(lines, octet.into());
            }
        }
        IpAddr::V6(address) => write!(lines, "{address}").expect("memory takes all that is written"),
    }
}

fn socket(lines: &mut Vec<u8>, peer: SocketAddr) {
    match peer {
        SocketAddr::V4(peer) => {
            address(lines, (*peer.ip()).into());
            lines.push(b':');
            integer(lines, peer.port().into());
        }
        SocketAddr::V6(peer) => write!(lines, "{peer}").expect("memory takes all that is written"),
    }
}

/// Milliseconds with microseconds behind the point.
fn millis(lines: &mut Vec<u8>, duration: Duration) {
    integer(lines, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    lines.push(b'.');
    padded::<3>(lines, (duration.subsec_micros() % 1000).into());
}

fn integer(lines: &mut Vec<u8>, value: u64) {
    lines.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The last `N` digits.
fn padded<const N: usize>(lines: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    lines.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outcome::{Outcome, RequestId},
        policy::LookupKey,
    };

    fn line(record: &Record<'_>) -> serde_json::Value {
        let mut lines = Vec::new();
        write(&mut lines, &mut Second::default(), record);
        assert_eq!(lines.pop(), Some(b'\n'));
        assert!(!lines.contains(&b'\n'));
        serde_json::from_slice(&lines).unwrap()
    }

    #[test]
    fn a_line_is_json_whatever_a_client_chose() {
        let id = RequestId::next();
        let record = Record {
            time: UNIX_EPOCH + Duration::new(1_767_225_599, 1_002_003),
            request_id: id,
            client: Some("192.0.2.10".parse().unwrap()),
            user: Some("a\"b\\c\n\u{1}é"),
            listed: None,
            method: Some("PATCH"),
            path: Some("/\u{7f}\""),
            outcome: Outcome::Forwarded { status: 200 },
            status: Some(200),
            duration: Duration::new(61, 20_999),
            upstream_duration: Some(Duration::from_micros(1_500)),
            peer: Some("192.0.2.1:80".parse().unwrap()),
            lookup: Some(LookupKey::OrderId),
            unlock: None,
            observed: Some(Reason::QuotaExceeded),
            client_certificate: Some("CN=\"a\""),
            suspicion: None,
        };
        assert_eq!(
            line(&record),
            serde_json::json!({
                "time": "2025-12-31T23:59:59.001002Z", "request_id": id.to_string(), "client": "192.0.2.10",
                "user": "a\"b\\c\n\u{1}é", "method": "PATCH", "path": "/\u{7f}\"", "status": 200,
                "outcome": "forwarded", "code": "ok", "duration_ms": 61000.020, "upstream_ms": 1.5,
                "peer": "192.0.2.1:80", "lookup": "orderid", "observed": "quota_exceeded",
                "client_certificate": "CN=\"a\"",
            })
        );
    }

    #[test]
    fn what_is_not_known_is_null() {
        let record = Record {
            time: UNIX_EPOCH,
            request_id: RequestId::next(),
            client: Some("2001:db8::1".parse().unwrap()),
            user: None,
            listed: None,
            method: None,
            path: None,
            outcome: Outcome::Abandoned,
            status: None,
            duration: Duration::ZERO,
            upstream_duration: None,
            peer: Some("[2001:db8::2]:443".parse().unwrap()),
            lookup: None,
            unlock: None,
            observed: None,
            client_certificate: None,
            suspicion: None,
        };
        let line = line(&record);
        assert_eq!(line["time"], "1970-01-01T00:00:00.000000Z");
        assert_eq!((&line["client"], &line["peer"]), (&"2001:db8::1".into(), &"[2001:db8::2]:443".into()));
        assert_eq!(line["duration_ms"], 0.0);
        for name in ["user", "method", "path", "status", "upstream_ms", "lookup"] {
            assert!(line[name].is_null() && line.get(name).is_some(), "{name}");
        }
        assert!(line.get("observed").is_none() && line.get("client_certificate").is_none());
    }
}
