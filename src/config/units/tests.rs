//! How the units of the configuration are spelt.

use super::*;

#[test]
fn hosts_need_a_port_and_literals_their_brackets() {
    for text in ["n4n:80", "n4n-1.internal:443", "192.0.2.1:8080", "[2001:db8::1]:80"] {
        assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
    }
    for text in
        ["n4n", "n4n:", "n4n:0", "n4n:65536", ":80", "::1:80", "[::1]", "[n4n]:80", "a b:80", "a/b:80", ""]
    {
        assert_eq!(HostPort::parse(text), None, "{text}");
    }
}
