//! The registry under test: one process on SQLite or three on Postgres, over one store.

use crate::{
    clock::{BEGIN, Clock},
    collection::BREAKER,
    faulty::Faulty,
    ledger::Ledger,
    operation::REPLICAS,
    quota,
};
use bytes::Bytes;
use futures_util::stream;
use longshore_gc::{
    BackupError, Collector, Error as GcError, Finding, Findings, FsckOptions, Rules as GcRules, fsck, restore,
};
use longshore_metadata::{Breaker, ConnectOptions, Lifetimes, Metadata, Quotas};
use longshore_oci::ManifestLimits;
use longshore_registry::{Registry, Rules};
use longshore_storage::{Backend, RemoteStore, Storage};
use longshore_tests::postgres::Postgres;
use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;

pub(crate) const PROMISE: Duration = Duration::from_secs(24 * 3600);
pub(crate) const UNDO: Duration = Duration::from_secs(48 * 3600);
const REVIEW_DELAY: Duration = Duration::from_secs(600);
/// Backups are good for as long.
pub(crate) const OBJECT_DELAY: Duration = Duration::from_secs(25 * 3600);
const UPLOAD_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Blobs up to this size are in their rows.
pub(crate) const INLINE: usize = 16;

/// Where databases are made.
pub(crate) enum Engine {
    /// Copies of a file that has the schema and a clock that stands still.
    Sqlite { folder: TempDir, template: PathBuf },
    /// New databases of a server.
    Postgres,
}

impl Engine {
    pub(crate) fn sqlite() -> Arc<Self> {
        // In memory where there is such a folder: what survives a power cut is for other tests.
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let template = folder.path().join("template.db");
        let url = format!("sqlite:{}", template.display());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(prepare(&url));
        Arc::new(Self::Sqlite { folder, template })
    }

    pub(crate) fn postgres() -> Arc<Self> {
        Arc::new(Self::Postgres)
    }

    /// An empty database, the one of this number in its case.
    async fn database(&self, number: usize) -> String {
        match self {
            Self::Sqlite { folder, template } => {
                let file = folder.path().join(format!("{number}.db"));
                for end in ["", "-wal", "-shm"] {
                    // The last case's, if there was one.
                    let _ = std::fs::remove_file(folder.path().join(format!("{number}.db{end}")));
                }
                std::fs::copy(template, &file).unwrap();
                format!("sqlite:{}", file.display())
            }
            Self::Postgres => {
                let url = Postgres::shared().create_database();
                prepare(&url).await;
                url
            }
        }
    }
}

/// Makes the schema, and stops the clock.
async fn prepare(url: &str) {
    let metadata = connect(url).await;
    metadata.migrate().await.unwrap();
    let lifetimes = Lifetimes { promise: PROMISE, review_delay: REVIEW_DELAY, object_delay: OBJECT_DELAY, undo: UNDO };
    metadata.set_lifetimes(lifetimes).await.unwrap();
    let clock = Clock::open(url).await;
    clock.stop().await;
    clock.close().await;
    metadata.close().await;
}

async fn connect(url: &str) -> Metadata {
    let options = ConnectOptions {
        url: url.to_owned(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(60),
        cache_size: 1024 * 1024,
    };
    Metadata::connect(&options).await.unwrap()
}

/// What clients and collectors are held back by.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    quotas: Quotas,
    breaker: Breaker,
}

impl Limits {
    /// They are met now and then.
    pub(crate) fn tight() -> Self {
        Self { quotas: quota::quotas(), breaker: BREAKER }
    }

    /// There are none.
    pub(crate) fn none() -> Self {
        Self { quotas: Quotas::default(), breaker: Breaker { percent: 100, floor: 0 } }
    }
}

/// A process.
pub(crate) struct Replica {
    pub(crate) metadata: Metadata,
    pub(crate) storage: Storage,
    pub(crate) registry: Registry,
    pub(crate) collector: Collector,
}

impl Replica {
    pub(crate) async fn start(url: &str, backend: Arc<dyn Backend>, limits: &Limits) -> Self {
        let metadata = connect(url).await.with_quotas(limits.quotas.clone());
        let storage = Storage::Remote(RemoteStore::new(backend, 64 * 1024, 16 * 1024 * 1024));
        let rules = Rules {
            inline_max: INLINE,
            blob_max: None,
            manifest_max: 1024 * 1024,
            manifest_limits: ManifestLimits::default(),
            tags_per_push: 8,
            immutable_tags: longshore_oci::ImmutableTags::default(),
            allow_sparse: false,
            upload_lifetime: UPLOAD_LIFETIME,
            page_max: 100,
            count_pulls: false,
        };
        let registry = Registry::new(metadata.clone(), storage.clone(), rules);
        let gc = GcRules { undo: UNDO, breaker: limits.breaker, share: 100, ..GcRules::default() };
        Self { collector: Collector::new(metadata.clone(), storage.clone(), gc), metadata, storage, registry }
    }

    async fn end(&self) {
        self.registry.settle().await;
        self.metadata.close().await;
    }
}

pub(crate) struct World {
    engine: Arc<Engine>,
    /// How many databases it has had before this one.
    moves: usize,
    pub(crate) limits: Limits,
    pub(crate) url: String,
    pub(crate) clock: Clock,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) faulty: Arc<Faulty>,
    replicas: Vec<Replica>,
    /// What collectors have decided and not done yet, each with whose it is.
    pub(crate) decided: VecDeque<(usize, Findings)>,
}

impl World {
    pub(crate) async fn new(engine: &Arc<Engine>, limits: Limits) -> Self {
        let url = engine.database(0).await;
        let ledger = Ledger::new();
        let faulty = Faulty::new(ledger.clone());
        let clock = Clock::open(&url).await;
        clock.begin_at(BEGIN).await;
        let (engine, replicas, decided) = (engine.clone(), Vec::new(), VecDeque::new());
        let mut world = Self { engine, moves: 0, limits, url, clock, ledger, faulty, replicas, decided };
        world.start().await;
        world
    }

    /// SQLite has one process.
    pub(crate) fn processes(&self) -> usize {
        if self.url.starts_with("sqlite:") { 1 } else { REPLICAS }
    }

    /// The number of a replica's process.
    pub(crate) fn process(&self, replica: usize) -> usize {
        replica % self.processes()
    }

    pub(crate) fn replica(&self, replica: usize) -> &Replica {
        &self.replicas[self.process(replica)]
    }

    pub(crate) fn registry(&self, replica: usize) -> Registry {
        self.replica(replica).registry.clone()
    }

    pub(crate) fn collector(&self, replica: usize) -> Collector {
        self.replica(replica).collector.clone()
    }

    async fn begin(&self) -> Replica {
        Replica::start(&self.url, self.faulty.clone(), &self.limits).await
    }

    async fn start(&mut self) {
        self.replicas.clear();
        for _ in 0..self.processes() {
            self.replicas.push(self.begin().await);
        }
    }

    async fn end(&self) {
        for replica in &self.replicas {
            replica.end().await;
        }
    }

    /// What is not as it should be in the database and in the store; it is mended, if it is to be.
    pub(crate) async fn compare(&self, repair: bool) -> Result<Vec<Finding>, GcError> {
        let Replica { metadata, storage, .. } = &self.replicas[0];
        let options = FsckOptions { repair, all: true, older_than: Duration::ZERO };
        let mut findings = Vec::new();
        let lists = self.ledger.book().lists;
        let compared = fsck(metadata, storage, options, |finding| findings.push(finding.clone())).await;
        // This one lists the store on purpose.
        self.ledger.book().lists = lists;
        compared.map(|_| findings)
    }

    /// Ends a process. What its collector had decided is forgotten.
    pub(crate) async fn end_one(&mut self, process: usize) {
        self.replicas[process].end().await;
        let processes = self.processes();
        self.decided.retain(|(whose, _)| whose % processes != process);
    }

    /// Begins another in the place of one that has ended.
    pub(crate) async fn begin_one(&mut self, process: usize) {
        self.replicas[process] = self.begin().await;
    }

    /// Lets time go by, while collectors look at the clock or nobody does. Processes measure it by their own clocks, which do
    /// not stand still: they begin anew. A collector may have slept for so long between its look and its act.
    pub(crate) async fn move_to(&mut self, now: Duration, is_watched: bool) {
        self.end().await;
        self.clock.set(now).await;
        if is_watched {
            self.clock.was_watched().await;
        }
        self.start().await;
    }

    /// Goes on with a new database, which is filled from this backup, over the same store.
    pub(crate) async fn restore(&mut self, backup: Bytes, now: Duration) -> Result<(), BackupError> {
        self.end().await;
        self.decided.clear();
        self.clock.close().await;
        self.moves += 1;
        self.url = self.engine.database(self.moves).await;
        self.clock = Clock::open(&self.url).await;
        self.clock.begin_at(now).await;
        let metadata = connect(&self.url).await;
        let restored = restore(&metadata, stream::iter([Ok(backup)])).await;
        metadata.close().await;
        self.start().await;
        restored.map(drop)
    }

    pub(crate) async fn close(self) {
        self.end().await;
        self.clock.close().await;
    }
}
