//! Whatever happens to Redis, nobody waits for it, and what happens then is what was chosen.

use std::time::{Duration, Instant};

use super::cutter::Cutter;
use super::load::{Load, Sample};
use super::{NO_END, calmly, errors, sharing};
use crate::harness::{Gateway, Redis, Upstream};

/// How much longer a call may take while Redis fails, than the longest beside it that had nothing to do with it.
const LONGER: Duration = Duration::from_millis(50);

/// How soon after its recovery Redis must be asked again.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// Has Redis fail and recover under load, once under each policy that can be told by its answers.
fn nobody_waits(breaks: impl Fn(&mut Redis), mends: impl Fn(&mut Redis)) {
    for policy in ["reject", "forward"] {
        calmly(|| {
            let mut redis = Redis::start();
            under_load(policy, &redis.url(), &mut redis, &breaks, &mends);
        });
    }
}

fn under_load(
    policy: &str,
    url: &str,
    redis: &mut Redis,
    breaks: impl Fn(&mut Redis),
    mends: impl Fn(&mut Redis),
) {
    let upstream = Upstream::start();
    let gateway = sharing(upstream.address(), url, NO_END)
        .set("quota", &format!("when_redis_fails = \"{policy}\""))
        .set("log", "access = \"off\"")
        .start();
    // One that counts by itself, under the same load on the same machine, to compare with.
    let other =
        Gateway::before(upstream.address()).set("quota", NO_END).set("log", "access = \"off\"").start();
    let is_shared = |sample: &Sample| sample.status == 200 && sample.has_balance;
    let is_policy = |sample: &Sample| match policy {
        "reject" => sample.status == 429 && sample.has_balance,
        _ => sample.status == 200 && !sample.has_balance,
    };
    let of_gateway = |samples: &[Sample]| -> Vec<Sample> {
        samples.iter().filter(|sample| sample.gateway == 0).copied().collect()
    };

    let load = Load::start(&[gateway.http(), other.http()], 4, Duration::from_millis(2));
    // Once every worker has served, what is slow is not their start.
    load.go_on_for(200);
    let warm_at = Instant::now();
    load.go_on_for(400);
    let before = errors(&gateway);
    let broken_at = Instant::now();
    breaks(redis);
    load.wait_until("judged by policy", |samples| {
        let samples = of_gateway(samples);
        samples.len() > 100 && samples[samples.len() - 100..].iter().all(is_policy)
    });
    assert_eq!(gateway.admin("/readyz").unwrap().0, 200);
    assert!(errors(&gateway) > before);
    mends(redis);
    let mended_at = Instant::now();
    load.wait_until("shared again", |samples| {
        let samples = of_gateway(samples);
        samples[samples.len() - 100..].iter().all(is_shared)
    });
    load.go_on_for(400);
    let mut samples = load.end();
    samples.retain(|sample| sample.sent >= warm_at);

    let ours = of_gateway(&samples);
    let healthy: Vec<&Sample> = ours.iter().filter(|sample| sample.answered < broken_at).collect();
    let missed = healthy.iter().filter(|sample| !is_shared(sample)).count();
    assert!(missed * 20 <= healthy.len(), "{policy}: {missed} of {} missed before", healthy.len());
    for sample in &ours {
        assert!(is_shared(sample) || is_policy(sample), "{policy}: {sample:?}");
    }
    let slowest =
        |gateway| samples.iter().filter(|sample| sample.gateway == gateway).map(Sample::took).max().unwrap();
    let last = ours.iter().rev().find(|sample| is_policy(sample)).unwrap();
    let back = last.sent.saturating_duration_since(mended_at);
    println!("{policy}: slowest {:?}, beside it {:?}; back after {back:?}", slowest(0), slowest(1));
    assert!(slowest(0) <= slowest(1) + LONGER, "{policy}: {:?} and {:?}", slowest(0), slowest(1));
    assert!(back <= BACK_WITHIN, "{policy}: {back:?}");

    let told = |what| gateway.output().lines().filter(|line| line.contains(what)).count();
    let by_policy = ours.iter().filter(|sample| is_policy(sample)).count();
    assert_eq!((told("Redis fails"), told("Redis is back")), (1, 1), "of {by_policy} calls");
}

#[test]
fn nobody_waits_for_a_redis_that_was_killed() {
    nobody_waits(Redis::kill, Redis::start_again);
}

#[test]
fn nobody_waits_for_a_redis_that_stands_still() {
    nobody_waits(|redis| redis.pause(), |redis| redis.resume());
}

#[test]
fn nobody_waits_for_a_redis_that_cannot_be_written_to() {
    nobody_waits(|redis| redis.ask("REPLICAOF 127.0.0.1 1"), |redis| redis.ask("REPLICAOF NO ONE"));
}

#[test]
fn nobody_waits_for_a_redis_without_memory() {
    nobody_waits(|redis| redis.ask("CONFIG SET maxmemory 1"), |redis| redis.ask("CONFIG SET maxmemory 0"));
}

#[test]
fn nobody_waits_for_a_redis_that_is_cut_off_in_mid_answer() {
    for policy in ["reject", "forward"] {
        calmly(|| {
            let mut redis = Redis::start();
            let cutter = Cutter::before(redis.port());
            under_load(policy, &cutter.url(), &mut redis, |_| cutter.cut(), |_| cutter.mend());
        });
    }
}

#[test]
fn a_redis_that_restarts_empty_is_shared_again_within_two_seconds() {
    calmly(|| {
        let upstream = Upstream::start();
        let mut redis = Redis::start();
        let gateway =
            sharing(upstream.address(), &redis.url(), NO_END).set("log", "access = \"off\"").start();
        let load = Load::start(&[gateway.http()], 4, Duration::from_millis(2));
        load.go_on_for(200);
        redis.kill();
        redis.start_again();
        let restarted = Instant::now();
        while redis.ask::<Vec<String>>("KEYS n4n-gateway:quota:[0-9a-f]*").is_empty() {
            assert!(restarted.elapsed() <= BACK_WITHIN);
        }
        // Calls are counted in this process meanwhile, and nobody notices.
        assert!(load.end().iter().all(|sample| sample.status == 200 && sample.has_balance));
    });
}
