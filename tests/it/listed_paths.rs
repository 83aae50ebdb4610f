//! Paths that the configuration lists pass beside the unlock path, by the methods listed with them, and nothing else does.

use crate::harness::{Call, Gateway, Upstream, binary};

#[test]
fn of_other_paths_only_the_listed_ones_pass() {
    let upstream = Upstream::start();
    let list = r#"other_paths = [{ prefix = "/static/", methods = ["GET"] }, "/health", { prefix = "/x" }]"#;
    let gateway = Gateway::before(upstream.address()).set("policy", list).start();
    let mut wire = gateway.connect();
    let mut sent = 0;
    for (methods, targets, passes) in [
        ("GET", "/static/ /static/app.js /static/a/b.c?v=1 http://gateway.test/static/x%20y", true),
        ("GET HEAD", "/health /health/ /health/live /health?full=1 /x /x/y", true),
        ("HEAD POST PATCH", "/static/ /static/app.js", false),
        ("POST DELETE PATCH get", "/health /x", false),
        ("GET HEAD", "/ /static /staticx/ /STATIC/app.js /healthz /Health /other /api/customer", false),
        ("GET", "/static/../other /static/%2e%2e/other /static/..%2fother /static/.%2e/other", false),
        (
            "GET",
            r"/static//app.js //static/app.js /static/./app.js /static/..\other /static/%2e%2e%5cother",
            false,
        ),
        ("GET", "/static/..;/other /static/a;b /static/%252e%252e/other /static/a%00.js /static/a%", false),
        (
            "GET",
            "/x/%2e%2e/api/customer/unlock /static/x.php/customer/unlock /health?r=customer/unlock",
            false,
        ),
    ] {
        for method in methods.split_whitespace() {
            for target in targets.split_whitespace() {
                wire.send(Call::unlock().path(target).method(method).bytes());
                let answer = if method == "HEAD" { wire.answer_to_head() } else { wire.answer() };
                assert_eq!(answer.status(), if passes { 200 } else { 404 }, "{method} {target}");
                sent += usize::from(passes);
                assert_eq!(upstream.count(), sent, "{method} {target}");
            }
        }
    }
    // The unlock path is what it is in any case.
    assert_eq!(wire.call(&Call::unlock()).text(), "true");
}

/// The exit code of `check` and what it writes.
fn check_text(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    let output = binary().arg("check").arg("--config").arg(file).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// How many faults of the list were told.
fn faults(written: &str) -> usize {
    written.matches("line 3: policy.other_paths: ").count()
}

/// The entries that the list may not have.
const NO_OTHER_PATHS: [&str; 16] = [
    "\"static\"",
    "\"\"",
    "\"//static\"",
    "\"/a/../static\"",
    "\"/a%2fb\"",
    "\"/a?b\"",
    "\"/a;b\"",
    "\"/api/customer/unlock\"",
    "\"/api/index.php/customer/unlock\"",
    "7",
    "{ methods = [\"GET\"] }",
    "{ prefix = 7 }",
    "{ prefix = \"/a\", methods = [] }",
    "{ prefix = \"/a\", methods = \"GET\" }",
    "{ prefix = \"/a\", methods = [\"get\"] }",
    "{ prefix = \"/a\", method = [\"GET\"] }",
];

#[test]
fn other_paths_that_cannot_be_are_told() {
    let text = |list: &str| {
        format!(
            "listen.http = [\"127.0.0.1:0\"]\nupstream.peers = [\"127.0.0.1:1\"]\npolicy.other_paths = {list}\n"
        )
    };
    let (code, written) = check_text(&text(&format!("[{}]", NO_OTHER_PATHS.join(", "))));
    assert_eq!(code, Some(2), "{written}");
    for number in 1..=NO_OTHER_PATHS.len() {
        let told = format!("line 3: policy.other_paths: entry {number}: ");
        assert!(written.contains(&told), "{}, in:\n{written}", NO_OTHER_PATHS[number - 1]);
    }
    for list in ["[]", "[\"/a\", { prefix = \"/a\" }]", "7", "\"\""] {
        let (code, written) = check_text(&text(list));
        assert_eq!((code, faults(&written)), (Some(2), 1), "{list}: {written}");
    }
    for (list, warned) in [
        ("\"reject\"", false),
        ("[{ prefix = \"/static/\", methods = [\"GET\"] }, \"/health\", \"/api/customers\"]", false),
        ("\"forward\"", true),
        ("[\"/\"]", true),
        ("[\"/health\", { prefix = \"/api/customer\", methods = [\"POST\"] }]", true),
    ] {
        let (code, written) = check_text(&text(list));
        assert_eq!((code, written.contains("policy.other_paths: ")), (Some(0), warned), "{list}: {written}");
    }
}
