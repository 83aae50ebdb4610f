//! What a configuration may say, and what is told of one that says something else.

use super::*;

const MINIMAL: &str = "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"n4n.internal:80\"]\n";

fn parse(text: &str) -> Result<Settings, Vec<String>> {
    Settings::parse(text, Path::new("/etc/gateway"))
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn two_lines_are_a_whole_configuration() {
    let settings = parse(MINIMAL).unwrap();
    assert_eq!(settings.listen.admin.to_string(), "127.0.0.1:9464");
    assert_eq!(settings.upstream.host, "n4n.internal");
    assert_eq!(settings.policy.max_body, 8192);
    assert_eq!(settings.log.access, AccessSink::Stdout);
    assert!(settings.quota.is_none() && settings.users.is_empty());
    let number = settings.policy.patterns.of(LookupKey::CustomerId);
    assert!(number.matches(b"191") && !number.matches(b"191\n") && !number.matches(b"abc"));
    assert!(settings.policy.patterns.of(LookupKey::OrderId).matches(b"abc"));
    assert!(settings.warnings().is_empty());
}

#[test]
fn every_default_may_be_written_out() {
    let written = r#"
        mode = "enforce"
        [listen]
        http = ["127.0.0.1:0"]
        https = []
        admin = "127.0.0.1:9464"
        trusted_proxies = []
        max_connections = 10000
        max_in_flight = 1000
        idle_timeout = "60s"
        drain_timeout = "30s"
        admin_hosts = []
        [upstream]
        peers = ["n4n.internal:80"]
        host = "n4n.internal"
        connect_timeout = "2s"
        response_timeout = "30s"
        idle_timeout = "4s"
        [policy]
        other_paths = "reject"
        max_body = "8KiB"
        header_timeout = "10s"
        body_timeout = "10s"
        patterns.customer_id = '[1-9][0-9]{0,17}'
        patterns.subscription_id = '[1-9][0-9]{0,17}|[A-Za-z][0-9A-Za-z_.:-]{0,63}'
        patterns.orderid = '[1-9][0-9]{0,17}|[A-Za-z][0-9A-Za-z_.:-]{0,63}'
        forward_headers = []
        legacy_credentials = false
        [clients]
        networks = ["0.0.0.0/0", "::/0"]
        [access]
        unlisted_users = "forward"
        [log]
        access = "stdout"
    "#;
    let debug = |text: &str| format!("{:?}", parse(text).unwrap());
    assert_eq!(debug(written), debug(MINIMAL));
    let quota = "[quota]\nrequests = 10\nper = \"1s\"\nburst = 20\nmax_users = 100000\nwhen_redis_fails = \"local\"\n";
    assert_eq!(debug(&format!("{MINIMAL}{quota}")), debug(&format!("{MINIMAL}[quota]\n")));
}

#[test]
fn paths_start_at_the_files_folder() {
    let settings = parse(&format!("{MINIMAL}log.access = \"access.log\"")).unwrap();
    assert_eq!(settings.log.access, AccessSink::File("/etc/gateway/access.log".into()));
}

#[test]
fn every_fault_is_told_with_line_reason_and_mend() {
    let text = "[listen]\nhttp = [\"127.0.0.1\"]\nadmin = 9464\nidle_timeout = \"0s\"\n[upstream]\nhost = \"a b\"\n\
                [policy]\nmax_body = \"1MiB\"\nvalue_pattern = \"a)|(b\"\nforward_headers = [\"Api_Key\", \"x ray\"]\n\
                [quota]\nrequests = 0\nbrust = 3\n[[users]]\nname = \"a b\"\nquota = { requests = 1, per = \"1y\" }\n[[users]]\n";
    let faults = parse(text).unwrap_err();
    let expected = [
        "line 2: listen.http: entry 1: is no address with a port; write an address with a port",
        "line 3: listen.admin: a whole number cannot stand here; write an address",
        "line 4: listen.idle_timeout: is zero; write a duration",
        "line 5: upstream.peers: is required and absent; add it: a host and a port",
        "line 6: upstream.host: is no host; write a host",
        "line 8: policy.max_body: is over 64KiB; write at most",
        "line 9: policy.value_pattern: is no regular expression; write a regular expression",
        "line 10: policy.forward_headers: `api_key` folds onto a field that concerns a credential; leave it out",
        "line 10: policy.forward_headers: has an entry that is no field name; write field names",
        "line 12: quota.requests: is zero; write a whole number",
        "line 13: quota.brust: is an unknown key; did you mean burst? known here: requests, per, burst, max_users, redis, when_redis_fails",
        "line 15: users[1].name: can be no api-username; write 1 to 256",
        "line 16: users[1].quota.per: has no unit that is known; write a duration",
        "line 16: users[1].quota.burst: is required and absent; add it: a whole number",
        "line 17: users[2].name: is required and absent; add it: text",
    ];
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}\n{expected}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
}

#[test]
fn a_health_check_has_its_defaults_and_its_faults() {
    let check = |text: &str| parse(&format!("{MINIMAL}upstream.health_check = {{ {text} }}"));
    assert!(parse(MINIMAL).unwrap().upstream.health_check.is_none());
    let default = check("").unwrap().upstream.health_check.unwrap();
    assert_eq!((default.method.as_str(), default.path.as_str()), ("GET", "/"));
    let expected: Vec<u16> = default.expect.iter().map(|status| status.as_u16()).collect();
    assert_eq!(expected, [200, 301, 302, 401, 403, 404]);
    assert_eq!((default.every, default.timeout), (Duration::from_secs(5), Duration::from_secs(1)));
    assert_eq!((default.rise.get(), default.fall.get()), (2, 3));
    for (text, fault) in [
        ("method = \"PATCH\"", "method: is no method that changes nothing; write \"GET\", \"HEAD\""),
        ("path = \"health\"", "path: is no path; write a path such as"),
        ("path = \"/a b\"", "path: is no path; write a path such as"),
        ("expect = []", "expect: is empty: no peer could be healthy; name the statuses"),
        ("expect = [200, 100]", "expect: entry 2: is no status of a final answer; write statuses such as"),
        ("fall = 0", "fall: is zero; write a whole number"),
        ("interval = \"1s\"", "interval: is an unknown key; known here: path, expect, every, timeout"),
    ] {
        let faults = check(text).unwrap_err();
        assert!(faults[0].starts_with(&format!("line 3: upstream.health_check.{fault}")), "{faults:?}");
    }
}

#[test]
fn a_pattern_is_for_one_key_or_for_those_that_have_none_of_their_own() {
    let settings = |text: &str| parse(&format!("{MINIMAL}[policy]\n{text}"));
    let accepted = |text: &str| {
        let policy = settings(text).unwrap().policy;
        LookupKey::ALL.map(|key| {
            let accepts = |value: &&str| policy.patterns.of(key).matches(value.as_bytes());
            ["7", "x7", "0"].into_iter().filter(accepts).collect::<Vec<_>>().join(" ")
        })
    };
    for (text, each) in [
        ("", ["7", "7 x7", "7 x7"]),
        ("value_pattern = 'x[0-9]'", ["x7", "x7", "x7"]),
        ("patterns = {}", ["7", "7 x7", "7 x7"]),
        ("patterns.customer_id = 'x[0-9]'", ["x7", "7 x7", "7 x7"]),
        ("patterns.orderid = '[0-9]'", ["7", "7 x7", "7 0"]),
        ("value_pattern = 'x[0-9]'\npatterns.subscription_id = '[0-9]'", ["x7", "7 0", "x7"]),
    ] {
        assert_eq!(accepted(text), each, "{text}");
    }
    for (text, fault) in [
        ("value_pattern = '[0-9'", "line 4: policy.value_pattern: is no regular expression; write a regular"),
        (
            "patterns.orderid = 'a)|(b'",
            "line 4: policy.patterns.orderid: is no regular expression; write a regular",
        ),
        (
            "patterns.orderid = 7",
            "line 4: policy.patterns.orderid: a whole number cannot stand here; write text",
        ),
        (
            "patterns.order_id = '7'",
            "line 4: policy.patterns.order_id: is an unknown key; did you mean orderid? known here: customer_id,",
        ),
        ("patterns = '7'", "line 4: policy.patterns: text cannot stand here; write a table"),
        (
            "patterns.orderid = '\\p{Greek}'",
            "line 4: policy.patterns.orderid: is about characters beyond ASCII; write",
        ),
        (
            "value_pattern = '7'\npatterns = { customer_id = '1', subscription_id = '2', orderid = '3' }",
            "line 4: policy.value_pattern: is for no key: policy.patterns names each of them; leave it out",
        ),
    ] {
        let faults = settings(text).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with(fault), "{text}: {faults:?}");
    }
}

#[test]
fn a_user_has_the_limit_of_all_but_for_what_it_says_itself() {
    let limits = |section: &str, user: &str| {
        let settings = parse(&format!("{MINIMAL}{section}\n[[users]]\nname = \"a\"\n{user}")).unwrap();
        let numbers = |limit: Limit| (limit.distinct.get(), limit.per.as_secs(), limit.enforces);
        (
            settings.enumeration.map(|unlisted| numbers(unlisted.limit)),
            settings.users[0].enumeration.map(numbers),
        )
    };
    let (default, own) = (Some((50, 3600, false)), Some((9, 60, true)));
    let section = "enumeration = { distinct = 9, per = \"1m\", mode = \"enforce\" }";
    for (section, user, want) in [
        ("", "", (None, None)),
        ("", "enumeration = {}", (None, default)),
        ("[enumeration]", "", (default, default)),
        (section, "", (own, own)),
        (section, "enumeration = {}", (own, own)),
        (section, "enumeration = { distinct = 3 }", (own, Some((3, 60, true)))),
        (section, "enumeration = { mode = \"observe\" }", (own, Some((9, 60, false)))),
        (section, "enumeration = { mode = \"off\" }", (own, None)),
        (
            "[enumeration]",
            "enumeration = { mode = \"enforce\", per = \"744h\" }",
            (default, Some((50, 2_678_400, true))),
        ),
    ] {
        assert_eq!(limits(section, user), want, "{section} {user}");
    }
}

#[test]
fn patterns_that_let_a_number_pass_in_several_spellings_are_warned_of() {
    let told = |text: &str| parse(&format!("{MINIMAL}[policy]\n{text}")).unwrap().warnings();
    let [all] = &told("value_pattern = '[0-9]{1,20}'")[..] else { panic!("one warning") };
    let begins =
        "policy.patterns: customer_id, subscription_id, orderid may be `0`, `0191`, `00191`, `000191` and";
    assert!(all.starts_with(begins), "{all}");
    let [first, second] = &told("patterns = { customer_id = '[1-9][0-9]*[.]0', orderid = '[0-9]' }")[..]
    else {
        panic!("two warnings")
    };
    assert!(
        first.starts_with("policy.patterns: customer_id may be `191.0`, which a number column"),
        "{first}"
    );
    assert!(second.starts_with("policy.patterns: orderid may be `0`, which a number column"), "{second}");
    assert!(told("value_pattern = '[1-9][0-9]{0,9}'").is_empty());
}

#[test]
fn syntax_errors_are_told_by_line() {
    let faults = parse("[listen\nhttp = [").unwrap_err();
    assert!(faults[0].starts_with("line 1: the file: "), "{faults:?}");
}

#[test]
fn what_contradicts_itself_is_a_fault() {
    for (text, reason) in [
        ("listen.admin = \"127.0.0.1:80\"\nlisten.http = [\"127.0.0.1:80\"]", "twice"),
        ("listen.http = []", "is empty"),
        ("listen.admin_socket = \"\"", "is empty"),
        ("listen = { admin_socket = \"a\", upgrade_socket = \"a\" }", "is listen.upgrade_socket too"),
        ("[[users]]\nname = \"a\"\n[[users]]\nname = \"a\"", "listed twice"),
        ("quota = { requests = 1, per = \"1000h\", burst = 4000000000 }", "over ten years"),
        ("mode = \"audit\"", "is neither"),
        ("upstream.peers = [{ name = \"a\" }]", "entry 1: has no `address`"),
        ("upstream.peers = [{ address = \"a:1\", sni = \"a\" }]", "entry 1: has the unknown key `sni`"),
        ("upstream.peers = [{ address = \"a:1\", name = \"a_b\" }]", "no certificate can be checked for"),
        ("upstream.peers = [{ address = \"a:1\", name = \"b\" }]", "there is no TLS"),
        ("log.format = \"xml\"", "is neither"),
        ("quota = { redis = \"redis://redis.internal\", when_redis_fails = \"pass\" }", "is none of these"),
        ("quota = { when_redis_fails = \"reject\" }", "stands without redis"),
        ("quota = { redis = \"http://redis.internal\" }", "is no URL of a Redis server"),
        (
            "quota = { redis = \"env:NO_SUCH_VARIABLE\" }",
            "names the variable `NO_SUCH_VARIABLE`, which is not set",
        ),
        ("quota = { redis = \"file:no/such/file\" }", "names a file that cannot be read"),
        ("[access]\nunlisted_users = \"reject\"", "leaves nobody"),
        ("clients.networks = []", "nobody could call"),
        ("clients.networks = [\"192.0.2.1/24\"]", "bits set behind its prefix"),
        ("clients.networks = [\"::ffff:192.0.2.0/120\"]", "IPv4 written as IPv6"),
        ("[[users]]\nname = \"a\"\nkey_sha256 = []", "not one or two digests"),
        ("[[users]]\nname = \"a\"\nkey_sha256 = [\"abc\"]", "entry 1: is no SHA-256 digest"),
        ("log = { access = \"a.log\", audit = \"a.log\" }", "access log's file too"),
        ("log.audit = \"\"", "is empty"),
        ("users = 3", "no list of tables"),
        ("log = []", "a list cannot stand here"),
        ("[policy]\nother_paths = \"allow\"", "is neither"),
    ] {
        let faults = parse(text).unwrap_err();
        assert!(faults.iter().any(|fault| fault.contains(reason)), "{text}: {faults:?}");
    }
}

#[test]
fn one_port_is_claimed_once() {
    let http =
        |addresses: &str| format!("listen.http = [{addresses}]\nupstream.peers = [\"n4n.internal:80\"]\n");
    for addresses in [
        r#""0.0.0.0:80", "[::]:80""#,
        r#""[::]:80", "0.0.0.0:80""#,
        r#""127.0.0.1:80", "192.0.2.1:80", "[::1]:80""#,
        r#""[::]:80", "0.0.0.0:81""#,
        r#""[::]:0", "0.0.0.0:0", "0.0.0.0:0""#,
        r#""[fe80::1%2]:80", "[fe80::1%3]:80""#,
    ] {
        assert!(parse(&http(addresses)).is_ok(), "{addresses}: {:?}", parse(&http(addresses)));
    }
    for (addresses, reason) in [
        (r#""127.0.0.1:80", "127.0.0.1:80""#, "names 127.0.0.1:80 twice, or the admin listener's; give"),
        (r#""0.0.0.0:80", "127.0.0.1:80""#, "names 127.0.0.1:80, which claims the port of 0.0.0.0:80; give"),
        (r#""127.0.0.1:80", "0.0.0.0:80""#, "names 0.0.0.0:80, which claims the port of 127.0.0.1:80; give"),
        (r#""[::]:80", "[::1]:80""#, "names [::1]:80, which claims the port of [::]:80; give"),
        (r#""[::]:80", "127.0.0.1:80""#, "names 127.0.0.1:80, which claims the port of [::]:80; give"),
        (r#""0.0.0.0:80", "[::ffff:127.0.0.1]:80""#, "names [::ffff:127.0.0.1]:80, which claims the port"),
        (r#""127.0.0.1:80", "[::ffff:127.0.0.1]:80""#, "names [::ffff:127.0.0.1]:80 twice"),
        (r#""0.0.0.0:9464""#, "names 0.0.0.0:9464, which claims the port of 127.0.0.1:9464; give"),
        (r#""[::]:9464""#, "names [::]:9464, which claims the port of 127.0.0.1:9464; give"),
    ] {
        let faults = parse(&http(addresses)).unwrap_err();
        assert_eq!(faults.len(), 1, "{addresses}: {faults:?}");
        assert!(faults[0].starts_with(&format!("line 1: listen.http: {reason}")), "{addresses}: {faults:?}");
    }
}

#[test]
fn a_field_is_forwarded_once_however_often_it_is_named() {
    let forwarded = |names: &str| parse(&format!("{MINIMAL}policy.forward_headers = [{names}]"));
    let names = |text: &str| -> Vec<String> {
        forwarded(text).unwrap().forward_headers.iter().map(ToString::to_string).collect()
    };
    let always = ["accept", "accept-language", "user-agent", "traceparent", "tracestate"];
    assert_eq!(names(""), always);
    assert_eq!(names(r#""accept", "User-Agent""#), always);
    assert_eq!(names(r#""x-b", "Accept", "x-a""#), [&always[..], &["x-b", "x-a"]].concat());
    let faults = forwarded(r#""X-Tenant", "x-b", "x-tenant""#).unwrap_err();
    assert_eq!(faults, ["line 3: policy.forward_headers: names `x-tenant` twice; name it once"]);
}
