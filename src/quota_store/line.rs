//! One worker's line to Redis, which is cut when Redis fails and comes back by itself.

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
    store::{Failure, Store},
};
use crate::quota::{Balance, Exhausted, Quota};

/// How long a call waits for Redis at most, and so does an attempt to connect for its proof.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(10);

/// How long Redis may answer nothing in time before it is taken to have failed.
const SILENCE: Duration = Duration::from_millis(100);

/// How long it may take to connect and log in.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// How long a worker's start waits for its first attempt to connect.
const FIRST_WITHIN: Duration = Duration::from_millis(100);

/// How much time lies between two attempts to connect, from beginning to beginning at least.
const CONNECT_EVERY: Duration = Duration::from_millis(250);

/// One worker's line to Redis.
///
/// While it is down nobody waits for it: whoever calls is told at once, and an attempt to connect that
/// ends in a call taken from an account, the one proof that all is well, is what brings it up again.
#[derive(Debug)]
pub struct Line {
    /// None while the line is down, and where no Redis is configured.
    link: ArcSwapOption<Link>,
    /// When the first question was asked of those late ones that no answer in time has followed.
    silent_since: Mutex<Option<Instant>>,
    is_down: AtomicBool,
    tried: Notify,
    answer_within: Duration,
    errors: IntCounter,
}

/// One connection.
#[derive(Debug)]
struct Link {
    connection: MultiplexedConnection,
    store: Arc<Store>,
    /// Told when the connection is of no use any more.
    broken: Arc<Notify>,
    driver: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Line {
    /// A line that goes nowhere until it is kept, on which an answer is late after so long. What goes wrong
    /// is counted by `errors`.
    pub fn new(answer_within: Duration, errors: IntCounter) -> Self {
        Self {
            link: ArcSwapOption::empty(),
            silent_since: Mutex::new(None),
            is_down: AtomicBool::new(false),
            tried: Notify::new(),
            answer_within,
            errors,
        }
    }

    /// Takes one call from a user's account; `None` where Redis does not say in time.
    pub async fn spend(&self, username: &str, quota: Quota) -> Option<Result<Balance, Exhausted>> {
        let link = self.link.load_full()?;
        let key = account::key(username);
        let mut connection = link.connection.clone();
        let asked = Instant::now();
        match timeout(self.answer_within, account::spend(&mut connection, &key, quota)).await {
            Ok(Ok(spent)) => {
                *self.silent_since() = None;
                return Some(spent);
            }
            Ok(Err(error)) => self.cut(&link, &error.into()),
            Err(_) => {
                let since = *self.silent_since().get_or_insert(asked);
                if since.elapsed() >= SILENCE {
                    self.cut(&link, &Failure::Late);
                }
            }
        }
        self.errors.inc();
        None
    }

    /// Keeps the line up to the store that is configured, for as long as there may be another.
    pub async fn keep(&self, mut stores: watch::Receiver<Option<Arc<Store>>>) {
        loop {
            let store = stores.borrow_and_update().clone();
            tokio::select! {
                () = self.keep_to(store) => {}
                changed = stores.changed() => if changed.is_err() {
                    return;
                },
            }
            self.link.store(None);
            self.is_down.store(false, Ordering::Relaxed);
        }
    }

    /// Waits a moment for connecting to have been tried, so that a worker's first call finds Redis if it is there.
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
                Ok(link) => {
                    let broken = link.broken.clone();
                    *self.silent_since() = None;
                    self.link.store(Some(Arc::new(link)));
                    if self.is_down.swap(false, Ordering::Relaxed) {
                        store.line_up();
                    }
                    self.tried.notify_one();
                    broken.notified().await;
                    self.link.store(None);
                }
                Err(failure) => {
                    self.errors.inc();
                    self.down(&store, &failure);
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
    fn cut(&self, link: &Arc<Link>, cause: &Failure) {
        let before = self.link.compare_and_swap(&Some(link.clone()), None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, link)) {
            self.down(&link.store, cause);
            link.broken.notify_one();
        }
    }

    fn down(&self, store: &Store, cause: &Failure) {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            store.line_down(cause);
        }
    }
}

/// Connects, and proves the connection by taking a call from an account in time.
async fn connect(store: &Arc<Store>, answer_within: Duration) -> Result<Link, Failure> {
    let broken = Arc::new(Notify::new());
    let open = async {
        let (connection, driver) = store.connect().await?;
        let ended = broken.clone();
        let driver = tokio::spawn(async move {
            driver.await;
            ended.notify_one();
        });
        let mut link =
            Link { connection, store: store.clone(), broken: broken.clone(), driver: driver.abort_handle() };
        account::prepare(&mut link.connection).await?;
        Ok(link)
    };
    let mut link = timeout(CONNECT_WITHIN, open).await.unwrap_or(Err(Failure::Late))?;
    let proof = account::prove(&mut link.connection);
    timeout(answer_within, proof).await.map_err(|_| Failure::Late)??;
    Ok(link)
}
