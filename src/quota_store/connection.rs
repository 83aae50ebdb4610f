//! One worker's connection to Redis, which is given up when Redis fails and comes back by itself.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use prometheus::IntCounter;
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    account,
    store::{RedisFault, Store},
};
use crate::quota::{Balance, Exhausted, Quota};

/// The longest that a call waits for Redis.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(10);

/// How long queries may time out one after the other before Redis is taken to have failed.
const SILENCE: Duration = Duration::from_millis(100);

/// How long it may take to connect and log in.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// How long a worker's start waits for its first attempt to connect.
const FIRST_WITHIN: Duration = Duration::from_millis(100);

/// The least time from the beginning of one attempt to connect to that of the next.
const CONNECT_EVERY: Duration = Duration::from_millis(250);

/// One worker's connection to Redis, made again whenever it is lost.
///
/// While it is down no call waits for it. It is up again once a new connection has proven itself by taking a call from
/// an account.
#[derive(Debug)]
pub struct StoreConnection {
    /// None while it is down, and where no Redis is configured.
    session: ArcSwapOption<RedisSession>,
    /// Send time of the oldest query in the current run of timeouts.
    silent_since: Mutex<Option<Instant>>,
    is_down: AtomicBool,
    tried: Notify,
    answer_within: Duration,
    errors: IntCounter,
}

/// One connection.
#[derive(Debug)]
struct RedisSession {
    connection: MultiplexedConnection,
    store: Arc<Store>,
    /// Notified when the connection is lost.
    broken: Arc<Notify>,
    driver: AbortHandle,
}

impl Drop for RedisSession {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl StoreConnection {
    /// Not connected until it is [kept](Self::keep). An answer is late after `answer_within`; `errors` counts what goes
    /// wrong.
    pub fn new(answer_within: Duration, errors: IntCounter) -> Self {
        Self {
            session: ArcSwapOption::empty(),
            silent_since: Mutex::new(None),
            is_down: AtomicBool::new(false),
            tried: Notify::new(),
            answer_within,
            errors,
        }
    }

    /// Takes one call from the account of the user with this name in lower case; `None` where Redis does not say in time.
    pub async fn spend(&self, folded: &str, quota: Quota) -> Option<Result<Balance, Exhausted>> {
        let session = self.session.load_full()?;
        let key = account::key(folded);
        let mut connection = session.connection.clone();
        let asked = Instant::now();
        match timeout(self.answer_within, account::spend(&mut connection, &key, quota)).await {
            Ok(Ok(spent)) => {
                *self.silent_since() = None;
                return Some(spent);
            }
            Ok(Err(error)) => self.cut(&session, &error.into()),
            Err(_) => {
                let since = *self.silent_since().get_or_insert(asked);
                if since.elapsed() >= SILENCE {
                    self.cut(&session, &RedisFault::Late);
                }
            }
        }
        self.errors.inc();
        None
    }

    /// Keeps the connection to the store that is configured, through every change of it.
    pub async fn keep(&self, mut stores: watch::Receiver<Option<Arc<Store>>>) {
        loop {
            let store = stores.borrow_and_update().clone();
            tokio::select! {
                () = self.keep_to(store) => {}
                changed = stores.changed() => if changed.is_err() {
                    return;
                },
            }
            self.session.store(None);
            self.is_down.store(false, Ordering::Relaxed);
        }
    }

    /// Waits a moment for the first attempt to connect, so that a worker's first call finds Redis if it is there.
    pub async fn tried(&self) {
        let _ = timeout(FIRST_WITHIN, self.tried.notified()).await;
    }

    async fn keep_to(&self, store: Option<Arc<Store>>) {
        let Some(store) = store else {
            self.tried.notify_one();
            return pending().await;
        };
        loop {
            let next = Instant::now() + CONNECT_EVERY;
            match connect(&store, self.answer_within).await {
                Ok(session) => {
                    let broken = session.broken.clone();
                    *self.silent_since() = None;
                    self.session.store(Some(Arc::new(session)));
                    if self.is_down.swap(false, Ordering::Relaxed) {
                        store.connection_up();
                    }
                    self.tried.notify_one();
                    broken.notified().await;
                    self.session.store(None);
                }
                Err(fault) => {
                    self.errors.inc();
                    self.down(&store, &fault);
                    self.tried.notify_one();
                }
            }
            sleep_until(next).await;
        }
    }

    /// What is in there is whole whatever panics, so a poisoned lock is as good as any.
    fn silent_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up a connection, once.
    fn cut(&self, session: &Arc<RedisSession>, cause: &RedisFault) {
        let before = self.session.compare_and_swap(&Some(session.clone()), None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, session)) {
            self.down(&session.store, cause);
            session.broken.notify_one();
        }
    }

    fn down(&self, store: &Store, cause: &RedisFault) {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            store.connection_down(cause);
        }
    }
}

/// Connects, and takes a call from an account as proof that the server answers in time and can be written to.
async fn connect(store: &Arc<Store>, answer_within: Duration) -> Result<RedisSession, RedisFault> {
    let broken = Arc::new(Notify::new());
    let open = async {
        let (connection, driver) = store.connect().await?;
        let ended = broken.clone();
        let driver = tokio::spawn(async move {
            driver.await;
            ended.notify_one();
        });
        let mut session = RedisSession {
            connection,
            store: store.clone(),
            broken: broken.clone(),
            driver: driver.abort_handle(),
        };
        account::prepare(&mut session.connection).await?;
        Ok(session)
    };
    let mut session = timeout(CONNECT_WITHIN, open).await.unwrap_or(Err(RedisFault::Late))?;
    let proof = account::prove(&mut session.connection);
    timeout(answer_within, proof).await.map_err(|_| RedisFault::Late)??;
    Ok(session)
}
