//! Which spellings of the two credentials PHP reads as them, asked of real servers, and that none gets through.

mod servers;

use std::collections::BTreeSet;

use crate::harness::{API_KEY, API_USERNAME, Call, Gateway, Message, Php, Upstream};
use servers::{Server, VALUE};

/// The credentials, and where PHP's answer has them.
const NAMES: [(&str, &str); 2] = [("api-key", "key"), ("api-username", "username")];

/// What may stand in a field's name beside letters and digits (RFC 9110 section 5.6.2).
const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";

type Spelling = Vec<u8>;

/// A name with other bytes for its hyphen, in other cases, and with bytes before and behind it.
fn variations(name: &str) -> BTreeSet<Spelling> {
    let (api, rest) = name.split_once('-').unwrap();
    let [api, rest] = [api.as_bytes(), rest.as_bytes()];
    let mut spellings = BTreeSet::new();
    // A colon would end the name, and a line's end the field.
    for byte in (1..=u8::MAX).filter(|byte| !b":\r\n".contains(byte)) {
        let apart = [api, &[byte], rest].concat();
        let upper = apart.to_ascii_uppercase();
        let title = [&upper[..1], &apart[1..4], &upper[4..5], &apart[5..]].concat();
        let mixed = [&apart[..2], &upper[2..5], &apart[5..6], &upper[6..]].concat();
        let around = [[&[byte][..], name.as_bytes()].concat(), [name.as_bytes(), &[byte]].concat()];
        spellings.extend([apart, upper, title, mixed].into_iter().chain(around));
    }
    spellings
}

/// What a server reads as one of the credentials.
fn folded_by(server: &Server) -> BTreeSet<Spelling> {
    let mut folded = BTreeSet::new();
    for (name, place) in NAMES {
        let variations = variations(name).into_iter();
        folded.extend(
            variations.filter(|spelling| server.ask(spelling).is_some_and(|given| given[place] == VALUE)),
        );
    }
    folded
}

/// Checks that marks for the hyphen, in small letters, are among the spellings.
fn assert_holds(spellings: &BTreeSet<Spelling>, marks: &str) {
    for mark in marks.chars() {
        for (name, _) in NAMES {
            let spelling = name.replace('-', &mark.to_string());
            assert!(spellings.contains(spelling.as_bytes()), "{spelling} is not read as {name}");
        }
    }
}

/// A call with these fields for its credentials.
fn call_with(fields: &[(&[u8], &str)]) -> Vec<u8> {
    let rest = Call::unlock().without("api-key").without("api-username").bytes();
    let line = rest.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
    let lines = fields.iter().map(|(name, value)| [*name, b": ", value.as_bytes(), b"\r\n"].concat());
    [&rest[..line], &lines.collect::<Vec<_>>().concat(), &rest[line..]].concat()
}

fn answer_to(gateway: &Gateway, fields: &[(&[u8], &str)]) -> Message {
    let mut wire = gateway.connect();
    wire.send(call_with(fields));
    wire.answer()
}

/// Checks that a forwarded call has each credential once, in its one spelling.
fn assert_forwards(request: &Message, key: &str, username: &str) {
    assert_eq!((request.one("api-key"), request.one("api-username")), (key, username));
    let names: BTreeSet<String> = request.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let rest: Vec<&String> = names.iter().filter(|name| name.starts_with("api")).collect();
    assert_eq!(rest, ["api-key", "api-username"]);
}

/// Checks that no spelling but the right one is forwarded, neither beside that nor in its place.
fn assert_none_passes(spellings: &BTreeSet<Spelling>) {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    let credentials: [(&[u8], &str); 2] = [(b"api-key", API_KEY), (b"api-username", API_USERNAME)];
    for spelling in spellings {
        let shown = spelling.escape_ascii();
        let is_token = spelling.iter().all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(byte));
        let code = |code: &'static str| if is_token { code } else { "request_malformed" };
        if NAMES.iter().any(|(name, _)| spelling.eq_ignore_ascii_case(name.as_bytes())) {
            continue;
        }
        for value in [VALUE, ""] {
            for fields in [
                [(spelling.as_slice(), value), credentials[0], credentials[1]],
                [credentials[0], credentials[1], (spelling, value)],
            ] {
                let answer = answer_to(&gateway, &fields);
                assert_eq!(answer.code(), code("credential_ambiguous"), "{shown} beside: {answer:?}");
            }
        }
        let in_place = credentials.map(|(name, value)| {
            (if name.len() == spelling.len() { spelling.as_slice() } else { name }, value)
        });
        let answer = answer_to(&gateway, &in_place);
        assert_eq!(answer.code(), code("credential_missing"), "{shown} alone: {answer:?}");
    }
    assert_eq!(upstream.bytes(), b"");
    assert_eq!(answer_to(&gateway, &credentials).text(), "true");
    assert_forwards(&upstream.requests()[0], API_KEY, API_USERNAME);
}

#[test]
fn nothing_that_phps_own_server_reads_as_a_credential_gets_through() {
    let folded = folded_by(&Server::php());
    assert_holds(&folded, "-_.");
    assert_none_passes(&folded);
}

#[test]
fn nothing_that_php_fpm_behind_nginx_reads_as_a_credential_gets_through() {
    let folded = folded_by(&Server::fpm_behind_nginx(""));
    assert_holds(&folded, "-_");
    assert_none_passes(&folded);

    let lenient = folded_by(&Server::fpm_behind_nginx("ignore_invalid_headers off;"));
    assert_holds(&lenient, "-_.");
    assert_none_passes(&lenient);
}

/// php-cgi is run as a server would, with a variable made from the field as RFC 3875 section 4.1.18 says; and
/// as servers do that make an underscore of whatever is no letter or digit.
#[test]
fn nothing_that_php_cgi_reads_as_a_credential_gets_through() {
    let strict = |spelling: &str| spelling.replace('-', "_").to_ascii_uppercase();
    let lenient = |spelling: &str| -> String {
        spelling
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect()
    };
    let mut folded = BTreeSet::new();
    for (name, place) in NAMES {
        for mark in MARKS {
            let spelling = name.replace('-', &char::from(*mark).to_string());
            let variables: BTreeSet<String> = [strict(&spelling), lenient(&spelling)]
                .into_iter()
                .map(|name| format!("HTTP_{name}"))
                .collect();
            if variables.iter().any(|variable| servers::ask_cgi(variable)[place] == VALUE) {
                folded.extend(variations_in_case(&spelling));
            }
        }
    }
    assert_holds(&folded, str::from_utf8(MARKS).unwrap());
    assert_none_passes(&folded);
}

fn variations_in_case(spelling: &str) -> [Spelling; 2] {
    [spelling.into(), spelling.to_ascii_uppercase().into()]
}

#[test]
fn legacy_spellings_pass_where_they_may_and_are_forwarded_in_the_right_ones() {
    let php = Php::start();
    let upstream = Upstream::start();
    let [before_php, gateway] = [php.address(), upstream.address()]
        .map(|address| Gateway::before(address).set("policy", "legacy_credentials = true").start());
    let mut passed = 0;
    for key in ["api_key", "API_KEY", "Api_Key", "api-key", "Api-Key"] {
        for username in ["api_username", "API_USERNAME", "Api_Username", "api-username"] {
            let fields = [(key.as_bytes(), API_KEY), (username.as_bytes(), API_USERNAME)];
            assert_eq!(answer_to(&gateway, &fields).text(), "true", "{key} {username}");
            passed += 1;
            assert_forwards(&upstream.wait_for(passed), API_KEY, API_USERNAME);

            assert_eq!(answer_to(&before_php, &fields).text(), "true", "{key} {username}");
            let seen = php.seen().pop().unwrap();
            assert_eq!(seen["server"]["HTTP_API_KEY"], API_KEY);
            assert_eq!(seen["server"]["HTTP_API_USERNAME"], API_USERNAME);
        }
    }

    let credentials: [(&[u8], &str); 2] = [(b"api_key", API_KEY), (b"api_username", API_USERNAME)];
    for also in ["api-key", "API_KEY", "api.key", "api-username", "api_username", "api~username"] {
        for value in [VALUE, ""] {
            let answer = answer_to(&gateway, &[credentials[0], (also.as_bytes(), value), credentials[1]]);
            assert_eq!(answer.code(), "credential_ambiguous", "{also}: {value}");
        }
    }
    for mark in MARKS.iter().filter(|mark| !b"-_".contains(mark)) {
        for name in NAMES.map(|(name, _)| name.replace('-', &char::from(*mark).to_string())) {
            let fields = credentials.map(|(legacy, value)| {
                (if legacy.len() == name.len() { name.as_bytes() } else { legacy }, value)
            });
            assert_eq!(answer_to(&gateway, &fields).code(), "credential_missing", "{name}");
        }
    }
    assert_eq!(upstream.count(), passed, "a refused call was forwarded");
}
