//! The TLS keys of the configuration: certificates, keys and CAs are loaded and checked.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use toml::de::DeValue;

use super::{
    Https, UpstreamTls,
    fault::Faults,
    table::{Table, Value},
};
use crate::tls::{self, Beside, ClientAuth, ClientCa, Expiring, Name, Trust, Unusable, Use};

/// A listener whose entries are still being read; each entry with its address adds a certificate.
struct Draft {
    address: SocketAddr,
    certified: Vec<Arc<CertifiedKey>>,
    certificates: Vec<Expiring>,
    client_ca: Option<(Authorities, ClientAuth)>,
}

impl Value for ClientAuth {
    const EXPECTED: &'static str = "\"required\" or \"optional\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        match value.as_str().ok_or(None)? {
            "required" => Ok(Self::Required),
            "optional" => Ok(Self::Optional),
            _ => Err(Some("is neither".into())),
        }
    }
}

/// CA certificates and the file they come from.
struct Authorities {
    file: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
    expiring: Expiring,
}

/// Reads `listen.https`.
pub(super) fn https(tables: Vec<Table<'_>>, folder: &Path, faults: &mut Faults<'_>) -> Vec<Https> {
    let mut drafts: Vec<Draft> = Vec::new();
    for mut table in tables {
        let address: Option<SocketAddr> = table.required("address", faults);
        let identity = identity(&mut table, "certificate", "key", folder, faults);
        let auth = table.or("client_auth", ClientAuth::Required, faults);
        if table.has("client_auth") && !table.has("client_ca") {
            let mend = "name the client_ca that certificates must be from, or leave it out";
            faults.add(
                table.span("client_auth"),
                table.place("client_auth"),
                "has no client_ca beside it",
                mend,
            );
        }
        let client_ca = ca(&mut table, "client_ca", Use::ClientCa, folder, faults).map(|ca| (ca, auth));
        if let (Some(address), Some(identity)) = (address, identity) {
            let known = drafts.iter().position(|draft| draft.address == address);
            let index = known.unwrap_or_else(|| {
                drafts.push(Draft {
                    address,
                    certified: Vec::new(),
                    certificates: Vec::new(),
                    client_ca: None,
                });
                drafts.len() - 1
            });
            let draft = &mut drafts[index];
            draft.certified.push(identity.certified);
            draft.certificates.push(identity.expiring);
            // Named by one entry, it holds for all of the address: the name a client asks for opens nothing.
            match (&draft.client_ca, client_ca) {
                (Some((one, auth)), Some((other, other_auth)))
                    if one.file != other.file || *auth != other_auth =>
                {
                    let key = if one.file == other.file { "client_auth" } else { "client_ca" };
                    let reason = "differs from that of another entry with this address";
                    let mend = format!("name one {key} for an address");
                    faults.add(table.span(key), table.place(key), reason, mend);
                }
                (None, Some(ca)) => draft.client_ca = Some(ca),
                (_, _) => {}
            }
        }
        table.close(faults);
    }
    let mut listeners = Vec::new();
    for Draft { address, certified, certificates, client_ca } in drafts {
        let (authorities, expiring) =
            client_ca.map(|(ca, auth)| ((ca.certificates, auth), ca.expiring)).unzip();
        let certificates = certificates.into_iter().chain(expiring).collect();
        match authorities.map(|(authorities, auth)| ClientCa::of(authorities, auth)).transpose() {
            Ok(client_ca) => {
                let server = tls::server_config(certified, client_ca.as_ref());
                listeners.push(Https { address, server, client_ca: client_ca.map(Arc::new), certificates });
            }
            Err(unusable) => {
                faults.add(None, "listen.https.client_ca", unusable.to_string(), unusable.mend())
            }
        }
    }
    listeners
}

/// Reads `upstream.tls`; `name` is what the upstream's certificate must be for.
pub(super) fn upstream(
    mut table: Table<'_>,
    name: Option<Name>,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> Option<UpstreamTls> {
    let ca = ca(&mut table, "ca", Use::UpstreamCa, folder, faults);
    let shows = ["client_certificate", "client_key"].map(|key| table.has(key)).contains(&true);
    let identity = if shows {
        identity(&mut table, "client_certificate", "client_key", folder, faults)
    } else {
        let _ = table.optional::<String>("client_certificate", faults);
        let _ = table.optional::<String>("client_key", faults);
        None
    };
    table.close(faults);
    let client = identity.as_ref().map(|identity| (identity.certified.cert.as_slice(), &identity.key));
    let trust = Trust::new(name?, ca.as_ref().map(|ca| ca.certificates.as_slice()), client);
    let shown = identity.map(|identity| identity.expiring);
    let certificates = shown.into_iter().chain(ca.map(|ca| ca.expiring)).collect();
    Some(UpstreamTls { trust, certificates })
}

/// A certificate chain with its key.
struct Identity {
    certified: Arc<CertifiedKey>,
    key: PrivateKeyDer<'static>,
    expiring: Expiring,
}

fn identity(
    table: &mut Table<'_>,
    certificate: &'static str,
    key: &'static str,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> Option<Identity> {
    let certificate_file: Option<String> = table.required(certificate, faults);
    let key_file: Option<String> = table.required(key, faults);
    // Some programs want both in one file, and take this one for what it is named for.
    let beside = if certificate_file == key_file { Beside::TheOther } else { Beside::Nothing };
    let chain = certificate_file
        .as_ref()
        .and_then(|file| usable(tls::certificates(&folder.join(file), beside), table, certificate, faults));
    let secret =
        key_file.and_then(|file| usable(tls::private_key(&folder.join(file), beside), table, key, faults));
    let (file, chain, secret) = (certificate_file?, chain?, secret?);
    let expiring = Expiring::of(&file, &chain, Use::Shown);
    let certified = usable(tls::pair(chain, secret.clone_key()), table, key, faults)?;
    Some(Identity { certified, key: secret, expiring })
}

fn ca(
    table: &mut Table<'_>,
    key: &'static str,
    used: Use,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> Option<Authorities> {
    let written: String = table.optional(key, faults)?;
    let file = folder.join(&written);
    let certificates = usable(tls::authorities(&file), table, key, faults)?;
    let expiring = Expiring::of(&written, &certificates, used);
    Some(Authorities { file, certificates, expiring })
}

/// What was loaded for a key; where that failed, a fault at the key.
fn usable<T>(
    loaded: Result<T, Unusable>,
    table: &Table<'_>,
    key: &'static str,
    faults: &mut Faults<'_>,
) -> Option<T> {
    loaded
        .map_err(|unusable| {
            faults.add(table.span(key), table.place(key), unusable.to_string(), unusable.mend());
        })
        .ok()
}
