//! How Redis is reached: by TLS, with a login, in a database, by a URL that stands elsewhere.

use std::time::Instant;

use super::{NO_END, sharing};
use crate::harness::{Authority, Call, DEADLINE, Gateway, Redis, Upstream, VALID, binary};

const LOGIN: &str = "gateway:pa%2Fss-of-the-test@";

/// Checks that calls are counted in that database, or, where none is named, that the log says why they are not.
fn reaches(gateway: &Gateway, redis: &Redis, database: &str, why_not: &str) {
    let start = Instant::now();
    loop {
        assert_eq!(gateway.call(&Call::unlock().user("ada")).status(), 200);
        let keyspace: String = redis.ask("INFO keyspace");
        let is_counted = keyspace.contains("keys=");
        let is_told = gateway.output().contains(why_not);
        match database {
            "" => assert!(!is_counted, "{keyspace}"),
            _ => assert!(!is_told && (!is_counted || keyspace.contains(database)), "{}", gateway.output()),
        }
        if is_told || is_counted {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{}", gateway.output());
    }
}

#[test]
fn a_login_and_a_database_are_used_and_the_password_is_told_to_nobody() {
    let upstream = Upstream::start();
    let redis = Redis::start();
    redis.ask::<()>("ACL SETUSER gateway on >pa/ss-of-the-test ~n4n-gateway:quota:* +evalsha +script|load +get +set +time +select");
    let url = |login: &str| redis.url().replace("//", &format!("//{login}")) + "/3";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("redis.url");
    std::fs::write(&file, url(LOGIN) + "\n").unwrap();
    for (written, works) in [
        (url(LOGIN), true),
        ("env:REDIS_URL".to_owned(), true),
        (format!("file:{}", file.display()), true),
        (url("gateway:other@"), false),
    ] {
        redis.ask::<()>("FLUSHALL");
        let gateway = sharing(upstream.address(), &written, NO_END).env("REDIS_URL", &url(LOGIN)).start();
        reaches(&gateway, &redis, if works { "db3:" } else { "" }, "Password authentication failed");
        assert!(!gateway.output().contains("ss-of-the-test"), "{}", gateway.output());
    }
}

#[test]
fn under_tls_a_redis_must_prove_who_it_is() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.issue(&["127.0.0.1", "redis.test"], VALID).write(folder.path(), "redis");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let redis = Redis::start_with(&[
        "--tls-port",
        "PORT",
        "--tls-cert-file",
        &path("redis.pem"),
        "--tls-key-file",
        &path("redis.key"),
        "--tls-auth-clients",
        "no",
    ]);
    let port = redis.port();
    let trusted = authority.write(folder.path(), "ca.pem");
    let other = stranger.write(folder.path(), "other.pem");
    for (ca, host, works) in
        [(&trusted, "127.0.0.1", true), (&trusted, "localhost", false), (&other, "127.0.0.1", false)]
    {
        let gateway = sharing(upstream.address(), &format!("rediss://{host}:{port}"), NO_END)
            .env("SSL_CERT_FILE", ca.to_str().unwrap())
            .start();
        redis.ask::<()>("FLUSHALL");
        reaches(&gateway, &redis, if works { "db0:" } else { "" }, "invalid peer certificate");
    }
}

#[test]
fn check_tells_a_bad_url_and_not_what_stands_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    std::fs::write(folder.path().join("redis.url"), "amqp://gateway:ss-of-the-test@redis.internal").unwrap();
    for (url, says) in [
        ("redis://:pa#ss-of-the-test@redis.internal", "is no URL of a Redis server"),
        ("http://:ss-of-the-test@redis.internal", "is no URL of a Redis server"),
        ("rediss://:ss-of-the-test@redis.internal/#insecure", "asks not to verify the server"),
        ("redis://ss-of-the-test@redis.internal", "names a user and no password"),
        ("file:redis.url", "is no URL of a Redis server"),
        ("file:no-such-file", "names a file that cannot be read"),
        ("env:NO_SUCH_VARIABLE", "names the variable `NO_SUCH_VARIABLE`, which is not set"),
    ] {
        let text = format!(
            "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:80\"]\n[quota]\nredis = \"{url}\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let output = binary().args(["check", "--config"]).arg(&config).output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}: {told}");
        assert!(told.contains("line 4: quota.redis: ") && told.contains(says), "{url}: {told}");
        assert!(!told.contains("ss-of-the-test"), "{told}");
    }
}
