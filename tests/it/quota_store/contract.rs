//! The accounts in this process and those in Redis hold to the same rules, each on its own clock.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use n4n_gateway::quota::{Account, Balance, Exhausted, Ledger, ListedAccount, Quota, Quotas, UnlistedQuota};
use n4n_gateway::quota_store::WhenRedisFails;
use n4n_gateway::quota_store::{Address, SharedAccounts, Store, StoreConnection};
use prometheus::IntCounter;
use tokio::sync::watch;

use crate::harness::{DEADLINE, Redis};

const HOUR: Duration = Duration::from_secs(3600);

fn quota(requests: u32, per: Duration, burst: u32) -> Quota {
    Quota { requests: NonZeroU32::new(requests).unwrap(), per, burst: NonZeroU32::new(burst).unwrap() }
}

/// The accounts of users, one of whom is listed with a quota of its own.
struct Accounts {
    ledger: Ledger,
    own: Option<ListedAccount>,
}

/// The name of the user that is listed, where one is.
const LISTED: &str = "own";

impl Accounts {
    /// Opened at that time, with one quota for all and one for the listed user.
    fn open(quota: Quota, own: Option<Quota>, now: Instant) -> Self {
        let users = Some(UnlistedQuota { quota, max_users: 1000 });
        let ledger = Ledger::open(Quotas { users, clients: None }, None, now);
        Self { ledger, own: own.map(|quota| ListedAccount::open(quota, now)) }
    }

    /// One user's account.
    fn of(&self, user: &str) -> Account<'_> {
        match &self.own {
            Some(own) if user == LISTED => own.into(),
            Some(_) | None => {
                self.ledger.account(user, [192, 0, 2, 1].into()).expect("there is a quota for all")
            }
        }
    }
}

/// Accounts opened at that time, with this quota for all.
fn accounts(quota: Quota, now: Instant) -> Accounts {
    Accounts::open(quota, None, now)
}

/// Accounts under test, with the clock they go by.
trait Subject {
    async fn spend(&self, accounts: &Accounts, user: &str) -> Result<Balance, Exhausted>;

    /// Lets that time pass.
    async fn wait(&self, time: Duration);

    fn now(&self) -> Instant;
}

/// In this process, on a clock that goes when it is told to.
struct Here(Cell<Instant>);

impl Subject for Here {
    async fn spend(&self, accounts: &Accounts, user: &str) -> Result<Balance, Exhausted> {
        accounts.of(user).spend(self.now())
    }

    async fn wait(&self, time: Duration) {
        self.0.set(self.now() + time);
    }

    fn now(&self) -> Instant {
        self.0.get()
    }
}

/// In a real Redis, whose clock nobody can set.
struct There {
    line: Arc<StoreConnection>,
    redis: Redis,
    errors: IntCounter,
    _stores: watch::Sender<Option<Arc<Store>>>,
}

impl There {
    async fn connected() -> Self {
        let redis = Redis::start();
        let store = Store::at(Address::parse(&redis.url()).unwrap());
        let (stores, watched) = watch::channel(Some(Arc::new(store)));
        let errors = IntCounter::new("errors", "errors").unwrap();
        let line = Arc::new(StoreConnection::new(DEADLINE, errors.clone()));
        let kept = Arc::clone(&line);
        tokio::spawn(async move { kept.keep(watched).await });
        line.tried().await;
        Self { line, redis, errors, _stores: stores }
    }
}

impl Subject for There {
    async fn spend(&self, accounts: &Accounts, user: &str) -> Result<Balance, Exhausted> {
        // Were Redis not to answer, that would be seen.
        let when_redis_fails = WhenRedisFails::Forward;
        let shared = SharedAccounts { connection: &self.line, when_redis_fails };
        shared.spend(user, accounts.of(user)).await.map(|balance| balance.expect("a balance"))
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

async fn passed(subject: &impl Subject, accounts: &Accounts, user: &str, calls: u32) -> u32 {
    let mut passed = 0;
    for _ in 0..calls {
        passed += u32::from(subject.spend(accounts, user).await.is_ok());
    }
    passed
}

/// Every rule; what time does on its own between two calls is allowed for.
async fn holds_to_the_rules(subject: impl Subject) {
    a_burst_passes_and_its_balance_is_told(&subject).await;
    a_refusal_spends_nothing_and_tells_when_to_come_back(&subject).await;
    time_gives_back_one_call_an_interval(&subject).await;
    each_user_has_an_account(&subject).await;
    odd_numbers_are_exact(&subject).await;
}

async fn a_burst_passes_and_its_balance_is_told(subject: &impl Subject) {
    let accounts = accounts(quota(1, HOUR, 20), subject.now());
    let start = subject.now();
    for spent in 1..=20 {
        let balance = subject.spend(&accounts, "burst").await.unwrap();
        let elapsed = subject.now() - start;
        assert_eq!(balance.remaining, 20 - spent);
        let whole_in = HOUR * spent;
        assert!((whole_in.saturating_sub(elapsed)..=whole_in).contains(&balance.whole_in), "{balance:?}");
    }
    assert_eq!(passed(subject, &accounts, "burst", 80).await, 0);
}

async fn a_refusal_spends_nothing_and_tells_when_to_come_back(subject: &impl Subject) {
    let accounts = accounts(quota(1, HOUR, 2), subject.now());
    let start = subject.now();
    assert_eq!(passed(subject, &accounts, "refused", 2).await, 2);
    for _ in 0..100 {
        let exhausted = subject.spend(&accounts, "refused").await.unwrap_err();
        let elapsed = subject.now() - start;
        assert_eq!(exhausted.balance.remaining, 0);
        assert_eq!(exhausted.balance.whole_in, exhausted.retry_after + HOUR);
        assert!((HOUR.saturating_sub(elapsed)..=HOUR).contains(&exhausted.retry_after), "{exhausted:?}");
    }
}

async fn time_gives_back_one_call_an_interval(subject: &impl Subject) {
    let interval = Duration::from_millis(400);
    let accounts = accounts(quota(5, interval * 5, 3), subject.now());
    let start = subject.now();
    // What time has given back since then, on top of the burst.
    let given_back = || u32::try_from((subject.now() - start).as_millis() / interval.as_millis()).unwrap();
    let mut spent = passed(subject, &accounts, "waits", 3).await;
    let retry_after = subject.spend(&accounts, "waits").await.map_or_else(
        |refused| refused.retry_after,
        |_| {
            spent += 1;
            interval
        },
    );
    assert!(retry_after <= interval, "{retry_after:?}");
    subject.wait(retry_after).await;
    spent += passed(subject, &accounts, "waits", 2).await;
    assert!((4..=3 + given_back()).contains(&spent), "one more passes, and one only: {spent}");
    subject.wait(interval * 4).await;
    let whole_since = given_back();
    let passed = passed(subject, &accounts, "waits", 5).await;
    assert!((3..=3 + given_back() - whole_since + 1).contains(&passed), "never more than a burst: {passed}");
}

async fn each_user_has_an_account(subject: &impl Subject) {
    let accounts = Accounts::open(quota(1, HOUR, 20), Some(quota(1, HOUR, 30)), subject.now());
    let long = "x".repeat(255);
    for name in [format!("{long}a"), format!("{long}b"), "ada".into(), "ada2".into()] {
        assert_eq!(passed(subject, &accounts, &name, 25).await, 20, "{name}");
    }
    assert_eq!(passed(subject, &accounts, LISTED, 40).await, 30);
}

async fn odd_numbers_are_exact(subject: &impl Subject) {
    let decade = Duration::from_secs(10 * 366 * 24 * 60 * 60);
    for (index, quota) in [
        quota(3, Duration::from_secs(1), 7),
        quota(u32::MAX, Duration::from_millis(1), u32::MAX),
        quota(7, HOUR, 11),
        quota(1, decade / 2, 2),
        quota(1, decade, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let accounts = accounts(quota, subject.now());
        let balance = subject.spend(&accounts, &format!("odd-{index}")).await.unwrap();
        // Beyond a quarter of a year Lua's numbers are exact to 64 nanoseconds.
        let difference = balance.whole_in.abs_diff(quota.interval());
        assert!(difference <= Duration::from_nanos(64), "{quota:?}: {balance:?}");
        assert_eq!(balance.remaining, quota.burst.get() - 1, "{quota:?}");
    }
}

#[tokio::test]
async fn accounts_in_this_process_hold_to_the_rules() {
    holds_to_the_rules(Here(Cell::new(Instant::now()))).await;
}

#[tokio::test]
async fn accounts_in_redis_hold_to_the_rules() {
    let there = There::connected().await;
    let errors = there.errors.clone();
    holds_to_the_rules(there).await;
    assert_eq!(errors.get(), 0, "Redis was asked each time, and answered");
}

#[tokio::test]
async fn other_numbers_apply_to_the_account_that_is_there() {
    let there = There::connected().await;
    let (slow, quick) = (quota(1, HOUR, 20), quota(1, Duration::from_millis(100), 5));
    let slow = accounts(slow, there.now());
    assert_eq!(passed(&there, &slow, "ada", 25).await, 20);
    let exhausted = there.spend(&accounts(quick, there.now()), "ada").await.unwrap_err();
    // What is spent for hours by the old numbers is spent for a window, no longer, by the new ones.
    assert_eq!(exhausted.balance.whole_in, quick.window());
}

#[tokio::test]
async fn a_script_that_redis_has_forgotten_is_loaded_again_unnoticed() {
    let there = There::connected().await;
    let accounts = accounts(quota(1, HOUR, 20), there.now());
    for left in (0..20).rev() {
        there.redis.ask::<()>("SCRIPT FLUSH");
        assert_eq!(there.spend(&accounts, "ada").await.unwrap().remaining, left);
    }
    assert_eq!(there.errors.get(), 0);
}

#[tokio::test]
async fn keys_have_a_prefix_and_expire_when_the_burst_is_whole() {
    let there = There::connected().await;
    let accounts = accounts(quota(10, Duration::from_secs(10), 20), there.now());
    assert_eq!(passed(&there, &accounts, "ada", 3).await, 3);
    there.wait(Duration::from_millis(10)).await; // The proof of the connection is gone by then.
    let keys: Vec<String> = there.redis.ask("KEYS *");
    // As `printf %s ada | sha256sum` has it.
    let key = "n4n-gateway:quota:fdee430d40bd57deeac186cd9790033d0f06f909a8806e7ce6e717ab7c7d5029";
    assert_eq!(keys, [key]);
    let expires_in: u64 = there.redis.ask(&format!("PTTL {key}"));
    assert!((2000..=3000).contains(&expires_in), "{expires_in} ms");
    assert_eq!(there.redis.ask::<String>(&format!("OBJECT ENCODING {key}")), "int");
}

/// The script, on a clock that goes as its last two arguments say.
fn script_on_a_clock() -> redis::Script {
    const CLOCK: &str = "
        local server = redis
        local redis = { pcall = server.pcall, call = function(command, ...)
            if command == 'TIME' then return { ARGV[3], ARGV[4] } end
            -- Keys would expire on the server's own clock.
            if command == 'SET' then return server.call(command, KEYS[1], (select(2, ...))) end
            return server.call(command, ...)
        end }
        ";
    redis::Script::new(&[CLOCK, include_str!("../../../src/quota_store/spend.lua")].concat())
}

#[test]
fn at_the_same_times_both_say_the_same() {
    let server = Redis::start();
    let mut connection = server.connect();
    let script = script_on_a_clock();
    let (seconds, start): (u64, Instant) = (4_000_000_000, Instant::now());
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let quotas = [
        quota(10, Duration::from_secs(1), 20),
        quota(3, Duration::from_secs(1), 7),
        quota(7, Duration::from_millis(1), 2),
        quota(1, HOUR, 5),
        quota(999_999_937, Duration::from_secs(1), 1000),
        quota(13, HOUR * 24 * 70, 16),
    ];
    for (index, quota) in quotas.into_iter().enumerate() {
        let accounts = accounts(quota, start);
        let mut micros = 0;
        let (mut passed, mut refused) = (0, 0);
        for call in 0..1500 {
            // Mostly less than comes back meanwhile, now and then far more.
            let interval = u64::try_from(quota.interval().as_micros()).unwrap();
            micros += random(interval + 2) * if call % 100 == 99 { 50 } else { 1 };
            let here = accounts.of("ada").spend(start + Duration::from_micros(micros));
            let (passes, whole_in): (bool, u64) = script
                .key(format!("key-{index}"))
                .arg(u64::try_from(quota.interval().as_nanos()).unwrap())
                .arg(u64::try_from(quota.window().as_nanos()).unwrap())
                .arg(seconds + micros / 1_000_000)
                .arg(micros % 1_000_000)
                .invoke(&mut connection)
                .unwrap();
            let balance = match here {
                Ok(balance) => balance,
                Err(exhausted) => exhausted.balance,
            };
            assert_eq!(
                (passes, Duration::from_nanos(whole_in)),
                (here.is_ok(), balance.whole_in),
                "{quota:?}, call {call}, at {micros} µs"
            );
            *(if passes { &mut passed } else { &mut refused }) += 1;
        }
        assert!(passed > 100 && (refused > 100 || quota.interval() < Duration::from_micros(1)), "{quota:?}");
    }
}
