//! The filter that is shipped finds who guesses, with the real fail2ban, wherever the machine's clock says it is.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{
    API_KEY, Call, DEADLINE, Gateway, Reply, Upstream, key_line, package_root, secret_key, tool,
};

/// Time zones as POSIX writes them, so that none has to be installed: UTC, one in the east, one in the west.
const ZONES: [&str; 3] = ["UTC0", "IST-5:30", "EST5"];

#[test]
fn who_guesses_is_found_at_the_right_time_in_any_time_zone_and_nobody_else_is() {
    let upstream = Upstream::scripted(|request| {
        let is_known = request.one("api-username") != "stranger";
        Reply::json(
            if is_known { "200 OK" } else { "401 Unauthorized" },
            if is_known { "true" } else { "{}" },
        )
    });
    let user = format!("[[users]]\nname = \"listed\"\n{}", key_line(API_KEY));
    let gateway = Gateway::before(upstream.address())
        .set("listen", "trusted_proxies = [\"127.0.0.0/8\"]")
        .set("log", "access = \"access.log\"")
        .append(&user)
        .start();
    let began = now();
    let mut wire = gateway.connect();
    let mut call = |client: &str, status: u16, call: Call| {
        assert_eq!(wire.call(&call.with("X-Forwarded-For", client)).status(), status, "{client}");
    };
    let guess = || Call::unlock().user("listed").set("api-key", &secret_key("guess"));
    for _ in 0..3 {
        call("192.0.2.1", 401, guess());
    }
    call("2001:db8::1", 401, guess());
    // The gateway does not know this user's key, and n4n refuses it.
    call("192.0.2.2", 401, Call::unlock().user("stranger"));
    // In good standing, or merely mistaken.
    call("192.0.2.3", 200, Call::unlock().user("listed"));
    call("192.0.2.4", 400, Call::unlock().user("listed").query("a=1"));
    // Words that a client chooses are no members of the line.
    let forged = "\",\"client\":\"192.0.2.6\",\"code\":\"credential_unknown\",\"x\":\"";
    call("192.0.2.5", 200, Call::unlock().user(forged));

    let log = gateway.file("access.log");
    let start = Instant::now();
    while std::fs::read_to_string(&log).unwrap().lines().count() < 8 {
        assert!(start.elapsed() < DEADLINE, "{}", std::fs::read_to_string(&log).unwrap());
    }
    let ended = now();
    for zone in ZONES {
        let output = tool("fail2ban-regex", "install fail2ban")
            .env("TZ", zone)
            .args(["--out", "<time> <ip>"])
            .arg(&log)
            .arg(package_root().join("deploy/fail2ban/filter.conf"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let mut found = BTreeMap::new();
        for line in said.lines() {
            let (time, client) = line.split_once(' ').unwrap_or_else(|| panic!("{zone}: {said}"));
            let time: f64 = time.parse().unwrap_or_else(|_| panic!("{zone}: {said}"));
            // It counts in whole seconds.
            assert!(began - 1.0 <= time && time <= ended, "{zone}: {time} is not from {began} to {ended}");
            *found.entry(client.to_owned()).or_insert(0) += 1;
        }
        let want = [("192.0.2.1", 3), ("192.0.2.2", 1), ("2001:db8::1", 1)];
        assert_eq!(found, want.map(|(client, times)| (client.to_owned(), times)).into(), "{zone}: {said}");
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
