//! Configurations: each fault says where, why and the mend; what has none holds to its own rules.
#![no_main]

use std::{collections::HashSet, path::Path, time::Duration};

use libfuzzer_sys::{Corpus, fuzz_target};
use n4n_gateway_fuzz::{
    config::{Fault, Settings},
    policy::credential,
    quota::Quota,
    wire::framing,
};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(text) = str::from_utf8(bytes).ok().filter(|text| !repeats_a_lot(text)) else {
        return Corpus::Reject;
    };
    let parse = || Settings::parse(text, Path::new("/etc/n4n-gateway"));
    match parse() {
        Ok(settings) => {
            let again = parse().expect("what has no fault has none the second time");
            assert_eq!(format!("{again:?}"), format!("{settings:?}"));
            keeps_its_rules(&settings);
        }
        Err(faults) => tell_where_why_and_the_mend(&faults, text),
    }
    Corpus::Keep
});

/// Whether there may be a pattern that takes a third of a second to compile: a few of them would take all the
/// time, and tell nothing of the gateway.
fn repeats_a_lot(text: &str) -> bool {
    let repetition = |part: &[u8]| part[0] == b'{' && part[1..].iter().all(u8::is_ascii_digit);
    text.contains("}){") || text.as_bytes().windows(4).any(repetition)
}

fn tell_where_why_and_the_mend(faults: &[Fault], text: &str) {
    let lines = text.split('\n').count();
    assert!(!faults.is_empty());
    assert!(faults.is_sorted_by_key(|fault| fault.line));
    for fault in faults {
        assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)), "{fault}");
        for part in [&fault.place, &fault.reason, &fault.mend] {
            assert!(!part.is_empty(), "{fault}");
        }
    }
}

fn keeps_its_rules(settings: &Settings) {
    let Settings { listen, upstream, policy, deadlines, client_quota, quota, users, .. } = settings;
    assert!(listen.http.len() + listen.https.len() > 0 && !upstream.peers.is_empty());
    assert!(framing::is_authority(upstream.host.as_bytes()), "{}", upstream.host);
    assert!(listen.threads.get() <= 1024);
    assert!((1..=64 * 1024).contains(&policy.max_body));
    for count in [listen.max_connections, listen.max_in_flight] {
        assert!(count > 0);
    }
    for period in [
        listen.idle_timeout,
        listen.drain_timeout,
        upstream.connect_timeout,
        upstream.response_timeout,
        upstream.idle_timeout,
        deadlines.header,
        deadlines.body,
    ] {
        assert!(!period.is_zero());
    }
    client_quota.iter().for_each(can_be_counted);
    assert!(!policy.clients.networks.is_empty());
    let mut names = HashSet::new();
    for user in users {
        assert!(
            credential::is_well_formed(user.name.as_bytes()) && names.insert(user.name.to_ascii_lowercase())
        );
        user.quota.iter().for_each(can_be_counted);
    }
    if let Some(unlisted) = quota {
        assert!(unlisted.max_users > 0);
        can_be_counted(&unlisted.quota);
    }
}

fn can_be_counted(quota: &Quota) {
    assert!(!quota.interval().is_zero() && quota.window() <= Duration::from_secs(10 * 366 * 24 * 3600));
}
