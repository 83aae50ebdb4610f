//! Taking a call from an account: a listed user's, one of many users', and one that is empty.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use n4n_gateway::quota::{Account, Ledger, ListedAccount, Quota, Quotas, UnlistedQuota};

const USERS: u32 = 100_000;

fn per_second(requests: u32) -> Quota {
    let requests = NonZeroU32::new(requests).expect("more than none");
    Quota { requests, per: Duration::from_secs(1), burst: requests }
}

fn quota(criterion: &mut Criterion) {
    let start = Instant::now();
    let quotas = Quotas {
        users: Some(UnlistedQuota { quota: per_second(1_000_000), max_users: USERS as usize }),
        clients: Some(per_second(1_000_000)),
    };
    let empty = Quota { per: Duration::from_secs(1 << 30), ..per_second(1) };
    let [listed, spent] = [per_second(1_000_000), empty].map(|quota| ListedAccount::open(quota, start));
    let ledger = Ledger::open(quotas, None, start);
    let spend = |(name, client): &(String, IpAddr), now| {
        ledger.account(name, *client).expect("there is a quota").spend(now)
    };
    // Each calls from an address of its own, as far as accounts are given by address.
    let user = |number: u32| (format!("user-{number}"), Ipv4Addr::from_bits(number).into());
    let users: Vec<(String, IpAddr)> = (0..USERS).map(user).collect();
    for user in &users {
        spend(user, start).expect("a new account is full");
    }
    Account::from(&spent).spend(start).expect("there was one");

    let mut group = criterion.benchmark_group("quota");
    // The clock goes on with every call, so that accounts refill as they are used.
    let mut now = start;
    let mut tick = || {
        now += Duration::from_micros(10);
        now
    };
    group.bench_function("listed user", |bencher| {
        bencher.iter(|| Account::from(black_box(&listed)).spend(tick()).expect("refilled"));
    });
    group.bench_function("one of 100,000 users", |bencher| {
        let mut turns = users.iter().cycle();
        bencher.iter(|| spend(black_box(turns.next().expect("endless")), tick()).expect("refilled"));
    });
    group.bench_function("client address", |bencher| {
        let client = [192, 0, 2, 1].into();
        bencher.iter(|| ledger.spend_client(black_box(client), tick()).expect("refilled"));
    });
    group.bench_function("empty account", |bencher| {
        bencher.iter(|| Account::from(black_box(&spent)).spend(tick()).expect_err("spent"));
    });
    group.finish();
}

criterion_group!(benches, quota);
criterion_main!(benches);
