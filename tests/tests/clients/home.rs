//! A client's home: a directory of its own, and commands that see no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use longshore_tests::programs::program;
use longshore_tests::scratch::Scratch;

/// Where a client keeps its configuration, its logins and its files during one test.
pub(crate) struct Home {
    scratch: Scratch,
}

impl Home {
    pub(crate) fn new(client: &str) -> Self {
        Self { scratch: Scratch::new(client) }
    }

    /// A command that runs in this home with nothing of the caller's environment but `PATH`.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = program(name);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.path()).current_dir(self.path());
        for (variable, directory) in [
            ("XDG_CONFIG_HOME", ".config"),
            ("XDG_DATA_HOME", ".local/share"),
            ("XDG_CACHE_HOME", ".cache"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
        ] {
            command.env(variable, self.directory(directory));
        }
        command
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.scratch.directory(name)
    }

    /// Writes a file, in a directory that is made for it if need be, and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        let written = fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| fs::write(&path, content));
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// Reads a file that the client has written.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.join(name)).unwrap_or_else(|error| panic!("the client has not written {name}: {error}"))
    }
}
