//! What a scanner that looks for known weaknesses finds on a TLS listener: current versions and suites alone.

use serde_json::Value;

use crate::harness::{NAME, Secured, Upstream, tool};

/// Every scan that asks for something a server could do wrong.
const SCANS: [&str; 14] = [
    "--sslv2",
    "--sslv3",
    "--tlsv1",
    "--tlsv1_1",
    "--tlsv1_2",
    "--tlsv1_3",
    "--compression",
    "--early_data",
    "--ems",
    "--fallback",
    "--heartbleed",
    "--openssl_ccs",
    "--reneg",
    "--robot",
];

/// Runs the scans; the result of each by its name.
fn scan(secured: &Secured) -> Value {
    let report = secured.folder.path().join("sslyze.json");
    let output = tool("sslyze/bin/sslyze", "install what tests/sslyze/requirements.txt lists")
        .args(SCANS)
        .args(["--quiet", "--mozilla_config", "disable", "--sni", NAME])
        .arg(format!("--json_out={}", report.display()))
        .arg(secured.gateway.https().to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut report: Value = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    report["server_scan_results"][0]["scan_result"].take()
}

#[test]
fn a_scanner_finds_current_versions_and_suites_and_no_known_weakness() {
    let upstream = Upstream::start();
    let secured = Secured::before(&upstream, "");
    let found = scan(&secured);
    let result = |scan: &str| {
        assert_eq!(found[scan]["status"], "COMPLETED", "{scan}: {}", found[scan]);
        &found[scan]["result"]
    };
    let aead = ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"];
    for (version, prefix, suites) in [
        ("ssl_2_0", "", &[][..]),
        ("ssl_3_0", "", &[]),
        ("tls_1_0", "", &[]),
        ("tls_1_1", "", &[]),
        ("tls_1_2", "TLS_ECDHE_ECDSA_WITH_", &aead),
        ("tls_1_3", "TLS_", &aead),
    ] {
        let accepted = &result(&format!("{version}_cipher_suites"))["accepted_cipher_suites"];
        let mut accepted: Vec<&str> = accepted
            .as_array()
            .unwrap()
            .iter()
            .map(|suite| suite["cipher_suite"]["name"].as_str().unwrap())
            .collect();
        accepted.sort_unstable();
        let expected: Vec<String> = suites.iter().map(|suite| format!("{prefix}{suite}")).collect();
        assert_eq!(accepted, expected, "{version}");
    }
    for (scan, member, value) in [
        ("tls_compression", "supports_compression", Value::from(false)),
        ("tls_1_3_early_data", "supports_early_data", false.into()),
        ("tls_extended_master_secret", "supports_ems_extension", true.into()),
        ("tls_fallback_scsv", "supports_fallback_scsv", true.into()),
        ("heartbleed", "is_vulnerable_to_heartbleed", false.into()),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", false.into()),
        ("session_renegotiation", "supports_secure_renegotiation", true.into()),
        ("session_renegotiation", "client_renegotiations_success_count", 0.into()),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", false.into()),
        ("robot", "robot_result", "NOT_VULNERABLE_RSA_NOT_SUPPORTED".into()),
    ] {
        assert_eq!(result(scan)[member], value, "{scan}: {}", found[scan]);
    }
}
