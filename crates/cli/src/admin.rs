//! The admin port: metrics for Prometheus, the status as JSON, and what may be asked of a store while its daemon runs.
//!
//! ```text
//! GET  /metrics     Prometheus text              GET  /plan         what `icecore plan` prints
//! GET  /status      what `icecore status` prints GET  /healthz      200, or 503 once the daemon has stopped its work
//! POST /retention   {"chunks": 7, "dry_run": true}           POST /backup   {"to": "/path"}
//! ```
//!
//! What changes something wants a token, which is drawn at each start and lies in a file that only the daemon's user can
//! read. [`Admin`] owns the one thread that answers, and joins it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::fail::{Fail, Outcome};

/// The longest answer that is believed; a status has some thousand bytes.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// How long a client waits: a plan may have to look through its source.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the daemon can be asked.
pub(crate) trait Served: Send + Sync + 'static {
    /// The status, and whether all is well.
    fn status(&self) -> (Value, bool);
    /// What is planned.
    fn plan(&self) -> Result<Value, String>;
    /// Keeps another number of chunks, `None` for what the configuration says; with `dry_run` only says what that would do.
    fn retention(&self, chunks: Option<u32>, dry_run: bool) -> Result<Value, String>;
    /// Copies the catalog.
    fn backup(&self, to: &Path) -> Result<Value, String>;
}

/// Another number of chunks to keep.
#[derive(Serialize, Deserialize)]
pub(crate) struct Retention {
    pub(crate) chunks: Option<u32>,
    pub(crate) dry_run: bool,
}

/// Where to copy the catalog to.
#[derive(Serialize, Deserialize)]
pub(crate) struct Backup {
    pub(crate) to: PathBuf,
}

struct Shared {
    served: Arc<dyn Served>,
    metrics: PrometheusHandle,
    token: String,
}

/// The running port.
pub(crate) struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens, and answers until it is dropped.
    pub(crate) fn start(
        address: SocketAddr,
        served: Arc<dyn Served>,
        metrics: PrometheusHandle,
        token: String,
    ) -> Outcome<Self> {
        let busy = |e| Fail::Usage(format!("admin = \"{address}\": cannot listen there: {e}"));
        let listener = TcpListener::bind(address).map_err(busy)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = Arc::new(Shared { served, metrics, token });
        let thread = std::thread::Builder::new().name("admin".into()).spawn(move || {
            let app = Router::new()
                .route("/metrics", get(render))
                .route("/status", get(status))
                .route("/healthz", get(health))
                .route("/plan", get(plan))
                .route("/retention", post(retention))
                .route("/backup", post(backup))
                .with_state(shared);
            runtime.spawn(async move {
                let served = async { axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await };
                if let Err(error) = served.await {
                    tracing::error!(%error, "the admin port is closed");
                }
            });
            // Told to stop, or let go of: either is the end. Whoever still listens to an answer is not waited for.
            drop(runtime.block_on(stopped));
            runtime.shutdown_background();
        })?;
        Ok(Admin { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in an answer must not hide how the daemon ended.
            let _ = thread.join();
        }
    }
}

async fn render(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    // Some gauges are only as fresh as the last look.
    drop(shared.served.status());
    shared.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render())
}

async fn status(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    Json(shared.served.status().0)
}

async fn health(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let (status, well) = shared.served.status();
    (if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(status))
}

async fn plan(State(shared): State<Arc<Shared>>) -> Response {
    answer(move || shared.served.plan()).await
}

async fn retention(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(asked): Json<Retention>,
) -> Response {
    if !has_token(&headers, &shared.token) {
        return refuse();
    }
    answer(move || shared.served.retention(asked.chunks, asked.dry_run)).await
}

async fn backup(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(asked): Json<Backup>,
) -> Response {
    if !has_token(&headers, &shared.token) {
        return refuse();
    }
    answer(move || shared.served.backup(&asked.to)).await
}

/// Answers without keeping others waiting.
async fn answer(act: impl FnOnce() -> Result<Value, String> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(act).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(error)) => (StatusCode::CONFLICT, Json(json!({ "error": error }))).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let said = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    said.and_then(|value| value.strip_prefix("Bearer ")) == Some(token)
}

fn refuse() -> Response {
    let error = "the token of the store's catalog is missing: run icecore as the daemon's user";
    (StatusCode::FORBIDDEN, Json(json!({ "error": error }))).into_response()
}

/// A running daemon, as another process reaches it.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Client {
    /// Asks for what can be looked at.
    pub(crate) fn get(&self, path: &str) -> Outcome<Value> {
        self.ask("GET", path, "")
    }

    /// Asks for something to be done.
    pub(crate) fn post(&self, path: &str, body: &impl Serialize) -> Outcome<Value> {
        let body = serde_json::to_string(body).map_err(|e| Fail::Error(Box::new(e)))?;
        self.ask("POST", path, &body)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Outcome<Value> {
        let Client { address, token } = self;
        let failed = |what: String| Fail::Error(format!("the admin port {address} {what}").into());
        let answer = (|| {
            let mut stream = TcpStream::connect_timeout(address, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            write!(
                stream,
                "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            let mut answer = Vec::new();
            stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
            std::io::Result::Ok(answer)
        })();
        let answer = answer.map_err(|e| failed(format!("does not answer: {e}")))?;
        let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|head| &answer[head + 4..]);
        let code = answer.split(|&c| c == b' ').nth(1).unwrap_or_default();
        let value: Value = body
            .and_then(|body| serde_json::from_slice(body).ok())
            .ok_or_else(|| failed(format!("answers {} without JSON", String::from_utf8_lossy(code))))?;
        match (code, value.get("error").and_then(Value::as_str)) {
            (b"200", _) => Ok(value),
            (_, Some(error)) => Err(Fail::Error(error.to_owned().into())),
            _ => Err(failed(format!("answers {}", String::from_utf8_lossy(code)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[derive(Default)]
    struct Stub {
        ill: AtomicBool,
    }

    impl Served for Stub {
        fn status(&self) -> (Value, bool) {
            (json!({"latest": 7}), !self.ill.load(SeqCst))
        }

        fn plan(&self) -> Result<Value, String> {
            Err("no source".into())
        }

        fn retention(&self, chunks: Option<u32>, dry_run: bool) -> Result<Value, String> {
            Ok(json!([chunks, dry_run]))
        }

        fn backup(&self, to: &Path) -> Result<Value, String> {
            Ok(json!(to))
        }
    }

    fn head(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn it_answers_and_its_thread_ends() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let stub = Arc::new(Stub::default());
        let served: Arc<dyn Served> = Arc::clone(&stub) as _;
        metrics::with_local_recorder(&recorder, || metrics::counter!("icecore_x").increment(3));
        let any = "127.0.0.1:0".parse().unwrap();
        let admin = Admin::start(any, served, recorder.handle(), "t".into()).unwrap();
        let address = admin.address();
        assert!(head(address, "/metrics").contains("icecore_x 3"));
        assert!(head(address, "/healthz").starts_with("HTTP/1.0 200"));
        stub.ill.store(true, SeqCst);
        assert!(head(address, "/healthz").starts_with("HTTP/1.0 503"));
        assert!(head(address, "/nothing").starts_with("HTTP/1.0 404"));

        let client = Client { address, token: "t".into() };
        assert_eq!(client.get("/status").unwrap(), json!({"latest": 7}));
        assert_eq!(client.get("/plan").unwrap_err().to_string(), "no source");
        let asked = Retention { chunks: Some(3), dry_run: true };
        assert_eq!(client.post("/retention", &asked).unwrap(), json!([3, true]));
        assert_eq!(client.post("/backup", &Backup { to: "/b".into() }).unwrap(), json!("/b"));
        let stranger = Client { token: "u".into(), ..client };
        assert!(stranger.post("/retention", &asked).unwrap_err().to_string().contains("token"));
        assert!(stranger.post("/backup", &Backup { to: "/b".into() }).is_err());

        // One that holds on to a connection does not keep the port.
        let _held = TcpStream::connect(address).unwrap();
        drop(admin);
        assert!(TcpStream::connect(address).is_err());
        assert!(stranger.get("/status").unwrap_err().to_string().contains("does not answer"));
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let started = Admin::start(address, Arc::new(Stub::default()), recorder.handle(), String::new());
        let error = started.err().unwrap().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
