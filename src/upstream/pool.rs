//! A worker's idle connections to n4n, to be used again.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::connection::UpstreamConnection;
use crate::tls::Name;

/// What a connection and a call must share for the one to carry the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The n4n host's address.
    pub address: SocketAddr,
    /// The name that it was verified for, where it has one of its own.
    pub name: Option<Arc<Name>>,
    /// Under which settings it was verified; none where there is no TLS.
    pub tls_generation: Option<u64>,
}

/// Idle connections, the one used last at the end.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    key: Key,
    connection: UpstreamConnection,
    until: Instant,
}

impl Pool {
    /// Takes the most recently used connection on which nothing has arrived since.
    pub fn take(&self, key: &Key, now: Instant) -> Option<UpstreamConnection> {
        let mut idle = self.lock();
        loop {
            let found = idle.iter().rposition(|idle| idle.key == *key)?;
            let Idle { mut connection, until, .. } = idle.remove(found);
            if until > now && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection until a time, unless `most` are kept already.
    pub fn put(&self, key: Key, connection: UpstreamConnection, until: Instant, most: usize) {
        let mut idle = self.lock();
        if idle.len() < most {
            idle.push(Idle { key, connection, until });
        }
    }

    /// Closes connections that have been idle for too long or that n4n has closed, and those beyond `most`.
    pub fn sweep(&self, now: Instant, most: usize) {
        let mut idle = self.lock();
        idle.retain_mut(|idle| idle.until > now && idle.connection.is_quiet());
        let surplus = idle.len().saturating_sub(most);
        idle.drain(..surplus);
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
    }

    /// No step can leave the list half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::protocols::l4::stream::Stream;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    struct Far(TcpListener);

    impl Far {
        async fn connect(&self) -> (UpstreamConnection, TcpStream) {
            let near = TcpStream::connect(self.0.local_addr().unwrap()).await.unwrap();
            (UpstreamConnection::new(Box::new(Stream::from(near))), self.0.accept().await.unwrap().0)
        }
    }

    fn key(generation: Option<u64>) -> Key {
        Key { address: "192.0.2.1:443".parse().unwrap(), name: None, tls_generation: generation }
    }

    #[tokio::test]
    async fn a_connection_is_used_again_for_what_it_was_made_for_while_it_is_quiet() {
        let far = Far(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (pool, now) = (Pool::default(), Instant::now());
        let until = now + Duration::from_secs(4);
        let (near, _held) = far.connect().await;
        pool.put(key(Some(1)), near, until, 8);
        assert!(pool.take(&key(Some(2)), now).is_none(), "verified under other settings");
        assert!(pool.take(&key(None), now).is_none(), "or not at all");
        let name = Name::of_host("n4n-2.internal").map(Arc::new);
        assert!(pool.take(&Key { name, ..key(Some(1)) }, now).is_none(), "or for another name");
        assert!(pool.take(&key(Some(1)), now).is_some());
        assert!(pool.take(&key(Some(1)), now).is_none(), "once");
        let (near, _held) = far.connect().await;
        pool.put(key(None), near, until, 8);
        assert!(pool.take(&key(None), until).is_none(), "idle for too long");
    }

    #[tokio::test]
    async fn a_connection_by_which_something_came_unasked_is_dropped() {
        let far = Far(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (pool, now) = (Pool::default(), Instant::now());
        let until = now + Duration::from_secs(4);
        let (near, mut talkative) = far.connect().await;
        let (also_near, closed) = far.connect().await;
        talkative.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        drop(closed);
        for mut connection in [near, also_near] {
            while connection.is_quiet() {
                tokio::task::yield_now().await;
            }
            pool.put(key(None), connection, until, 8);
        }
        assert!(pool.take(&key(None), now).is_none());
    }

    #[tokio::test]
    async fn however_many_were_closed_all_are_found_at_once() {
        let far = Far(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (pool, now) = (Pool::default(), Instant::now());
        for _ in 0..300 {
            let (mut near, closed) = far.connect().await;
            drop(closed);
            while near.is_quiet() {
                tokio::task::yield_now().await;
            }
            pool.put(key(None), near, now + Duration::from_secs(4), 1000);
        }
        // In a task, which may poll so often at a time before it is told that nothing has come.
        let swept = tokio::spawn(async move {
            pool.sweep(now, 1000);
            pool.lock().len()
        });
        assert_eq!(swept.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn no_more_are_kept_than_may_be() {
        let far = Far(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (pool, now) = (Pool::default(), Instant::now());
        let mut held = Vec::new();
        for most in [2, 2, 2, 3] {
            let (near, far) = far.connect().await;
            held.push(far);
            pool.put(key(None), near, now + Duration::from_secs(4), most);
        }
        assert_eq!(pool.lock().len(), 3);
        pool.sweep(now, 1);
        assert_eq!(pool.lock().len(), 1);
        pool.sweep(now + Duration::from_secs(4), 1);
        assert!(pool.lock().is_empty());
    }
}
