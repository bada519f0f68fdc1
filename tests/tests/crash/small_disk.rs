//! A disk of a few megabytes: a tmpfs, which only root may mount.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use longshore_tests::programs::{program, require_root, run};
use longshore_tests::scratch::Scratch;

use crate::{KIB, MIB};

/// A mounted disk. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    /// Unmounts what is mounted below it when it is dropped, or when the test process ends.
    scratch: Scratch,
}

/// A file that takes up room on a disk. Dropping it frees the room.
#[derive(Debug)]
pub(crate) struct Filler<'a> {
    disk: &'a SmallDisk,
    file: File,
}

impl SmallDisk {
    /// An empty disk of so many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        require_root("mount");
        let scratch = Scratch::new("small-disk");
        let mount_point = scratch.directory("disk");
        run(program("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(mount_point));
        Self { scratch }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.scratch.join("disk")
    }

    /// How many bytes are free.
    pub(crate) fn free(&self) -> usize {
        let said = run(program("stat").args(["--file-system", "--format=%a %S"]).arg(self.path()));
        let numbers = said.split_whitespace().map(|number| number.parse::<usize>().expect("a number"));
        numbers.product()
    }

    /// A filler that leaves so many bytes free.
    pub(crate) fn fill(&self, leave: usize) -> Filler<'_> {
        let file = OpenOptions::new().create_new(true).append(true).open(self.path().join("filler"));
        let mut filler = Filler { disk: self, file: file.expect("the disk has one filler at a time") };
        filler.leave(leave);
        filler
    }
}

impl Filler<'_> {
    /// Changes how many bytes are left free: whole pages of 4 KiB.
    pub(crate) fn leave(&mut self, leave: usize) {
        let length = self.file.metadata().expect("the filler is open").len();
        let free = self.disk.free();
        if free <= leave {
            let missing = (leave - free) as u64;
            self.file.set_len(length.checked_sub(missing).expect("the filler is large enough")).expect("files shrink");
            return;
        }
        let zeroes = vec![0; MIB];
        let mut rest = free - leave;
        while rest > 0 {
            let piece = rest.min(zeroes.len());
            self.file.write_all(&zeroes[..piece]).expect("so much was free");
            rest -= piece;
        }
        assert_eq!(self.disk.free() / (4 * KIB), leave / (4 * KIB), "the disk is not as full as it should be");
    }
}

impl Drop for Filler<'_> {
    fn drop(&mut self) {
        // Emptied first: a child that another test is just starting may share the open file for a moment.
        drop(self.file.set_len(0));
        drop(fs::remove_file(self.disk.path().join("filler")));
    }
}
