//! The least that a Pingora proxy can do: it passes everything on. What the gateway's own work costs is what it
//! takes beyond this.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::Parser;
use pingora::{
    Result,
    listeners::tls::TlsSettings,
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::{Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    http: String,
    #[arg(long)]
    https: String,
    #[arg(long)]
    certificate: String,
    #[arg(long)]
    key: String,
    #[arg(long)]
    upstream: SocketAddr,
}

struct PassThrough(SocketAddr);

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // As the gateway has it: one thread, a runtime of its own, and room for every connection in flight.
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, PassThrough(arguments.upstream));
    service.add_tcp(&arguments.http);
    let mut tls = TlsSettings::intermediate(&arguments.certificate, &arguments.key)?;
    tls.enable_h2();
    service.add_tls_with_settings(&arguments.https, None, tls);
    server.add_service(service);
    server.run_forever();
}
