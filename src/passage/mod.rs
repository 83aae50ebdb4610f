//! Requests for other paths, which stream both ways through Pingora's proxy.

mod callbacks;
mod session;

use std::{
    cell::Cell,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pingora::{
    apps::HttpServerApp,
    http::RequestHeader,
    protocols::http::ServerSession,
    proxy::{HttpProxy, http_proxy},
    server::{ShutdownWatch, configuration::ServerConf},
};
use tokio::sync::{oneshot, watch};

use crate::{
    config::Upstream,
    downstream::Client,
    reason::Reason,
    request::{
        Request,
        forwarded::{Forwarded, is_replaced},
    },
    upstream::{
        fault::{self, Cause},
        peers::{InUse, PeerSelection},
    },
    wire::fields::is_same,
};
use callbacks::Callbacks;
use session::Session;

tokio::task_local! {
    /// Hands an attempt to the context that Pingora makes for its session, and back once the session has ended.
    static ATTEMPT: Cell<Option<Attempt>>;
}

/// One worker's Pingora, with its own pool of connections to n4n.
#[derive(Clone)]
pub struct Passage {
    proxy: Arc<HttpProxy<Callbacks>>,
    /// Never set: the gateway itself ends connections when it shuts down.
    never: ShutdownWatch,
}

/// How passing a request through ended.
pub struct Passed<C> {
    /// The request; none where Pingora has lost it.
    pub request: Option<Request>,
    /// Its client; none where Pingora has lost it.
    pub client: Option<C>,
    /// Why it failed.
    pub failed: Option<Reason>,
    /// The status that the client was sent.
    pub status: Option<u16>,
}

impl Passage {
    /// A Pingora for one worker, which keeps so many idle connections to n4n.
    pub fn new(max_idle: usize) -> Self {
        let conf = Arc::new(ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: max_idle,
            // The gateway itself says what may be tried again, and each peer is tried once.
            max_retries: usize::MAX,
            ..ServerConf::default()
        });
        Self { proxy: Arc::new(http_proxy(&conf, Callbacks)), never: watch::channel(false).1 }
    }

    /// Passes a request through to one of the peers, and the answer to its client.
    pub async fn pass<C: Client>(&self, request: Request, client: C, peers: PeerSelection) -> Passed<C> {
        let Ok(head) = head(&request) else {
            let failed = Some(Reason::Internal);
            return Passed { request: Some(request), client: Some(client), failed, status: None };
        };
        let due = Arc::new(AnswerDue::default());
        let (give_back, given_back) = oneshot::channel();
        let session = Session::new(head, &request, client, due.clone(), give_back);
        let session = ServerSession::new_custom(Box::new(session));
        let carried = async {
            self.proxy.process_new_http(session, &self.never).await;
            ATTEMPT.with(Cell::take)
        };
        let attempt = ATTEMPT.scope(Cell::new(Some(Attempt::new(request, peers, due))), carried).await;
        let client = given_back.await.ok();
        match attempt {
            Some(Attempt { request, failed, status, .. }) => {
                Passed { request: Some(request), client, failed, status }
            }
            None => Passed { request: None, client, failed: Some(Reason::Internal), status: None },
        }
    }
}

/// The head as it goes upstream: end-to-end fields as they came, and what the gateway says of them.
fn head(request: &Request) -> Result<RequestHeader, Reason> {
    let build = || {
        let fields = request.head.fields();
        let mut head = RequestHeader::build(request.head.method(), b"/", Some(fields.len() + 8))?;
        for (name, value) in fields.iter().filter(|(name, _)| !is_replaced(name)) {
            if !is_same(name, "connection") {
                head.append_header(String::from_utf8_lossy(name).into_owned(), value)?;
            }
        }
        let mut inserted = Ok(());
        Forwarded::of(request).each(|name, value| {
            if inserted.is_ok() {
                inserted = head.insert_header(name, value);
            }
        });
        inserted.map(|()| head)
    };
    let mut head: RequestHeader = build().map_err(|_: Box<pingora::Error>| Reason::Internal)?;
    head.set_uri(request.head.uri()?);
    Ok(head)
}

/// The deadline of the answer, which the callbacks set and the session watches: Pingora limits each read of an answer,
/// not their sum.
#[derive(Debug, Default)]
struct AnswerDue(Mutex<Due>);

#[derive(Debug, Clone, Copy, Default)]
struct Due {
    by: Option<Instant>,
    is_overdue: bool,
}

impl AnswerDue {
    fn set(&self, by: Option<Instant>) {
        self.change(|due| due.by = by);
    }

    fn get(&self) -> Due {
        self.change(|due| *due)
    }

    fn ran_out(&self) {
        self.change(|due| due.is_overdue = true);
    }

    /// What is in there is whole whatever panics, so a poisoned lock is as good as any.
    fn change<T>(&self, change: impl FnOnce(&mut Due) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request on its way through Pingora: the context of the callbacks.
#[derive(Debug)]
struct Attempt {
    request: Request,
    /// The peers not tried yet.
    peers: PeerSelection,
    /// The peer tried last.
    chosen: Option<InUse>,
    /// Whether that had less time to connect than a peer is given, because others took it.
    is_cut_short: bool,
    /// Why the peer tried last could not be connected to.
    not_connected: Option<Cause>,
    due: Arc<AnswerDue>,
    started_at: Instant,
    /// Interim answers so far.
    interim: u32,
    connected_at: Option<Instant>,
    failed: Option<Reason>,
    status: Option<u16>,
}

impl Attempt {
    fn new(request: Request, peers: PeerSelection, due: Arc<AnswerDue>) -> Self {
        Self {
            request,
            peers,
            chosen: None,
            is_cut_short: false,
            not_connected: None,
            due,
            started_at: Instant::now(),
            interim: 0,
            connected_at: None,
            failed: None,
            status: None,
        }
    }

    /// The next peer, and how long it may take to connect; none where every one was tried.
    fn next_peer(&mut self, upstream: &Upstream) -> Option<(&InUse, Duration)> {
        let now = Instant::now();
        let left = (self.started_at + upstream.response_timeout).saturating_duration_since(now);
        let within = upstream.connect_timeout.min(left);
        self.is_cut_short = self.chosen.is_some() && within < upstream.connect_timeout;
        self.chosen = self.peers.next(now);
        let chosen = self.chosen.as_ref()?;
        self.request.upstream.peer = Some(chosen.peer().address());
        Some((chosen, within))
    }

    /// Takes note that the peer tried last could not be connected to; tells whether another may be tried.
    fn fail_to_connect(&mut self, upstream: &Upstream, error: &pingora::Error) -> bool {
        let now = Instant::now();
        self.not_connected = Some(fault::cause(error));
        // It is not to blame for the time that others took, nor for what this machine lacks.
        let is_to_blame = !self.is_cut_short && !fault::is_local(error);
        if let Some(chosen) = self.chosen.as_ref().filter(|_| is_to_blame) {
            chosen.peer().eject(now, fault::cause(error));
        }
        self.started_at + upstream.response_timeout > now && !self.peers.is_empty()
    }

    fn connected(&mut self) {
        self.connected_at = Some(Instant::now());
        if let Some(chosen) = &self.chosen {
            chosen.peer().connected();
        }
    }
}
