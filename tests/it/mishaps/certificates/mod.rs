//! Certificates and keys that are not what they were taken for.

mod upstream;

use std::path::PathBuf;

use crate::harness::{Authority, Call, Gateway, Issued, NAME, TlsClient, Upstream, VALID, binary, tool};

/// A folder in which openssl makes things.
struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let mut command = tool("openssl", "install openssl");
        let output = command.current_dir(self.0.path()).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes a key, and a certificate for it that it signs itself.
    fn self_signed(&self, name: &str, make_key: &str) {
        self.openssl(&format!("{make_key} -out {name}.key"));
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN=a -addext subjectAltName=DNS:{NAME} -days 300 -out {name}.pem"
        ));
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn issued(&self, name: &str) -> Issued {
        Issued { certificate: self.read(&format!("{name}.pem")), key: self.read(&format!("{name}.key")) }
    }

    /// What `check` says of a listener with these files.
    fn check(&self, certificate: &str, key: &str, client_ca: Option<&str>) -> (Option<i32>, String) {
        let ca = client_ca.map(|ca| format!(", client_ca = \"{ca}\"")).unwrap_or_default();
        let entry =
            format!("{{ address = \"127.0.0.1:0\", certificate = \"{certificate}\", key = \"{key}\"{ca} }}");
        self.write(
            "gateway.toml",
            format!("listen.https = [{entry}]\nlisten.admin = \"127.0.0.1:0\"\nupstream.peers = [\"127.0.0.1:1\"]\n"),
        );
        let output = binary().arg("check").arg("--config").arg(self.path("gateway.toml")).output().unwrap();
        let written = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        for file in std::fs::read_dir(self.0.path()).unwrap().map(|file| file.unwrap().path()) {
            let is_key = file.extension().is_some_and(|extension| extension == "key");
            if let Some(text) = is_key.then(|| std::fs::read_to_string(&file).ok()).flatten() {
                for line in text.lines().filter(|line| line.len() > 20 && !line.starts_with("---")) {
                    assert!(!written.contains(line), "{}: {written}", file.display());
                }
            }
        }
        (output.status.code(), written)
    }

    fn assert_faulty(&self, certificate: &str, key: &str, client_ca: Option<&str>, said: &str) {
        let (code, written) = self.check(certificate, key, client_ca);
        assert_eq!(code, Some(2), "{certificate}, {key}, {client_ca:?}: {written}");
        assert!(
            written.contains(&format!("line 1: listen.https.{said}")),
            "{certificate}, {key}, {client_ca:?}: {written}"
        );
    }

    fn assert_sound(&self, certificate: &str, key: &str, client_ca: Option<&str>) {
        let (code, written) = self.check(certificate, key, client_ca);
        assert_eq!(code, Some(0), "{certificate}, {key}, {client_ca:?}: {written}");
        assert!(!written.contains("warning: cert"), "{certificate}, {key}, {client_ca:?}: {written}");
    }
}

const P256: &str = "ecparam -name prime256v1 -genkey -noout";

#[test]
fn a_key_that_cannot_be_used_is_told_by_its_kind() {
    let shop = Workshop::new();
    let mend = "which is not taken; use RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519";
    for (name, make_key, kind) in [
        ("p521", "ecparam -name secp521r1 -genkey -noout", "an ECDSA key on P-521"),
        ("p521-params", "ecparam -name secp521r1 -genkey", "an ECDSA key on P-521"),
        ("p521-pkcs8", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521", "an ECDSA key on P-521"),
        ("k1", "ecparam -name secp256k1 -genkey -noout", "an ECDSA key on secp256k1"),
        ("rsa1024", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "an RSA key of 1024 bits"),
        ("pss", "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "an RSA-PSS key"),
        ("ed448", "genpkey -algorithm ED448", "an Ed448 key"),
    ] {
        shop.self_signed(name, make_key);
        let said = format!("key: has {kind} in it, {mend}");
        shop.assert_faulty(&format!("{name}.pem"), &format!("{name}.key"), None, &said);
        // What it signed could not be verified either.
        shop.self_signed("good", P256);
        let said = format!("client_ca: has a CA certificate in it, at line 1, with {kind}: nothing");
        shop.assert_faulty("good.pem", "good.key", Some(&format!("{name}.pem")), &said);
    }
    shop.openssl("rsa -in rsa1024.key -traditional -out old.key");
    shop.assert_faulty(
        "rsa1024.pem",
        "old.key",
        None,
        &format!("key: has an RSA key of 1024 bits in it, {mend}"),
    );
    shop.openssl("dsaparam -genkey -out dsa.key 1024");
    shop.assert_faulty("good.pem", "dsa.key", None, "key: has a DSA key in it, at line 1; use RSA");
    for (name, make_key) in [
        ("p256", P256),
        // With a block of parameters before it.
        ("p384", "ecparam -name secp384r1 -genkey"),
        ("rsa2048", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("ed25519", "genpkey -algorithm ED25519"),
    ] {
        shop.self_signed(name, make_key);
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        shop.assert_sound(&certificate, &key, Some(&certificate));
    }
}

#[test]
fn a_block_that_is_not_what_was_asked_for_is_told_by_what_it_is() {
    let shop = Workshop::new();
    for name in ["a", "b"] {
        shop.self_signed(name, P256);
    }
    let (certificate, key) = (shop.read("a.pem"), shop.read("a.key"));
    shop.openssl("req -new -key a.key -subj /CN=a -out request");
    shop.openssl("x509 -req -in request -signkey a.key -days 300 -out version1");
    shop.openssl("x509 -in a.pem -trustout -addtrust clientAuth -out trusted");
    shop.openssl("x509 -in a.pem -outform DER -out der");
    shop.openssl("pkcs12 -export -in a.pem -inkey a.key -passout pass:x -out p12");
    shop.openssl("crl2pkcs7 -nocrl -certfile a.pem -out pkcs7");
    shop.openssl("pkey -in a.key -pubout -out public");
    shop.openssl("pkey -in a.key -aes128 -passout pass:x -out encrypted");
    shop.openssl("ec -in a.key -aes128 -passout pass:x -out encrypted-old");
    shop.openssl("dhparam -dsaparam -out dh 512");
    let files: &[(&str, Vec<u8>)] = &[
        ("mark", format!("\u{feff}{certificate}").into()),
        ("mark.key", format!("\u{feff}{key}").into()),
        ("mark-within", format!("{certificate}\u{feff}{certificate}").into()),
        ("utf16", certificate.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        (
            "utf16-marked",
            format!("\u{feff}{certificate}").encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        ("unfinished", certificate.trim_end().trim_end_matches('-').into()),
        ("half", certificate[..certificate.len() / 2].into()),
        ("base64", certificate.replacen("MII", "M!I", 1).into()),
        ("noise", certificate.replacen("MII", "AAAAMII", 1).into()),
        ("empty-block", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".into()),
        ("indented", certificate.lines().map(|line| format!("  {line}\n")).collect::<String>().into()),
        ("and-request", format!("{certificate}{}", shop.read("request")).into()),
        ("and-trusted", format!("{certificate}{}", shop.read("trusted")).into()),
        ("and-dh", format!("{certificate}{}", shop.read("dh")).into()),
        ("both", format!("{certificate}{key}").into()),
        ("windows", certificate.replace('\n', "\r\n").into()),
        ("commented", format!("subject=CN = a\n\n{certificate}\n# the end\n").into()),
        ("chain", format!("{certificate}{}", shop.read("b.pem")).into()),
        ("disordered", format!("{}{certificate}", shop.read("b.pem")).into()),
        ("nothing", Vec::new()),
        ("two.key", format!("{key}{}", shop.read("b.key")).into()),
        ("unfinished.key", key[..key.len() / 2].into()),
        ("base64.key", key.replacen("M", "!", 1).into()),
    ];
    for (name, content) in files {
        shop.write(name, content);
    }
    let line = |text: &str| text.lines().count() + 1;
    let broken = |line| {
        format!("has a PEM block in it that does not begin and end as it should, at line {line}; copy")
    };
    let behind = line(&certificate);
    // What stands where certificates belong, those to be shown and those to be believed alike.
    for (file, said) in [
        ("mark", "begins with a byte order mark; save".to_owned()),
        ("mark-within", broken(behind)),
        ("utf16", "has no certificate in it; name".into()),
        ("utf16-marked", "begins with a byte order mark; save".into()),
        ("der", "is DER or PKCS #12, not PEM; convert".into()),
        ("p12", "is DER or PKCS #12, not PEM; convert".into()),
        ("unfinished", broken(1)),
        ("half", broken(1)),
        ("indented", broken(1)),
        ("base64", "has a certificate in it that cannot be read; name".into()),
        ("noise", "has a certificate in it that cannot be read; name".into()),
        ("empty-block", "has a certificate in it that cannot be read; name".into()),
        ("request", "has a certificate request in it, at line 1; name the certificate".into()),
        ("and-request", format!("has a certificate request in it, at line {behind}; name the certificate")),
        ("trusted", "has an OpenSSL TRUSTED CERTIFICATE in it, at line 1; write".into()),
        ("and-trusted", format!("has an OpenSSL TRUSTED CERTIFICATE in it, at line {behind}; write")),
        ("and-dh", format!("has Diffie-Hellman parameters in it, at line {behind}; take")),
        ("pkcs7", "has a PKCS #7 structure in it, at line 1; write".into()),
        ("public", "has a public key in it, at line 1; take".into()),
        ("b.key", "has no certificate in it; name a PEM file of X.509 certificates, the leaf first; this one has a private key at line 1".into()),
        ("both", format!("has a private key in it, at line {behind}; take")),
        ("encrypted", "has an encrypted private key in it, at line 1; decrypt".into()),
        ("nothing", "has no certificate in it; name".into()),
    ] {
        shop.assert_faulty(file, "a.key", None, &format!("certificate: {said}"));
        shop.assert_faulty("a.pem", "a.key", Some(file), &format!("client_ca: {said}"));
    }
    for (file, said) in [
        ("mark.key", "begins with a byte order mark; save"),
        ("der", "is DER or PKCS #12, not PEM; convert"),
        ("unfinished.key", "has a PEM block in it that does not begin and end as it should, at line 1; copy"),
        ("base64.key", "has a private key in it that cannot be used; name"),
        ("encrypted", "has an encrypted private key in it, at line 1; decrypt"),
        ("encrypted-old", "has an encrypted private key in it, at line 1; decrypt"),
        ("public", "has a public key in it, at line 1; take"),
        (
            "a.pem",
            "has no private key in it; name a PEM file with one unencrypted RSA, ECDSA or Ed25519 private key; this one has a certificate at line 1",
        ),
        ("request", "has a certificate request in it, at line 1; name"),
        ("both", "has a certificate in it, at line 1; take"),
        ("b.key", "is not the key of the certificate; name"),
        ("nothing", "has no private key in it; name"),
    ] {
        shop.assert_faulty("a.pem", file, None, &format!("key: {said}"));
    }
    let second = line(&key);
    shop.assert_faulty(
        "a.pem",
        "two.key",
        None,
        &format!("key: has a second private key in it, at line {second}; leave"),
    );
    shop.assert_faulty(
        "disordered",
        "a.key",
        None,
        "key: is the key of a certificate that does not come first in its file; put",
    );
    shop.assert_faulty(
        "version1",
        "a.key",
        None,
        "certificate: has an X.509 version 1 certificate in it, at line 1",
    );
    for certificate in ["windows", "commented", "chain"] {
        shop.assert_sound(certificate, "a.key", Some(certificate));
    }
    // An authority's own certificate may be of the first version, and a file that is named for both have both in it.
    shop.assert_sound("a.pem", "a.key", Some("version1"));
    shop.assert_sound("both", "both", None);
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_worth_a_warning() {
    let shop = Workshop::new();
    Authority::new().issue(&[NAME], (3000, 3001)).write(&shop.path(""), "early");
    let (code, written) = shop.check("early.pem", "early.key", None);
    assert_eq!(code, Some(0), "{written}");
    let said = "warning: certificate `early.pem` is not valid yet (before 3000-01-01T00:00:00Z)";
    assert!(written.contains(said), "{written}");
}

#[test]
fn a_client_ca_out_of_its_time_lets_nobody_in_and_is_told() {
    let shop = Workshop::new();
    let (authority, valid) = (Authority::new(), Authority::new());
    let (expired, early) = (Authority::of((2000, 2001)), Authority::of((3000, 3001)));
    authority.issue(&[NAME], VALID).write(&shop.path(""), "a");
    let upstream = Upstream::start();
    for bundle in [vec![&expired, &early], vec![&expired, &valid, &early]] {
        shop.write("ca.pem", bundle.iter().map(|ca| ca.pem()).collect::<String>());
        let at = shop.0.path().display();
        let entry = format!(
            "{{ address = \"127.0.0.1:0\", certificate = \"{at}/a.pem\", key = \"{at}/a.key\", client_ca = \"{at}/ca.pem\" }}"
        );
        let gateway =
            Gateway::before(upstream.address()).set("listen", &format!("https = [{entry}]")).start();
        let call = |ca: &Authority| {
            let client = TlsClient::trusting(&authority, Some(&ca.issue(&["client"], VALID)));
            client.connect(gateway.https(), NAME).try_call(&Call::unlock())
        };
        for out_of_time in [&expired, &early] {
            assert!(call(out_of_time).is_err());
        }
        assert_eq!(call(&valid).is_ok(), bundle.len() == 3);
        let said = format!(
            "certificate `{at}/ca.pem` has expired (2001-01-01T00:00:00Z): no client is let in by it"
        );
        assert!(gateway.output().contains(&said), "{}", gateway.output());
        let expiry =
            format!("n4n_gateway_certificate_expiry_timestamp_seconds{{certificate=\"{at}/ca.pem\"}}");
        gateway.wait_for_metric(&expiry, 978_307_200.0);
    }
    assert_eq!(upstream.count(), 1);
    let (code, written) = shop.check("a.pem", "a.key", Some("ca.pem"));
    assert_eq!(code, Some(0), "{written}");
    assert!(written.contains("warning: certificate `ca.pem` has expired"), "{written}");
}
