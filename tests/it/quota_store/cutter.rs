//! A proxy before Redis that can cut connections in the middle of an answer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Passes bytes on both ways until it is told to cut.
pub(super) struct Cutter {
    address: SocketAddr,
    cuts: Arc<AtomicBool>,
}

impl Cutter {
    pub(super) fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicBool::new(false));
        let accepting = Arc::clone(&cuts);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let (questions, asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let cuts = Arc::clone(&accepting);
                thread::spawn(move || pass(questions, asked, || false));
                thread::spawn(move || pass(server, client, || cuts.load(Ordering::SeqCst)));
            }
        });
        Self { address, cuts }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on, of the next answer on each connection half is passed on before it is closed.
    pub(super) fn cut(&self) {
        self.cuts.store(true, Ordering::SeqCst);
    }

    pub(super) fn mend(&self) {
        self.cuts.store(false, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_cut: impl Fn() -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let is_cut = is_cut();
        let passed = if is_cut { read / 2 } else { read };
        if to.write_all(&buffer[..passed]).is_err() || is_cut {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
