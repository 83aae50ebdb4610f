//! SIGHUP: another configuration is followed whole, or not at all.

use std::time::Instant;

use crate::harness::{API_KEY, Call, DEADLINE, Gateway, Upstream, key_line, secret_key};

#[test]
fn a_sound_configuration_is_followed_and_quotas_go_on() {
    let upstream = Upstream::start();
    let user = |name: &str, burst: u32| {
        format!("[[users]]\nname = \"{name}\"\nquota = {{ requests = 1, per = \"1h\", burst = {burst} }}\n")
    };
    let gateway =
        Gateway::before(upstream.address()).append(&(user("same", 3) + &user("changed", 3))).start();
    let mut wire = gateway.connect();
    let mut passed =
        |user: &str| (0..9).filter(|_| wire.call(&Call::unlock().user(user)).status() == 200).count();
    assert_eq!((passed("same"), passed("changed")), (3, 3));
    gateway.reload(|text| text.replace(&user("changed", 3), &user("changed", 5)));
    assert_eq!((passed("same"), passed("changed")), (0, 5));
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"success\"}", 1.0);
    gateway.wait_for_metric("n4n_gateway_config_last_reload_successful", 1.0);
}

#[test]
fn a_listed_user_with_another_key_goes_on_with_the_quota_and_the_counts_it_had() {
    let upstream = Upstream::start();
    let (old, new) = (API_KEY, &secret_key("new"));
    let quota = "quota = { requests = 1, per = \"1h\", burst = 3 }";
    let user = format!("[[users]]\nname = \"listed\"\n{}{quota}", key_line(old));
    let gateway = Gateway::before(upstream.address()).append(&user).start();
    let mut wire = gateway.connect();
    let mut statuses = |key: &str| {
        let call = Call::unlock().user("listed").set("api-key", key);
        [(); 2].map(|()| wire.call(&call).status())
    };
    assert_eq!((statuses(new), statuses(old)), ([401, 401], [200, 200]));
    gateway.reload(|text| text.replace(&key_line(old), &key_line(new)));
    assert_eq!((statuses(old), statuses(new)), ([401, 401], [200, 429]));
    gateway.wait_for_metric("n4n_gateway_user_requests_total{user=\"listed\",outcome=\"forwarded\"}", 3.0);
    gateway.wait_for_metric("n4n_gateway_user_requests_total{user=\"listed\",outcome=\"rejected\"}", 1.0);
}

#[test]
fn a_faulty_configuration_changes_nothing_and_is_told() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).start();
    gateway.reload(|text| text + "[policy]\nmax_body = \"1B\"\nmistaken = true\n");
    gateway.wait_for_metric("n4n_gateway_config_reloads_total{result=\"failure\"}", 1.0);
    gateway.wait_for_metric("n4n_gateway_config_last_reload_successful", 0.0);
    assert_eq!(gateway.call(&Call::unlock()).status(), 200);
    assert!(gateway.output().contains("policy.mistaken: is an unknown key"), "{}", gateway.output());
}

#[test]
fn what_cannot_change_live_is_named() {
    let gateway = Gateway::before(Upstream::start().address()).start();
    gateway.reload(|text| text.replace("[listen]", "[listen]\nthreads = 7"));
    assert!(gateway.output().contains("listen.threads"), "{}", gateway.output());
}

#[test]
fn what_is_bound_and_not_what_was_asked_for_last_is_compared() {
    let gateway = Gateway::before(Upstream::start().address()).start();
    let (bound, elsewhere) = ("admin = \"127.0.0.1:0\"", "admin = \"127.0.0.2:0\"");
    let mut told = Vec::new();
    for (reloads, (from, to)) in [(bound, elsewhere), ("", ""), (elsewhere, bound)].into_iter().enumerate() {
        gateway.reload(|text| text.replace(from, to));
        let last = |output: &str| output.matches("the configuration is in force").count() > reloads;
        let start = Instant::now();
        while !last(&gateway.output()) {
            assert!(start.elapsed() < DEADLINE, "{}", gateway.output());
        }
        told.push(gateway.output().matches("key=\"listen.admin\"").count());
    }
    assert_eq!(told, [1, 2, 2], "for as long as it differs: {}", gateway.output());
}

#[test]
fn a_log_that_was_moved_away_is_begun_anew() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address()).set("log", "access = \"access.log\"").start();
    let (log, moved) = (gateway.file("access.log"), gateway.file("access.log.1"));
    let first = gateway.call(&Call::unlock()).one("x-request-id").to_owned();
    let holds =
        |file: &std::path::Path, id: &str| std::fs::read_to_string(file).is_ok_and(|text| text.contains(id));
    while !holds(&log, &first) {
        std::thread::yield_now();
    }
    std::fs::rename(&log, &moved).unwrap();
    gateway.reload(|text| text);
    let second = gateway.call(&Call::unlock()).one("x-request-id").to_owned();
    while !holds(&log, &second) {
        std::thread::yield_now();
    }
    assert!(holds(&moved, &first) && !holds(&log, &first));
}

#[test]
fn fewer_users_may_be_remembered_and_each_of_them_keeps_an_account() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(upstream.address())
        .set("quota", "requests = 1\nper = \"1h\"\nburst = 1\nmax_users = 100000")
        .start();
    gateway.reload(|text| text.replace("max_users = 100000", "max_users = 5"));
    let mut wire = gateway.connect();
    let mut status = |user: usize| wire.call(&Call::unlock().user(&format!("user{user}"))).status();
    let statuses: Vec<_> = (0..7).map(&mut status).collect();
    // The sixth and the seventh share what is left for newcomers.
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429]);
    gateway.wait_for_metric("n4n_gateway_quota_users", 5.0);
}
