//! Owns the object store that the subjects on S3 share: a `MinIO` with a drive of its own, a bucket for each subject.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::work_folder::remove_folders;
use crate::launch::{Launch, OwnedProcess, find_program, free_port, start_deadline};
use crate::process::ServerProcesses;
use crate::target::Target;

const ACCESS_KEY: &str = "longshore-loadtest";
const SECRET_KEY: &str = "not-much-of-a-secret";
/// Where the checks of the project put it.
const BUILT_FOR_TESTS: &str = "target/tools";
/// What marks a folder of the drive as an object.
const OBJECT_MARK: &str = "xl.meta";
/// On the drive, 32 bytes of a checksum stand before each MiB: an object takes at most so much more than its content.
const OVERHEAD_PARTS: u64 = 4096;

/// A running `MinIO`. Dropping it ends it.
pub(crate) struct ObjectStore {
    process: OwnedProcess,
    address: SocketAddr,
    drive: PathBuf,
}

/// A bucket as a server is told of it.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    /// Host and port: the store itself, or whoever stands in front of it.
    pub(crate) address: SocketAddr,
    /// Where its objects are on this machine.
    pub(crate) folder: PathBuf,
}

impl Bucket {
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    pub(crate) fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }
}

/// Looks for the program in the folder of the peers, where the checks put it, and in `PATH`.
pub(crate) fn find_minio(tools: &Path) -> Option<PathBuf> {
    find_program("minio", &[tools.to_owned(), PathBuf::from(BUILT_FOR_TESTS)])
}

impl ObjectStore {
    /// Starts it with an empty drive below `work`.
    pub(crate) fn start(program: &Path, work: &Path) -> Result<Self> {
        let home = work.join("minio");
        let drive = home.join("drive");
        fs::create_dir_all(&drive).with_context(|| format!("cannot make {}", drive.display()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let launch = Launch::new(program, &home.join("output"))
            .argument("server")
            .argument("--quiet")
            .argument("--address")
            .argument(address.to_string())
            .argument(&drive)
            .variable("MINIO_ROOT_USER", ACCESS_KEY)
            .variable("MINIO_ROOT_PASSWORD", SECRET_KEY)
            .variable("MINIO_BROWSER", "off")
            .variable("MINIO_UPDATE", "off")
            // It would refuse a drive on the root's file system otherwise.
            .variable("MINIO_CI_CD", "1");
        let mut process = launch.start()?;
        let target = Target::parse(&format!("http://{address}"), None)?;
        process.wait_for_path(&target, "/minio/health/ready", start_deadline())?;
        Ok(Self { process, address, drive })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn processes(&self) -> Result<ServerProcesses> {
        ServerProcesses::new(vec![self.process.pid()])
    }

    /// Makes a bucket that is reached at `address`: a folder of its drive is one.
    pub(crate) fn bucket(&self, name: &str, address: SocketAddr) -> Result<Bucket> {
        let folder = self.drive.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Bucket { name: name.to_owned(), address, folder })
    }
}

/// Removes the objects of a bucket that have exactly this size and were written since then.
pub(super) fn remove_objects(bucket: &Path, size: u64, since: SystemTime) -> Result<()> {
    let at_most = size + size / OVERHEAD_PARTS + 1024;
    remove_folders(bucket, OBJECT_MARK, size..=at_most, since)
}
