//! Fields that claim what only the request line and the gateway say: who asks, from where, of which host, for what.
//!
//! This is the one list of them. `Via` is not on it: it tells of the proxies on the way, and a proxy passes it on
//! (RFC 9110 section 7.6.3).

use super::fields::fold_alike;

/// Names of fields, each in every spelling that CGI folds onto it.
#[derive(Debug)]
pub struct Names {
    names: &'static [&'static str],
    /// A bit for each length that a name has, so that most fields are told apart from all of them at once.
    lengths: u64,
}

impl Names {
    const fn of(names: &'static [&'static str]) -> Self {
        let (mut lengths, mut at) = (0, 0);
        while at < names.len() {
            lengths |= 1 << names[at].len();
            at += 1;
        }
        Self { names, lengths }
    }

    /// Each name, in small letters and with hyphens.
    pub const fn all(&self) -> &'static [&'static str] {
        self.names
    }

    /// Whether a field's name is one of them.
    pub fn have(&self, name: &[u8]) -> bool {
        name.len() < u64::BITS as usize
            && self.lengths >> name.len() & 1 == 1
            && self.names.iter().any(|known| fold_alike(name, known))
    }
}

/// Claims of who asks, from which address, of which host and by which scheme. The gateway alone says so, and the client's
/// own are dropped.
///
/// Beside the standard and the usual names these are the ones by which content networks and clouds tell an address, and
/// which applications therefore believe; and those by which proxies tell the path that a request had before them. `Proxy`
/// would become the proxy of the application's own requests, since CGI makes `HTTP_PROXY` of it.
pub static ORIGIN: Names = Names::of(&[
    "x-request-id",
    "forwarded",
    "forwarded-for",
    "x-forward-for",
    "x-forwarded",
    "x-forwarded-by",
    "x-forwarded-for",
    "x-forwarded-for-original",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarder-for",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-proto",
    "x-original-remote-addr",
    "x-originating-ip",
    "real-ip",
    "x-real-host",
    "x-real-ip",
    "x-real-port",
    "remote-addr",
    "remote-host",
    "x-remote-addr",
    "x-remote-host",
    "x-remote-ip",
    "client-ip",
    "x-client-host",
    "x-client-ip",
    "x-clientip",
    "cluster-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-true-client-ip",
    "x-true-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "x-proxyuser-ip",
    "x-custom-ip-authorization",
    "ali-cdn-real-ip",
    "cdn-real-ip",
    "cdn-src-ip",
    "x-cdn-src-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "cloudfront-viewer-address",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "incap-client-ip",
    "x-appengine-remote-addr",
    "x-appengine-user-ip",
    "x-arr-clientip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-envoy-external-address",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-nf-client-connection-ip",
    "x-sucuri-clientip",
    "x-vercel-forwarded-for",
    "x-vercel-proxied-for",
    "host-override",
    "proxy-host",
    "x-host",
    "x-host-override",
    "x-http-host",
    "x-http-host-override",
    "x-proxy-host",
    "front-end-https",
    "x-scheme",
    "x-url-scheme",
    "proxy",
]);

/// Fields by which an application may be asked for another target than the request line's: refused.
pub static TARGET: Names = Names::of(&[
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-rewrite-uri",
    "x-forwarded-url",
    "x-forwarded-uri",
    "x-override-url",
    "x-http-destinationurl",
    "request-uri",
    "x-request-uri",
    "proxy-url",
    "x-proxy-url",
]);

/// Fields by which an application may be asked for another method than the request line's: a rule of its own.
pub static METHOD: Names = Names::of(&["x-http-method", "x-http-method-override", "x-method-override"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_written_in_one_way_stands_on_one_list_and_is_found_in_every_spelling() {
        let all = [&ORIGIN, &TARGET, &METHOD];
        for list in all {
            for name in list.names {
                assert!(
                    name.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                );
                for spelling in
                    [name.to_string(), name.to_uppercase(), name.replace('-', "_"), name.replace('-', ".")]
                {
                    let found = all.iter().filter(|list| list.have(spelling.as_bytes())).count();
                    assert!(list.have(spelling.as_bytes()) && found == 1, "{spelling}");
                }
                let once = list.names.iter().filter(|other| *other == name).count();
                assert_eq!(once, 1, "{name}");
            }
        }
    }

    #[test]
    fn other_names_are_on_no_list() {
        let long = "x".repeat(100);
        for name in ["", "host", "via", "x-http-methods", "x-forwardedfor", "accept", "api-key", &long] {
            assert!(![&ORIGIN, &TARGET, &METHOD].iter().any(|list| list.have(name.as_bytes())), "{name}");
        }
    }
}
