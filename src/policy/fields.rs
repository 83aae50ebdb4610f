//! How names of header fields are told apart, as written and as CGI folds them.

/// Whether CGI, FastCGI or PHP's own server gives both names the same variable.
///
/// CGI (RFC 3875 section 4.1.18) turns `-` into `_` and folds case; PHP's own server does the same to
/// `.`, and no server is relied on to leave any other separator alone.
pub fn fold_alike(name: &str, canonical: &str) -> bool {
    name.len() == canonical.len() && name.bytes().zip(canonical.bytes()).all(|(a, b)| fold(a) == fold(b))
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' }
}

/// Whether the name is one of `canonicals` in a spelling of its own.
pub fn is_disguise_of(name: &str, canonicals: &[&str]) -> bool {
    canonicals.iter().any(|canonical| fold_alike(name, canonical) && !name.eq_ignore_ascii_case(canonical))
}

/// The members of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}
