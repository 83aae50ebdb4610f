//! The running gateway answers as `conf/openapi.json` says, to generated calls right and wrong.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{API_KEY, API_USERNAME, Gateway, Php, tool};
use crate::openapi::document;

/// The description without what n4n may answer beside its documented JSON: with a real PHP behind the
/// gateway nothing else comes, and a response for every status would let every status pass.
fn strict_document() -> Value {
    let mut document = document();
    let responses = document["paths"]["/api/customer/unlock"]["patch"]["responses"].as_object_mut().unwrap();
    assert!(responses.remove("default").is_some());
    for (status, response) in responses {
        assert!(response["content"].as_object_mut().unwrap().remove("*/*").is_some(), "{status}");
    }
    document
}

/// Schemathesis against a gateway, with the same cases each time.
fn schemathesis(gateway: &Gateway, folder: &Path) -> Command {
    let description = folder.join("openapi.json");
    std::fs::write(&description, strict_document().to_string()).unwrap();
    let mut command = tool("openapi/bin/st", "install what tests/openapi/requirements.txt lists");
    command.current_dir(folder).arg("run").arg(&description);
    command.args(["--url", &format!("http://{}", gateway.http()), "--no-color", "--continue-on-failure"]);
    command.args(["--seed", "191", "--generation-database", "none"]);
    command
}

/// Runs Schemathesis before a gateway with this quota: it finds nothing, and every one of the codes was answered.
fn assert_conforms(quota: &str, arguments: &[&str], codes: &[&str]) {
    let php = Php::start();
    let gateway = Gateway::before(php.address()).set("quota", quota).start();
    let folder = tempfile::tempdir().unwrap();
    let output = schemathesis(&gateway, folder.path()).args(arguments).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
    let metrics = gateway.metrics();
    for code in codes {
        let count = metrics.sum(&format!("n4n_gateway_requests_total{{code=\"{code}\"}}"));
        assert!(count > 0.0, "no case came to {code}: {:#?}", metrics.named("n4n_gateway_requests_total"));
    }
}

#[test]
fn a_user_gets_the_described_answers() {
    let (key, user) = (format!("api-key: {API_KEY}"), format!("api-username: {API_USERNAME}"));
    assert_conforms(
        "requests = 1000\nper = \"1s\"\nburst = 100000",
        &[
            ["--phases", "examples,coverage,fuzzing"],
            ["--max-examples", "120"],
            ["--header", &key],
            ["--header", &user],
        ]
        .concat(),
        &[
            "ok",
            "credential_missing",
            "method_not_allowed",
            "media_type_unsupported",
            "parameter_unknown",
            "lookup_missing",
            "lookup_invalid",
        ],
    );
}

#[test]
fn a_stranger_and_one_over_the_quota_get_the_described_answers() {
    assert_conforms(
        "requests = 1\nper = \"1h\"\nburst = 5",
        // A key of any characters is right by the description, which cannot tell what one is made of.
        &[
            ["--phases", "fuzzing"],
            ["--max-examples", "60"],
            ["--header", "api-username: stranger"],
            ["--exclude-checks", "positive_data_acceptance"],
        ]
        .concat(),
        &["ok", "credential_missing", "quota_exceeded"],
    );
}
