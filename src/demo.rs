//! A gateway with a stand-in behind it, to try things on: nothing to configure, nothing left behind.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    config::Settings,
    operation::{UNLOCK, unlock},
    print::{Printed, print},
    server::{Control, Error, Server},
    stand_in::{self, SAMPLE_KEY, SAMPLE_USERNAME},
};

/// Runs both until a signal ends them, or nobody reads where they are.
///
/// # Errors
/// When an address is taken or the process cannot be set up.
pub fn run(http: SocketAddr, admin: SocketAddr, traffic: bool, control: Control) -> Result<(), Error> {
    let n4n = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    n4n.set_nonblocking(true)?;
    let text = format!(
        "listen = {{ http = [\"{http}\"], admin = \"{admin}\" }}\n\
         upstream.peers = [\"{}\"]\n\
         quota = {{ requests = 10, per = \"1s\", burst = 20 }}\n\
         enumeration = {{}}\n\
         users = [{{ name = \"{SAMPLE_USERNAME}\" }}]\n",
        n4n.local_addr()?
    );
    let settings = Settings::parse(&text, Path::new("")).expect("the demo's own configuration is sound");
    let server = Server::open(settings, control)?;
    let http = reachable(server.addresses().first().copied().unwrap_or(http));
    let admin = reachable(server.admin_address()?);
    let addresses = format!(
        "gateway    http://{http}\nlive page  http://{admin}/\nmetrics    http://{admin}/metrics\n\
         try it     {}\n",
        curl_line(http)
    );
    if print(addresses)? == Printed::ReaderLeft {
        return Ok(());
    }
    server.run(None, async move {
        let stand_in = async {
            let served = match TcpListener::from_std(n4n) {
                Ok(listener) => stand_in::serve(listener).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the stand-in has stopped");
            }
        };
        let traffic = async {
            if traffic {
                send_traffic(http).await;
            }
        };
        tokio::join!(stand_in, traffic);
    })
}

/// Where this machine reaches who listens on an address.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

fn curl_line(http: SocketAddr) -> String {
    format!(
        "curl -X {} http://{http}{} -H 'api-key: {SAMPLE_KEY}' -H 'api-username: {SAMPLE_USERNAME}' -d {}=191",
        UNLOCK.method, UNLOCK.path, UNLOCK.keys[0],
    )
}

const METHOD: &str = unlock!(method);
const PATH: &str = unlock!(path);

/// Calls that go well and calls that do not, the first kind more often: method, target, username, body.
const MIX: [(&str, &str, &str, &str); 16] = [
    (METHOD, PATH, SAMPLE_USERNAME, "customer_id=191"),
    (METHOD, PATH, SAMPLE_USERNAME, "subscription_id=5191"),
    (METHOD, PATH, SAMPLE_USERNAME, "customer_id=191"),
    (METHOD, PATH, SAMPLE_USERNAME, "customer_id=404"),
    (METHOD, PATH, SAMPLE_USERNAME, "orderid=90191"),
    (METHOD, PATH, SAMPLE_USERNAME, "orderid=slow-40"),
    (METHOD, PATH, "batch", "customer_id=191"),
    (METHOD, PATH, SAMPLE_USERNAME, "customer_id=1&customer_id=2"),
    (METHOD, PATH, SAMPLE_USERNAME, "customer.id=191"),
    (METHOD, PATH, SAMPLE_USERNAME, "id=191"),
    ("POST", PATH, SAMPLE_USERNAME, "customer_id=191"),
    (METHOD, concat!(unlock!(path), "?customer_id=1"), SAMPLE_USERNAME, "customer_id=191"),
    (METHOD, "/api/customer//unlock", SAMPLE_USERNAME, "customer_id=191"),
    (METHOD, PATH, "", "customer_id=191"),
    (METHOD, PATH, SAMPLE_USERNAME, "orderid=reset"),
    (METHOD, PATH, SAMPLE_USERNAME, "orderid=fail"),
];

/// Sends the mix over and over, in bursts that now and then go over the quota.
async fn send_traffic(http: SocketAddr) {
    for round in 0_u64.. {
        for (index, call) in MIX.iter().enumerate() {
            let times = if index == 0 && round % 8 == 7 { 30 } else { 1 };
            for _ in 0..times {
                // What becomes of the call is for the gateway's own telemetry to show.
                let _ = timeout(Duration::from_secs(5), send(http, call)).await;
            }
            sleep(Duration::from_millis(20 + (round * 37 + index as u64 * 13) % 180)).await;
        }
    }
}

async fn send(
    http: SocketAddr,
    (method, target, username, body): &(&str, &str, &str, &str),
) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(http).await?;
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\napi-key: {SAMPLE_KEY}\r\n\
         api-username: {username}\r\nContent-Type: {}\r\n\
         Content-Length: {length}\r\n\r\n{body}",
        UNLOCK.media_type
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(())
}
