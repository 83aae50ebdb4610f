//! Who a client's certificate is for, in words for logs.

use std::{fmt::Write, sync::Arc};

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

/// The most bytes that are told of it.
const LONGEST: usize = 256;

/// What stands for the rest.
const CUT: char = '…';

/// The short names of attribute types (RFC 4514 section 3, and what OpenSSL adds to them).
const TYPES: [(&str, &str); 13] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The subject of a certificate as a distinguished name (RFC 4514), the most specific part first; where that is empty,
/// its first subjectAltName with its kind. Cut where it is long; `None` where there is neither.
pub fn subject(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = distinguished_name(certificate.subject());
    let mut name = if name.is_empty() { alternative_name(&certificate)? } else { name };
    if name.len() > LONGEST {
        let most = LONGEST - CUT.len_utf8();
        let fitting = name.char_indices().map(|(place, _)| place).take_while(|place| *place <= most);
        name.truncate(fitting.last().unwrap_or(0));
        name.push(CUT);
    }
    Some(name.into())
}

fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .filter(|part| !part.is_empty())
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let known = TYPES.iter().find(|(known, _)| *known == oid);
    match (known, attribute.as_str()) {
        (Some((_, name)), Ok(value)) => format!("{name}={}", escaped(value)),
        // What has no short name, or is no text, is told in hexadecimal digits.
        (known, _) => {
            let value = hex::encode(attribute.as_slice());
            format!("{}=#{value}", known.map_or(oid.as_str(), |(_, name)| name))
        }
    }
}

/// A value in which nothing can be taken for another part of the name (RFC 4514 section 2.4).
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (place, letter) in value.chars().enumerate() {
        let is_at_end = letter == ' ' && (place == 0 || place == last);
        if letter.is_ascii_control() {
            write!(text, "\\{:02X}", u32::from(letter)).expect("memory takes all that is written");
            continue;
        }
        if is_at_end || (letter == '#' && place == 0) || "\"+,;<>\\".contains(letter) {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

fn alternative_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        if let GeneralName::URI(uri) = name {
            Some(format!("URI:{uri}"))
        } else if let GeneralName::DNSName(host) = name {
            Some(format!("DNS:{host}"))
        } else if let GeneralName::RFC822Name(address) = name {
            Some(format!("email:{address}"))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, string::Ia5String};

    use super::*;

    fn subject_of(parts: &[(DnType, &str)], names: Vec<SanType>) -> Option<String> {
        let mut name = DistinguishedName::new();
        for (kind, value) in parts {
            name.push(kind.clone(), *value);
        }
        let mut params = CertificateParams::default();
        (params.distinguished_name, params.subject_alt_names) = (name, names);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        subject(certificate.der()).map(|subject| subject.to_string())
    }

    #[test]
    fn a_subject_is_told_like_openssl_does() {
        let (country, organization, name) =
            (DnType::CountryName, DnType::OrganizationName, DnType::CommonName);
        let parts = [(country, "NL"), (organization.clone(), "A, B"), (name.clone(), "billing")];
        assert_eq!(subject_of(&parts, Vec::new()).as_deref(), Some("CN=billing,O=A\\, B,C=NL"));
        let odd = subject_of(&[(name.clone(), " #a\n\"=é ")], Vec::new());
        assert_eq!(odd.as_deref(), Some("CN=\\ #a\\0A\\\"=é\\ "));
        let long = subject_of(&[(organization, &"é".repeat(500))], Vec::new()).unwrap();
        assert!(long.len() <= LONGEST && long.ends_with("é…"), "{long}");
        let unknown = DnType::CustomDnType(vec![2, 5, 4, 97]);
        assert_eq!(subject_of(&[(unknown, "ab")], Vec::new()).as_deref(), Some("2.5.4.97=#6162"));
    }

    #[test]
    fn without_a_subject_the_first_alternative_name_is_told() {
        let uri = SanType::URI(Ia5String::try_from("spiffe://example.org/billing").unwrap());
        assert_eq!(subject_of(&[], vec![uri]).as_deref(), Some("URI:spiffe://example.org/billing"));
        assert_eq!(subject_of(&[], Vec::new()), None);
    }
}
