//! The accept loop: one task a connection, HTTP/1.1 or HTTP/2 as the client begins, and an end that loses nothing.

use super::{Reloads, direct::Direct, early::Lingering, front::Front, patience::Patient, tls::Certificate};
use crate::app::App;
use anyhow::{Context as _, Result};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use longshore_config::Settings;
use longshore_storage::Mappings;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A request with 1,024 ranges has 22 KiB of headers.
const MAX_HEADER_LIST: u32 = 96 * 1024;
/// What one read of an HTTP/1.1 connection takes at most. A piece of a body keeps the whole buffer alive that it was read
/// into, so larger ones would cost memory and save little: at this size the system call is a hundredth of the copy.
const READ_BUFFER: usize = 128 * 1024;
/// How much a client may send ahead on one HTTP/2 stream, and on all of a connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Streams at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 250;

/// A bound address and what is served there.
#[derive(Debug)]
pub(crate) struct Listener {
    registry: TcpListener,
    metrics: Option<TcpListener>,
    address: SocketAddr,
    certificate: Option<Arc<Certificate>>,
    mappings: Mappings,
    app: Arc<App>,
}

/// What the tasks of all connections share.
#[derive(Clone)]
struct Connections {
    builder: auto::Builder<TokioExecutor>,
    front: Front,
    tasks: TaskTracker,
    cut: CancellationToken,
    places: Arc<Semaphore>,
    patience: Duration,
    mappings: Mappings,
}

impl Listener {
    /// Binds the addresses of the settings.
    pub(crate) async fn bind(
        settings: &Settings,
        app: Arc<App>,
        mappings: Mappings,
        reloads: &Reloads,
    ) -> Result<Self> {
        let bind = async |address: SocketAddr, key: &str| {
            TcpListener::bind(address).await.with_context(|| format!("{key} {address} cannot be listened on"))
        };
        let registry = bind(settings.http.address, "http.address").await?;
        let metrics = match settings.metrics.address.filter(|_| settings.metrics.enabled) {
            Some(address) => Some(bind(address, "metrics.address").await?),
            None => None,
        };
        let address = registry.local_addr()?;
        Ok(Self { registry, metrics, address, certificate: reloads.certificate(), mappings, app })
    }

    /// Where the registry is served: with the port that was given to us, if the settings ask for any.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the app's readiness says that listeners are closed, then waits for what is under way as long as
    /// the settings allow.
    pub(crate) async fn serve(self) {
        let http = &self.app.settings.http;
        let tls = self.certificate.map(|certificate| TlsAcceptor::from(certificate.server_config()));
        let connections = Connections {
            builder: http_builder(http.header_timeout),
            front: Front::registry(self.app.clone()),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            places: Arc::new(Semaphore::new(http.max_connections)),
            patience: http.idle_timeout,
            mappings: self.mappings.clone(),
        };
        let graceful = GracefulShutdown::new();
        let probes = Connections {
            front: Front::metrics_only(self.app.clone()),
            places: Arc::new(Semaphore::new(PROBE_CONNECTIONS)),
            ..connections.clone()
        };
        tokio::select! {
            () = accept(&self.registry, tls.as_ref(), &connections, &graceful) => {}
            () = accept_some(self.metrics.as_ref(), &probes, &graceful) => {}
            () = self.app.readiness.closed() => {}
        }
        drop((self.registry, self.metrics));
        connections.tasks.close();
        let drained = async {
            graceful.shutdown().await;
            connections.tasks.wait().await;
        };
        if tokio::time::timeout(http.drain_timeout, drained).await.is_err() {
            tracing::warn!(connections = connections.tasks.len(), "the drain timeout is over: connections are cut");
            connections.cut.cancel();
            connections.tasks.wait().await;
        }
    }
}

/// Connections that probes and scrapers may hold.
const PROBE_CONNECTIONS: usize = 64;

pub(super) fn http_builder(header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(READ_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(Some(header_timeout));
    builder
}

async fn accept_some(listener: Option<&TcpListener>, connections: &Connections, graceful: &GracefulShutdown) {
    match listener {
        Some(listener) => accept(listener, None, connections, graceful).await,
        None => std::future::pending().await,
    }
}

/// Accepts for ever.
async fn accept(
    listener: &TcpListener,
    tls: Option<&TlsAcceptor>,
    connections: &Connections,
    graceful: &GracefulShutdown,
) {
    loop {
        let Ok(place) = connections.places.clone().acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those that end give some back.
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (connections, tls, watcher) = (connections.clone(), tls.cloned(), graceful.watcher());
        connections.tasks.clone().spawn(async move {
            let serving = connections.converse(stream, peer, tls, watcher);
            tokio::select! {
                () = serving => {}
                () = connections.cut.cancelled() => {}
            }
            drop(place);
        });
    }
}

impl Connections {
    async fn converse(&self, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, watcher: Watcher) {
        // Small answers must not wait for the client's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(Lingering::new(Direct::new(stream, self.mappings.clone())), self.patience);
        match tls {
            None => self.speak_http(stream, peer, watcher).await,
            // Boxed: its room is not to be had on every connection without TLS.
            Some(tls) => Box::pin(self.speak_tls(stream, peer, &tls, watcher)).await,
        }
    }

    async fn speak_tls<S>(&self, stream: S, peer: SocketAddr, tls: &TlsAcceptor, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match tokio::time::timeout(self.patience, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.speak_http(stream, peer, watcher).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS was not agreed on"),
            Err(_) => tracing::debug!(%peer, "TLS took too long"),
        }
    }

    async fn speak_http<S>(&self, stream: S, peer: SocketAddr, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let front = self.front.clone();
        // Boxed, so that its room is given back with the answer and not kept while that is sent.
        let service = service_fn(move |request| Box::pin(front.clone().answer(peer, request)));
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection.into_owned()).await {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}
