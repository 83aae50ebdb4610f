//! Who shows a client's certificate is named in log and trail, and who need not show one calls like anybody.

use serde_json::Value;

use crate::harness::{
    API_KEY, Authority, Call, Gateway, Http2, Issued, NAME, TlsClient, Upstream, VALID, binary, key_line,
};

/// What the certificates of these tests are for.
const SUBJECT: &str = "CN=rcgen self signed cert";

struct Scene {
    authority: Authority,
    clients: Authority,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            authority: Authority::new(),
            clients: Authority::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        scene.authority.issue(&[NAME], VALID).write(scene.folder.path(), "a");
        scene.clients.write(scene.folder.path(), "clients.pem");
        scene
    }

    /// The listener's entry.
    fn entry(&self, more: &str) -> String {
        let at = self.folder.path().display();
        format!(
            "https = [{{ address = \"127.0.0.1:0\", certificate = \"{at}/a.pem\", key = \"{at}/a.key\"{more} }}]"
        )
    }

    fn client_ca(&self) -> String {
        format!(", client_ca = \"{}/clients.pem\"", self.folder.path().display())
    }

    fn client(&self, shows: Option<&Issued>) -> TlsClient {
        TlsClient::trusting(&self.authority, shows)
    }
}

#[test]
fn the_subject_of_a_client_certificate_is_in_log_and_trail() {
    let (scene, upstream) = (Scene::new(), Upstream::start());
    let gateway = Gateway::before(upstream.address())
        .set("listen", &scene.entry(&scene.client_ca()))
        .set("log", "audit = \"audit.jsonl\"")
        .start();
    let shown = scene.client(Some(&scene.clients.issue(&["billing.test"], VALID)));
    let mut wire = shown.connect(gateway.https(), NAME);
    let accepted = wire.call(&Call::unlock()).one("x-request-id").to_owned();
    let refused = wire.call(&Call::unlock().body("none")).one("x-request-id").to_owned();
    let malformed = wire.call(&Call::unlock().with("Content-Length", "3")).one("x-request-id").to_owned();
    let mut http2 = Http2::connect(&shown, gateway.https(), NAME);
    http2.call(Http2::unlock(NAME), b"customer_id=191", None).unwrap();
    for id in [accepted.as_str(), &refused, &malformed] {
        assert_eq!(gateway.log_of(id)["client_certificate"], SUBJECT);
    }
    assert!(gateway.wait_for_log(4).iter().all(|line| line["client_certificate"] == SUBJECT));
    let plain = gateway.call(&Call::unlock()).one("x-request-id").to_owned();
    assert!(gateway.log_of(&plain).get("client_certificate").is_none());
    let trail = std::fs::read_to_string(gateway.file("audit.jsonl")).unwrap();
    let records: Vec<Value> = trail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let intent = |id: &str| {
        records.iter().find(|record| record["request_id"] == id && record["event"] == "intent").unwrap()
    };
    assert_eq!(intent(&accepted)["client_certificate"], SUBJECT);
    assert!(intent(&plain).get("client_certificate").is_none());
    let verified = binary().args(["audit", "verify"]).arg(gateway.file("audit.jsonl")).status().unwrap();
    assert!(verified.success());
}

#[test]
fn where_a_certificate_is_optional_who_shows_none_meets_the_same_rules_and_a_bad_one_is_refused() {
    let (scene, upstream) = (Scene::new(), Upstream::start());
    let user = format!("[[users]]\nname = \"listed\"\n{}", key_line(API_KEY));
    let gateway = Gateway::before(upstream.address())
        .set("listen", &scene.entry(&(scene.client_ca() + ", client_auth = \"optional\"")))
        .set("access", "unlisted_users = \"reject\"")
        .append(&user)
        .start();
    let call = |shows: Option<&Issued>, user: &str| {
        let mut wire = scene.client(shows).connect(gateway.https(), NAME);
        wire.try_call(&Call::unlock().user(user)).map(|answer| answer.status())
    };
    let good = scene.clients.issue(&["billing.test"], VALID);
    assert_eq!((call(None, "listed").unwrap(), call(Some(&good), "listed").unwrap()), (200, 200));
    assert_eq!((call(None, "other").unwrap(), call(Some(&good), "other").unwrap()), (401, 401));
    for bad in [Authority::new().issue(&["stranger"], VALID), scene.clients.issue(&["old"], (2000, 2001))] {
        assert!(call(Some(&bad), "listed").is_err());
    }
    let subjects: Vec<_> =
        gateway.wait_for_log(4).iter().map(|line| line.get("client_certificate").cloned()).collect();
    let shown = Some(Value::from(SUBJECT));
    assert_eq!(subjects, [None, shown.clone(), None, shown]);
}

#[test]
fn what_contradicts_itself_about_client_certificates_is_a_fault() {
    let (scene, folder) = (Scene::new(), tempfile::tempdir().unwrap());
    let (ca, entry) = (scene.client_ca(), |more: &str| scene.entry(more));
    let both = entry(&ca)
        .replace(']', &entry(&(ca.clone() + ", client_auth = \"optional\"")).replace("https = [", ", "));
    for (listen, says) in [
        (entry(", client_auth = \"optional\""), "has no client_ca beside it"),
        (entry(&(ca.clone() + ", client_auth = \"perhaps\"")), "write \"required\" or \"optional\""),
        (both, "client_auth: differs from that of another entry with this address"),
    ] {
        let config = folder.path().join("gateway.toml");
        std::fs::write(&config, Gateway::before_all(&["127.0.0.1:1"]).set("listen", &listen).text()).unwrap();
        let output = binary().arg("check").arg("--config").arg(&config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(says), "{says}: {said}");
    }
}
