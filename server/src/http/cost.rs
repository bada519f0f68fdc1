//! What a request costs, counted and not timed: allocations, from the first byte of the request to the last of the
//! answer, on a connection that is open and with everything in memory that may be. A change that makes a hot request
//! allocate more is found here, on any machine. (The bounds are what was counted, and a little room.)

use super::{front::Front, listener::http_builder};
use crate::{
    app::{App, Readiness},
    telemetry::Metrics,
};
use allocation_counter::AllocationInfo;
use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use longshore_auth::Policy;
use longshore_config::Settings;
use longshore_metadata::{ConnectOptions, Metadata};
use longshore_oci::{Algorithm, Digest, ManifestLimits, RepositoryName};
use longshore_registry::{Chunk, NewManifest, Registry, Rules};
use longshore_storage::{FileStore, Storage};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    runtime::Runtime,
};

const WARM_UP: usize = 50;
const COUNTED: usize = 100;

/// A registry with a blob and a manifest, and a connection to it.
struct House {
    runtime: Runtime,
    connection: DuplexStream,
    blob: Digest,
    manifest: Digest,
    received: Vec<u8>,
    _folder: TempDir,
}

impl House {
    fn new() -> Self {
        // One thread, so that all that is allocated for a request is allocated on it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (connection, blob, manifest) = runtime.block_on(async {
            let app = app(&folder).await;
            let (blob, manifest) = push(&app.registry).await;
            let (near, far) = tokio::io::duplex(1024 * 1024);
            let front = Front::registry(app);
            let client = "127.0.0.1:9".parse().unwrap();
            let service = service_fn(move |request| front.clone().answer(client, request));
            let builder = http_builder(Duration::from_secs(60));
            tokio::spawn(async move { builder.serve_connection(TokioIo::new(near), service).await });
            (far, blob, manifest)
        });
        Self { runtime, connection, blob, manifest, received: vec![0; 64 * 1024], _folder: folder }
    }

    /// Allocations for each request, on average.
    fn cost(&mut self, line: &str) -> u64 {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: docker/28\r\nAccept: */*\r\n\r\n");
        for _ in 0..WARM_UP {
            self.ask(&request);
        }
        let AllocationInfo { count_total, .. } = allocation_counter::measure(|| {
            for _ in 0..COUNTED {
                self.ask(&request);
            }
        });
        let each = count_total.div_ceil(COUNTED as u64);
        println!("{line}: {each} allocations");
        each
    }

    /// One exchange. All answers here are small enough to come in one piece.
    fn ask(&mut self, request: &str) {
        let Self { runtime, connection, received, .. } = self;
        let length = runtime.block_on(async {
            connection.write_all(request.as_bytes()).await.unwrap();
            connection.read(received).await.unwrap()
        });
        assert!(received[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&received[..length]));
    }
}

async fn app(folder: &TempDir) -> Arc<App> {
    let options = ConnectOptions {
        url: format!("sqlite:{}", folder.path().join("longshore.db").display()),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(60),
        cache_size: 1024 * 1024,
    };
    let metadata = Metadata::connect(&options).await.unwrap();
    metadata.migrate().await.unwrap();
    let files = FileStore::open(folder.path(), 16 * 1024 * 1024).unwrap();
    let rules = Rules {
        inline_max: 16 * 1024,
        blob_max: None,
        manifest_max: 4 * 1024 * 1024,
        manifest_limits: ManifestLimits::default(),
        tags_per_push: 64,
        immutable_tags: longshore_oci::ImmutableTags::default(),
        allow_sparse: false,
        upload_lifetime: Duration::from_secs(3600),
        page_max: 1000,
        count_pulls: true,
    };
    Arc::new(App {
        registry: Registry::new(metadata, Storage::Files(files), rules),
        policy: Policy::open(),
        metrics: Arc::new(Metrics::new()),
        access_lines: None,
        readiness: Readiness::default(),
        settings: Settings::default(),
    })
}

/// A blob of 1 KiB, and a manifest with the tag `latest` that names it.
async fn push(registry: &Registry) -> (Digest, Digest) {
    let repository: RepositoryName = "cost/of".parse().unwrap();
    let content = Bytes::from(vec![b'x'; 1024]);
    let blob = Digest::of(Algorithm::Sha256, &content);
    let body = Box::pin(futures_util::stream::iter([Ok(content)]));
    registry.push_blob(&repository, None, blob, Chunk { start: None, length: Some(1024), body }).await.unwrap();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let descriptor = format!(r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{blob}","size":1024}}"#);
    let text =
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{descriptor},"layers":[{descriptor}]}}"#);
    let pushed = NewManifest {
        reference: "latest".parse().unwrap(),
        tags: Vec::new(),
        content_type: Some(media_type.to_owned()),
        body: text.into(),
    };
    (blob, registry.push_manifest(&repository, None, pushed).await.unwrap().digest)
}

#[test]
fn hot_requests_allocate_little() {
    let mut house = House::new();
    let (blob, manifest) = (house.blob, house.manifest);
    for (line, most) in [
        ("GET /v2/".to_owned(), 12),
        ("GET /v2/cost/of/manifests/latest".to_owned(), 25),
        (format!("GET /v2/cost/of/manifests/{manifest}"), 24),
        (format!("HEAD /v2/cost/of/blobs/{blob}"), 24),
        (format!("GET /v2/cost/of/blobs/{blob}"), 24),
    ] {
        let counted = house.cost(&line);
        assert!(counted <= most, "{line}: {counted} allocations, at most {most} were expected");
    }
}
