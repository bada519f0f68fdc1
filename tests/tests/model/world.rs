//! The registry under test: one process on SQLite or three on Postgres, over one store.

use crate::{clock::Clock, faulty::Faulty, ledger::Ledger, operation::REPLICAS};
use longshore_gc::{Collector, Error as GcError, Finding, Findings, FsckOptions, Rules as GcRules, fsck};
use longshore_metadata::{Breaker, ConnectOptions, Lifetimes, Metadata};
use longshore_oci::ManifestLimits;
use longshore_registry::{Registry, Rules};
use longshore_storage::{RemoteStore, Storage};
use longshore_tests::postgres::Postgres;
use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;

pub(crate) const PROMISE: Duration = Duration::from_secs(24 * 3600);
pub(crate) const UNDO: Duration = Duration::from_secs(48 * 3600);
const REVIEW_DELAY: Duration = Duration::from_secs(600);
const OBJECT_DELAY: Duration = Duration::from_secs(3600);
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
    pub(crate) fn sqlite() -> Self {
        // In memory where there is such a folder: what survives a power cut is for other tests.
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let template = folder.path().join("template.db");
        let url = format!("sqlite:{}", template.display());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(prepare(&url));
        Self::Sqlite { folder, template }
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres
    }

    async fn database(&self) -> String {
        match self {
            Self::Sqlite { folder, template } => {
                let file = folder.path().join("case.db");
                for name in ["case.db", "case.db-wal", "case.db-shm"] {
                    let _ = std::fs::remove_file(folder.path().join(name)); // the last case's, if there was one
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

/// A process.
struct Replica {
    metadata: Metadata,
    storage: Storage,
    registry: Registry,
    collector: Collector,
}

pub(crate) struct World {
    url: String,
    pub(crate) clock: Clock,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) faulty: Arc<Faulty>,
    replicas: Vec<Replica>,
    /// What collectors have decided and not done yet, each with whose it is.
    pub(crate) decided: VecDeque<(usize, Findings)>,
}

impl World {
    pub(crate) async fn new(engine: &Engine) -> Self {
        let url = engine.database().await;
        let ledger = Ledger::new();
        let faulty = Faulty::new(ledger.clone());
        let clock = Clock::open(&url).await;
        let mut world = Self { url, clock, ledger, faulty, replicas: Vec::new(), decided: VecDeque::new() };
        world.start().await;
        world
    }

    /// SQLite has one process.
    fn processes(&self) -> usize {
        if self.url.starts_with("sqlite:") { 1 } else { REPLICAS }
    }

    pub(crate) fn is_one_process(&self) -> bool {
        self.processes() == 1
    }

    async fn start(&mut self) {
        for _ in 0..self.processes() {
            let replica = self.replica().await;
            self.replicas.push(replica);
        }
    }

    async fn replica(&self) -> Replica {
        let metadata = connect(&self.url).await;
        let storage = Storage::Remote(RemoteStore::new(self.faulty.clone(), 64 * 1024, 16 * 1024 * 1024));
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
        let gc = GcRules { undo: UNDO, breaker: Breaker { percent: 100, floor: 0 }, share: 100, ..GcRules::default() };
        let collector = Collector::new(metadata.clone(), storage.clone(), gc);
        Replica { metadata, storage, registry, collector }
    }

    pub(crate) fn registry(&self, replica: usize) -> Registry {
        self.replicas[replica % self.replicas.len()].registry.clone()
    }

    pub(crate) fn collector(&self, replica: usize) -> Collector {
        self.replicas[replica % self.replicas.len()].collector.clone()
    }

    /// Compares the store with the database; tells what is wrong.
    pub(crate) async fn compare(&self) -> Result<Vec<Finding>, GcError> {
        let Replica { metadata, storage, .. } = &self.replicas[0];
        let options = FsckOptions { repair: false, all: false, older_than: Duration::ZERO };
        let mut findings = Vec::new();
        fsck(metadata, storage, options, |finding| findings.push(finding.clone())).await?;
        Ok(findings)
    }

    /// Ends a process, and begins another in its place. What its collector had decided is forgotten.
    pub(crate) async fn restart(&mut self, replica: usize) {
        let number = replica % self.replicas.len();
        let old = self.replicas.remove(number);
        old.registry.settle().await;
        old.metadata.close().await;
        let new = self.replica().await;
        self.replicas.insert(number, new);
        let processes = self.replicas.len();
        self.decided.retain(|(whose, _)| whose % processes != number);
    }

    /// Lets time go by. Processes measure it by their own clocks, which do not stand still: they begin anew.
    pub(crate) async fn advance(&mut self, duration: Duration) {
        let decided = std::mem::take(&mut self.decided);
        for number in 0..self.replicas.len() {
            self.restart(number).await;
        }
        self.clock.advance(duration).await;
        for number in 0..self.replicas.len() {
            self.restart(number).await;
        }
        // A collector may have slept for so long between its look and its act.
        self.decided = decided;
    }

    pub(crate) async fn close(self) {
        for replica in self.replicas {
            replica.registry.settle().await;
            replica.metadata.close().await;
        }
        self.clock.close().await;
    }
}
