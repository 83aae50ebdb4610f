//! Fields that claim an address, a host or a target of the client's own choice: dropped or refused, whatever the mode and
//! however they are spelt.

use crate::harness::{Call, Gateway, Upstream};

/// Claims of an address or a host, some of each kind.
const ORIGIN: &str = "
    Client-IP True-Client-IP CF-Connecting-IP X-Client-IP X-Cluster-Client-IP X-Original-Host Proxy
    X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Prefix X-Forwarded Forwarded Forwarded-For
    X-Real-IP Fastly-Client-IP X-Azure-ClientIP X-Appengine-User-IP X-Envoy-External-Address X-ProxyUser-IP
    WL-Proxy-Client-IP X-Host X-HTTP-Host-Override X-Remote-Addr Remote-Addr
";

/// Claims of another target.
const TARGET: &str = "
    X-Original-URL X-Rewrite-URL X-Original-URI X-Forwarded-Uri X-Override-URL X-Proxy-URL
";

/// The spellings of a name that some server gives an application as the same.
fn spellings(names: &str) -> impl Iterator<Item = String> {
    names.split_whitespace().flat_map(|name| {
        [name.to_owned(), name.to_uppercase(), name.replace('-', "_"), name.to_lowercase().replace('-', ".")]
    })
}

/// A gateway in each mode, and calls that it lets pass in different ways.
fn ways(upstream: &Upstream) -> Vec<(&'static str, Gateway, Call)> {
    let gateway = |mode: &str| {
        Gateway::before(upstream.address())
            .set("", &format!("mode = \"{mode}\""))
            .set("policy", "other_paths = \"forward\"")
            .start()
    };
    let unlock = Call::unlock;
    vec![
        ("judged", gateway("enforce"), unlock()),
        ("observed, and kept every rule", gateway("observe"), unlock()),
        ("observed, and broke one", gateway("observe"), unlock().method("POST")),
        ("another path", gateway("enforce"), unlock().method("GET").path("/other")),
    ]
}

#[test]
fn claims_of_an_address_or_a_host_are_dropped() {
    let upstream = Upstream::start();
    for (way, gateway, call) in ways(&upstream) {
        let names: Vec<String> = spellings(ORIGIN).collect();
        let mut wire = gateway.connect();
        for names in names.chunks(40) {
            let call = names.iter().fold(call.clone(), |call, name| call.with(name, "203.0.113.9"));
            let seen = upstream.count();
            assert_eq!(wire.call(&call).status(), 200, "{way}");
            let raw = String::from_utf8(upstream.requests()[seen].raw.clone()).unwrap();
            assert!(!raw.contains("203.0.113.9"), "{way}: {raw}");
            assert!(raw.contains("x-forwarded-for: 127.0.0.1\r\n"), "{way}: {raw}");
        }
    }
}

#[test]
fn claims_of_another_target_are_refused() {
    let upstream = Upstream::start();
    for (way, gateway, call) in ways(&upstream) {
        let mut wire = gateway.connect();
        for name in spellings(TARGET) {
            for value in ["/admin", "/api/customer/unlock", ""] {
                let answer = wire.call(&call.clone().with(&name, value));
                assert_eq!((answer.status(), answer.code().as_str()), (404, "path_unknown"), "{way}: {name}");
            }
        }
    }
    assert_eq!(upstream.bytes(), b"");
}

#[test]
fn claims_of_another_method_stay_what_observe_mode_tells() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("", "mode = \"observe\"").start();
    for (count, name) in ["X-HTTP-Method", "X-HTTP-Method-Override", "x_method_override"].iter().enumerate() {
        let answer = gateway.call(&Call::unlock().with(name, "GET"));
        assert_eq!(answer.status(), 200, "{name}");
        assert_eq!(gateway.log_of(answer.one("x-request-id"))["observed"], "method_override", "{name}");
        assert_eq!(upstream.requests()[count].one(name), "GET");
    }
}
