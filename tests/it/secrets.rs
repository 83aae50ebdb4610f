//! Keys stay out of sight: also of whoever prints what the gateway is made of.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderValue};
use n4n_gateway::config::Settings;
use n4n_gateway::explain::Explanation;
use n4n_gateway::gateway::Gateway;
use n4n_gateway::policy::Head;

use crate::harness::{API_KEY, Authority, Call, NAME, VALID, assert_unseen, key_line};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn no_debug_output_shows_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let issued = Authority::new().issue(&[NAME], VALID);
    issued.write(folder.path(), "a");
    let text = format!(
        "[listen]\nhttps = [{{ address = \"127.0.0.1:0\", certificate = \"a.pem\", key = \"a.key\" }}]\n\
         [upstream]\npeers = [\"127.0.0.1:1\"]\n[[users]]\nname = \"listed\"\n{}",
        key_line(API_KEY)
    );
    let settings = Settings::parse(&text, folder.path()).unwrap();
    let mut fields = HeaderMap::new();
    for (name, value) in [
        ("host", NAME),
        ("api-key", API_KEY),
        ("api-username", "listed"),
        ("content-type", "application/x-www-form-urlencoded"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    let head = Head { method: "PATCH", target: "/api/customer/unlock", fields: &fields };
    let policy = &settings.policy;
    let credentials = policy.judge_head(&head).unwrap();
    let caller = policy.judge_caller(credentials.clone(), &head, CLIENT).unwrap();
    let call = policy.judge_body(caller.clone(), b"customer_id=191").unwrap();
    let gateway = Gateway::open(settings.clone()).unwrap();
    let explained = Explanation::of(&gateway.live(), CLIENT, &Call::unlock().user("listed").bytes());
    for (what, shown) in [
        ("the settings", format!("{settings:?}{settings:#?}")),
        ("the credentials", format!("{credentials:?}{credentials:#?}")),
        ("the key", format!("{:?}{:?}", credentials.key, credentials.key.as_value())),
        ("the caller", format!("{caller:?}")),
        ("the call", format!("{call:?}")),
        ("the gateway", format!("{gateway:?}{:?}", gateway.live())),
        ("an explanation", format!("{explained:?}")),
    ] {
        assert!(!shown.is_empty(), "{what}");
        assert_unseen(what, &shown);
        let private = issued.key.lines().nth(1).unwrap();
        assert!(!shown.contains(private), "{what} shows the certificate's key");
    }
}
