//! The live page where operators put it.

use std::net::SocketAddr;

use crate::harness::{Gateway, Nginx, Upstream, Wire, package_root, tool};
use crate::page::Events;

fn status(server: SocketAddr, path: &str) -> u16 {
    let mut wire = Wire::connect(server);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n"));
    wire.answer().status()
}

/// A gateway, and an nginx that has the page at `/gw/`.
fn at_a_path(upstream: &Upstream, directives: &str) -> (Gateway, Nginx) {
    let gateway = Gateway::before(upstream.address()).start();
    let nginx = Nginx::start(
        directives,
        &format!("location /gw/ {{ proxy_pass http://{}/; }}", gateway.admin_address()),
    );
    (gateway, nginx)
}

#[test]
fn the_page_is_whole_at_a_path_of_nginx() {
    let upstream = Upstream::start();
    let (_gateway, nginx) = at_a_path(&upstream, "");
    for file in ["", "page.css", "page.js", "icon.svg", "metrics", "readyz", "livez"] {
        assert_eq!(status(nginx.address(), &format!("/gw/{file}")), 200, "{file}");
    }
    tool("chromium", "install chromium");
    let look = tool("python3", "install python3")
        .arg(package_root().join("tests/browser/at.py"))
        .arg(format!("http://{}/gw/", nginx.address()))
        .output()
        .unwrap();
    assert!(look.status.success(), "{}", String::from_utf8_lossy(&look.stderr));
}

#[test]
fn nginx_passes_each_event_on_as_it_comes() {
    let upstream = Upstream::start();
    // It buffers by default, and room for so many events is never full in time.
    let room = "proxy_buffer_size 1m; proxy_buffers 8 1m; proxy_busy_buffers_size 1m;";
    let (_gateway, nginx) = at_a_path(&upstream, room);
    // HTTP/1.0 has no chunks for nginx to divide an event by.
    let (mut events, _) = Events::open_at(nginx.address(), "/gw/events HTTP/1.0");
    let times = [(); 3].map(|()| events.next()["time"].as_u64().unwrap());
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
}

#[test]
fn a_name_that_nginx_gives_the_gateway_is_listed_or_refused() {
    let upstream = Upstream::start();
    let named = |more: &str, host: &str| {
        let gateway = Gateway::before(upstream.address()).set("listen", more).start();
        let admin = gateway.admin_address();
        let upstream = format!("upstream admin {{ server {admin}; }}");
        let nginx = Nginx::start(&upstream, &format!("location /gw/ {{ proxy_pass http://admin/; {host} }}"));
        (status(nginx.address(), "/gw/"), status(nginx.address(), "/gw/metrics"))
    };
    // What nginx sends is the name in proxy_pass, unless it is told to send the client's.
    assert_eq!(named("", ""), (421, 200));
    assert_eq!(named("admin_hosts = [\"admin\"]", ""), (200, 200));
    let own = "proxy_set_header Host $host;";
    assert_eq!(named("admin_hosts = [\"admin\"]", own), (421, 200));
    assert_eq!(named("admin_hosts = [\"gateway.example\"]", own), (200, 200));
    assert_eq!(named("", "proxy_set_header Host localhost;"), (200, 200));
}
