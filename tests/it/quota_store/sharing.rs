//! However many gateways there are, together they admit what one would.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use n4n_gateway::quota::{Ledger, Quota, Quotas, UnlistedQuota};

use super::load::{Load, Sample};
use super::{TWENTY_ONCE, calmly, errors, sharing};
use crate::harness::{Call, Gateway, Redis, Upstream, Wire};

/// Callers at five times the quota for ten seconds: what is admitted is burst and rate times duration, as
/// far as there were calls to admit at every moment of it.
fn together_admit_what_one_would(gateways: usize) {
    const RATE: u32 = 50;
    const SECONDS: u32 = 10;
    let upstream = Upstream::start();
    let redis = Redis::start();
    let quota = format!("requests = {RATE}\nper = \"1s\"\nburst = {RATE}");
    let start = |_| sharing(upstream.address(), &redis.url(), &quota).set("log", "access = \"off\"").start();
    let gateways: Vec<Gateway> = (0..gateways).map(start).collect();
    let addresses: Vec<_> = gateways.iter().map(Gateway::http).collect();

    let callers = 5;
    let load = Load::start(&addresses, callers, Duration::from_secs(1) / (RATE * 5) * 5);
    load.wait_until("ten seconds over", |samples| {
        let first = samples.first().map(|sample| sample.sent);
        first.is_some_and(|first| first.elapsed() >= Duration::from_secs(SECONDS.into()))
    });
    let samples = load.end();

    assert!(samples.iter().all(|sample| [200, 429].contains(&sample.status)));
    let admitted = samples.iter().filter(|sample| sample.status == 200).count();
    let one_would = admitted_by_one(RATE, &samples);
    let missed: f64 = gateways.iter().map(errors).sum();
    let ideal = RATE + RATE * SECONDS;
    println!(
        "{} gateways admit {admitted} of {}, one would {one_would}, ideally {ideal}; Redis was late {missed} times",
        gateways.len(),
        samples.len(),
    );
    // Where the machine is so busy that Redis is late, a gateway decides by itself, one call each time.
    let off = (admitted as f64 - one_would as f64).abs();
    assert!(off <= 0.02 * one_would as f64 + missed, "{admitted} and {one_would}, {missed} missed");
    assert!(missed <= 0.05 * samples.len() as f64, "{missed} of {} answers came late", samples.len());
}

/// How many of the calls a single ledger would have let pass.
fn admitted_by_one(rate: u32, samples: &[Sample]) -> usize {
    let rate = NonZeroU32::new(rate).unwrap();
    let quota = Quota { requests: rate, per: Duration::from_secs(1), burst: rate };
    let users = Some(UnlistedQuota { quota, max_users: 1 });
    let mut times: Vec<Instant> = samples.iter().map(|sample| sample.answered).collect();
    times.sort_unstable();
    let ledger = Ledger::open(Quotas { users, clients: None }, None, times[0]);
    let account = ledger.account("ada", [192, 0, 2, 1].into()).unwrap();
    times.into_iter().filter(|&time| account.spend(time).is_ok()).count()
}

#[test]
fn two_gateways_admit_what_one_would() {
    calmly(|| together_admit_what_one_would(2));
}

#[test]
fn five_gateways_admit_what_one_would() {
    calmly(|| together_admit_what_one_would(5));
}

#[test]
fn a_listed_users_own_quota_is_shared_and_a_clients_is_not() {
    calmly(|| {
        let upstream = Upstream::start();
        let redis = Redis::start();
        let start = || {
            sharing(upstream.address(), &redis.url(), TWENTY_ONCE)
                .set("clients", "quota = { requests = 1, per = \"1h\", burst = 60 }")
                .append("[[users]]\nname = \"n4n_admin\"\nquota = { requests = 1, per = \"1h\", burst = 30 }")
                .start()
        };
        let gateways = [start(), start()];
        let mut wires: Vec<Wire> = gateways.iter().map(Gateway::connect).collect();
        for (user, burst) in [("n4n_admin", 30), ("ada", 20)] {
            let calls = (0..40).map(|call: usize| wires[call % 2].call(&Call::unlock().user(user)));
            let passed = calls.filter(|answer| answer.status() == 200).count();
            assert_eq!(passed, burst, "{user}");
        }
        // Each gateway has had forty calls of its sixty; were they shared, they would have been used up.
        for wire in &mut wires {
            let codes: Vec<String> = (0..25).map(|_| wire.call(&Call::unlock()).code()).collect();
            assert_eq!(codes.iter().position(|code| code == "client_quota_exceeded"), Some(20));
        }
        assert_eq!(gateways.iter().map(errors).sum::<f64>(), 0.0);
    });
}

/// What stands in its place then is overwritten: were Redis taken for broken, each gateway would count all users by itself.
#[test]
fn an_account_that_is_none_begins_anew_and_costs_no_other_user_theirs() {
    calmly(|| {
        let upstream = Upstream::start();
        let redis = Redis::start();
        let start = || sharing(upstream.address(), &redis.url(), TWENTY_ONCE).start();
        let gateways = [start(), start()];
        let mut wires: Vec<Wire> = gateways.iter().map(Gateway::connect).collect();
        let mut call = |call: usize, user: &str| wires[call % 2].call(&Call::unlock().user(user)).status();
        // The SHA-256 of "bob".
        let account = "n4n-gateway:quota:81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9";
        let of_another = ["SET KEY garbage", "SET KEY 1", "SET KEY 17e27", "LPUSH KEY x"];
        let mut passed = 0;
        for (number, command) in of_another.iter().cycle().take(40).enumerate() {
            redis.ask::<u64>(&format!("DEL {account}"));
            redis.ask::<redis::Value>(&command.replace("KEY", account));
            assert_eq!(call(number, "bob"), 200, "{command}");
            passed += usize::from(call(number, "ada") == 200);
        }
        assert_eq!(passed, 20);
        assert_eq!(gateways.iter().map(errors).sum::<f64>(), 0.0);
    });
}
