//! Directories that live as long as a test.

use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use crate::reaper;

/// A directory of a test's own, removed with everything in it at the end.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A directory under the target directory: room for gigabytes, on the disk that the build uses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::below(&target_directory().join("tmp"), name)
    }

    /// A directory under the system's temporary one: a short path, for Unix sockets (the kernel's limit is 107 bytes),
    /// and one that other users may reach, for Postgres.
    #[must_use]
    pub fn short(name: &str) -> Self {
        Self::below(&env::temp_dir(), name)
    }

    fn below(parent: &Path, name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").subsec_nanos();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{name}-{:x}-{started:x}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        reaper::remove_at_end(&path);
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new directory `name` in it.
    #[must_use]
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        reaper::remove_tree(&self.path);
    }
}

/// Cargo's target directory, found from the running test: `target/debug/deps/this-test`.
#[must_use]
pub fn target_directory() -> PathBuf {
    let executable = env::current_exe().expect("the test knows its own path");
    executable
        .ancestors()
        .find(|directory| directory.join(".rustc_info.json").exists())
        .unwrap_or_else(|| panic!("{} does not lie in a target directory of cargo", executable.display()))
        .to_owned()
}
