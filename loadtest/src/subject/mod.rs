//! Owns the servers that are compared: how each is started in a throw-away state, and which cases it can take part in.

mod distribution;
mod floor;
mod longshore;
mod minio;
mod nginx;
mod postgres;
mod work_folder;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::minio::{Bucket, ObjectStore, find_minio};
pub(crate) use self::nginx::StaticFiles;
pub(crate) use self::postgres::Psql;
pub(crate) use self::work_folder::WorkFolder;
use crate::floor_server::FloorMode;
use crate::launch::{Launch, OwnedProcess};
use crate::process::ServerProcesses;
use crate::target::Target;

/// What `--subjects` can name, in the order in which they run.
pub(crate) const SUBJECTS: [&str; 11] = [
    "longshore-sqlite",
    "longshore-postgres",
    "longshore-s3",
    "longshore-disk-s3",
    "nginx",
    "docker-registry",
    "distribution",
    "distribution-s3",
    "floor-receive",
    "floor-hash",
    "floor",
];

/// Where the programs are found and the states are put.
#[derive(Debug)]
pub(crate) struct Places {
    /// Our own server.
    pub(crate) longshore: PathBuf,
    /// Programs that were built for the comparison.
    pub(crate) tools: PathBuf,
    /// A folder to throw away.
    pub(crate) work: PathBuf,
    /// The object store's program, if it was told.
    pub(crate) minio: Option<PathBuf>,
    /// `KEY=VALUE`: settings of our own server beyond address, folder, database and bucket.
    pub(crate) settings: Vec<String>,
}

/// Whether a subject puts its blobs into the shared object store.
pub(crate) fn is_on_s3(name: &str) -> bool {
    name.ends_with("-s3")
}

impl Places {
    /// Starts the object store, or tells how to get it.
    pub(crate) fn start_store(&self) -> Result<Result<ObjectStore, String>> {
        let Some(program) = self.minio.clone().or_else(|| find_minio(&self.tools)) else {
            return Ok(Err("MinIO is missing: loadtest/install-peers, or give --minio".to_owned()));
        };
        ObjectStore::start(&program, &self.work).map(Ok).context("cannot start MinIO")
    }
}

/// What kind of server it is: what it can be asked.
#[derive(Debug)]
pub(crate) enum Kind {
    /// It takes and gives everything.
    Registry,
    /// It serves these files and takes nothing.
    StaticFiles(StaticFiles),
    /// It takes blobs. Whether it keeps them depends on the mode.
    Floor(FloorMode),
}

/// A server under comparison, running.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    /// The server's own process, if we started it. Before the companions, so that it ends before them.
    process: Option<OwnedProcess>,
    launch: Option<Launch>,
    /// What it needs beside itself: its database.
    companions: Vec<OwnedProcess>,
    /// The processes of a server that somebody else started.
    foreign_pids: Vec<u32>,
    /// Where it puts blobs: a folder, or a bucket's.
    content: Option<PathBuf>,
    /// What collects its garbage while it is stopped, where it cannot do that itself.
    collector: Option<Launch>,
    /// A way to its database, where that is a Postgres of ours.
    database: Option<Psql>,
}

/// What came of starting a subject.
pub(crate) enum Started {
    Running(Box<Subject>),
    /// Its program is not there, and how to get it.
    Missing(String),
}

/// Starts one of [`SUBJECTS`]. Those on S3 need a bucket.
pub(crate) fn start(name: &str, places: &Places, bucket: Option<&Bucket>) -> Result<Started> {
    ensure!(!is_on_s3(name) || bucket.is_some(), "{name} needs a bucket");
    let home = places.work.join(name);
    std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let started = match name {
        "longshore-sqlite" => longshore::start_on_sqlite(name, places, &home),
        "longshore-postgres" => longshore::start_on_postgres(name, places, &home, None),
        "longshore-s3" => longshore::start_on_postgres(name, places, &home, bucket),
        "longshore-disk-s3" => longshore::start_with_disk_cache(name, places, &home, bucket),
        "nginx" => nginx::start(name, &home),
        "docker-registry" => distribution::start_packaged(name, &home),
        "distribution" => distribution::start_built(name, places, &home),
        "distribution-s3" => distribution::start_on_s3(name, places, &home, bucket),
        "floor-receive" => floor::start(name, FloorMode::Receive, &home),
        "floor-hash" => floor::start(name, FloorMode::Hash, &home),
        "floor" => floor::start(name, FloorMode::Store, &home),
        _ => bail!("there is no subject {name:?}: there are {}", SUBJECTS.join(", ")),
    };
    started.with_context(|| format!("cannot start {name}"))
}

impl Subject {
    /// Starts a server and waits for its first answer.
    fn launched(name: &str, kind: Kind, launch: Launch, port: u16, content: &Path) -> Result<Self> {
        let target = Target::parse(&format!("http://127.0.0.1:{port}"), None)?;
        let mut subject = Self {
            name: name.to_owned(),
            kind,
            target,
            process: None,
            launch: Some(launch),
            companions: Vec::new(),
            foreign_pids: Vec::new(),
            content: Some(content.to_owned()),
            collector: None,
            database: None,
        };
        subject.restart()?;
        Ok(subject)
    }

    /// A registry that somebody else started on this machine.
    pub(crate) fn foreign(name: &str, url: &str, pids: Vec<u32>) -> Result<Self> {
        let target = Target::parse(url, None)?;
        ServerProcesses::new(pids.clone()).with_context(|| format!("cannot read a process of {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            kind: Kind::Registry,
            target,
            process: None,
            launch: None,
            companions: Vec::new(),
            foreign_pids: pids,
            content: None,
            collector: None,
            database: None,
        })
    }

    /// All processes whose processor time is the subject's, its database among them.
    pub(crate) fn processes(&self) -> Result<ServerProcesses> {
        let own = self.process.iter().chain(&self.companions).map(OwnedProcess::pid);
        ServerProcesses::new(own.chain(self.foreign_pids.iter().copied()).collect())
    }

    /// The server alone, without its database: whose memory is looked at.
    pub(crate) fn server_alone(&self) -> Result<ServerProcesses> {
        let own = self.process.iter().map(OwnedProcess::pid);
        ServerProcesses::new(own.chain(self.foreign_pids.iter().copied()).collect())
    }

    /// Whether it can be made a fresh process.
    pub(crate) fn can_restart(&self) -> bool {
        self.launch.is_some()
    }

    /// Ends the server and starts it on the same state. Answers how long it took from the start to the first answer.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        let launch = self.launch.as_ref().with_context(|| format!("{} was not started by us", self.name))?;
        drop(self.process.take());
        let began = Instant::now();
        let mut process = launch.start()?;
        process.wait_for_registry(&self.target)?;
        let took = began.elapsed();
        self.process = Some(process);
        Ok(took)
    }

    /// Stops the server, collects its garbage and starts it again. Answers how long that was, to the first answer; none
    /// where the server collects its garbage itself.
    pub(crate) fn collect_stopped(&mut self) -> Result<Option<Duration>> {
        let Some(collector) = &self.collector else { return Ok(None) };
        let began = Instant::now();
        drop(self.process.take());
        collector.run()?;
        self.restart()?;
        Ok(Some(began.elapsed()))
    }

    /// The way to its database.
    pub(crate) fn database(&self) -> Result<&Psql> {
        self.database.as_ref().with_context(|| format!("{} has no database of ours", self.name))
    }

    /// Removes the files of exactly this size that were written since then: blobs that nobody will ask for again, so
    /// that pushes neither fill the disk nor leave the next one's window the writing of dirty pages.
    pub(crate) fn discard_blobs(&self, size: u64, since: SystemTime) -> Result<()> {
        match &self.content {
            Some(bucket) if is_on_s3(&self.name) => minio::remove_objects(bucket, size, since),
            Some(folder) => work_folder::remove_files(folder, size, since),
            None => Ok(()),
        }
    }
}
