#!/bin/sh
# tokio 1.47.1: asking a TcpStream "is a byte there?" with one poll_read can be answered "no" while
# bytes wait in it.
#
# A connection pool often asks an idle connection whether the peer closed it or said something: it
# polls a read once, and takes Pending for "quiet, fit for use". The guess is that Pending speaks of
# the socket. It also speaks of the task: after 128 operations that were ready within one poll of the
# task, every further one is Pending, whatever the socket holds. A busy task therefore finds each of its
# connections quiet. `try_read` on the same stream, at the same moment, reads the byte, and so does
# poll_read inside `tokio::task::unconstrained`.
#
# Needs cargo and network access. Exits 0 while the behaviour is as described, 1 once it differs.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src

cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
tokio = { version = "=1.47.1", features = ["io-util", "macros", "net", "rt"] }
TOML

cat > src/main.rs <<'RUST'
use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// One poll of a read of one byte, with a waker that nobody listens to.
fn is_quiet(stream: &mut TcpStream) -> bool {
    let mut byte = [0; 1];
    let mut context = Context::from_waker(Waker::noop());
    let read = Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte));
    read.is_pending()
}

/// How many bytes are found one by one until the stream seems quiet.
fn found(stream: &mut TcpStream) -> usize {
    let mut found = 0;
    while !is_quiet(stream) {
        found += 1;
    }
    found
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(&[b'x'; 300]).unwrap();
    stream.readable().await.unwrap();
    // The budget starts anew with each poll of the task.
    tokio::task::yield_now().await;

    let (first, tried) = poll_fn(|_| {
        let first = found(&mut stream);
        Poll::Ready((first, stream.try_read(&mut [0; 1]).ok()))
    })
    .await;
    println!("of 300 bytes waiting, poll_read found {first} and was then Pending");
    println!("try_read, at that moment: {tried:?}");

    tokio::task::yield_now().await;
    let free = tokio::task::unconstrained(poll_fn(|_| Poll::Ready(found(&mut stream)))).await;
    println!("unconstrained, poll_read found the other {free}");
}
RUST

cargo run --quiet > seen
cat seen
cat > expected <<'TEXT'
of 300 bytes waiting, poll_read found 128 and was then Pending
try_read, at that moment: Some(1)
unconstrained, poll_read found the other 171
TEXT
diff expected seen
