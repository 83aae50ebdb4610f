//! Keys stay out of sight: also of whoever prints what the gateway is made of.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use n4n_gateway::config::Settings;
use n4n_gateway::explain::Explanation;
use n4n_gateway::gateway::Gateway;
use n4n_gateway::policy::Head;
use n4n_gateway::wire::{HeadScanner, RequestHead};

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
    let request = Call::unlock().user("listed").bytes();
    let range = HeadScanner::default().scan(&request).unwrap().unwrap();
    let read = RequestHead::read(Bytes::copy_from_slice(&request[range])).unwrap();
    let head = Head::from(&read);
    let policy = &settings.policy;
    let credentials = policy.judge_head(&head).unwrap();
    let user = policy.judge_user(credentials.clone(), &head, CLIENT).unwrap();
    let call = policy.judge_body(user.clone(), b"customer_id=191").unwrap();
    let gateway = Gateway::open(settings.clone()).unwrap();
    let explained = Explanation::of(&gateway.live(), CLIENT, &request);
    for (what, shown) in [
        ("the settings", format!("{settings:?}{settings:#?}")),
        ("the credentials", format!("{credentials:?}{credentials:#?}")),
        ("the head", format!("{read:?}{head:?}")),
        ("the key", format!("{:?}", credentials.key)),
        ("the user", format!("{user:?}")),
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
