//! The admin listener: liveness, readiness, metrics and the live page, read-only.

mod listener;
mod page;
mod sampler;
mod suspects;
mod visit;

use std::{convert::Infallible, future::pending, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use tokio::{net::TcpListener, sync::watch};

use crate::gateway::{Gateway, Phase};
use sampler::Sampler;

/// What the admin listener looks at.
#[derive(Clone)]
struct View {
    gateway: Arc<Gateway>,
    /// The live page's next event, made once for all who watch.
    events: watch::Sender<Bytes>,
}

/// Serves the admin listener until its future is dropped.
pub async fn serve(listener: TcpListener, gateway: Arc<Gateway>) -> Infallible {
    let sampler = Sampler::new(gateway.clone());
    let mut phase = gateway.phase();
    let view = View { gateway: gateway.clone(), events: watch::Sender::new(sampler.event()) };
    let events = view.events.clone();
    let routes = Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(page::routes(view.clone()))
        .with_state(view);
    // While draining it stays, so that readiness can be seen to go. A successor takes it over.
    let succeeded = async move {
        if phase.wait_for(|phase| *phase == Phase::Retiring).await.is_err() {
            pending().await
        }
    };
    let served = async {
        tokio::select! {
            never = listener::serve(listener, gateway, routes) => never,
            () = succeeded => pending().await,
        }
    };
    tokio::select! {
        never = served => never,
        never = sampler.run(events) => never,
    }
}

async fn ready(State(view): State<View>) -> Response {
    let phase = *view.gateway.phase().borrow();
    match phase {
        Phase::Serving => "ready\n".into_response(),
        Phase::Starting | Phase::Retiring | Phase::Draining => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
    }
}

async fn metrics(State(view): State<View>) -> Response {
    view.gateway.update_gauges();
    match view.gateway.metrics.encode() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
