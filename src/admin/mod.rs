//! The admin listener: liveness, readiness and metrics, read-only.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{gateway::Gateway, server::Phase};

/// What the admin listener looks at.
#[derive(Clone)]
struct View {
    gateway: Arc<Gateway>,
    phase: watch::Receiver<Phase>,
}

/// Serves the admin listener until its future is dropped.
///
/// # Errors
/// Those of the listener.
pub async fn serve(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    phase: watch::Receiver<Phase>,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(View { gateway, phase });
    axum::serve(listener, routes).await
}

async fn ready(State(view): State<View>) -> Response {
    let phase = *view.phase.borrow();
    match phase {
        Phase::Serving => "ready\n".into_response(),
        Phase::Starting | Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
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
