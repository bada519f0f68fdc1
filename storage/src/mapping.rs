//! Files in the address space, so that a range of one can travel as ordinary [`Bytes`] and still be recognised at the
//! socket, which then lets the kernel send it from the page cache (`sendfile`) without anybody touching the bytes.
//!
//! This is the one module of the workspace with `unsafe`. What makes it sound:
//! - A mapping is read-only, and its file is an object: written once, never written again, never cut while a row names
//!   it (an upload's file is mapped by nobody). So the slice behind the `Bytes` does not change under its reader.
//! - The mapping lives exactly as long as the `Bytes` that come from it: `munmap` runs in the drop of their owner.
//! - Whoever does read the mapped memory (a connection that cannot use `sendfile`) may block on the disk and, where the
//!   disk has an error, die of SIGBUS. So mapped ranges are only handed to connections that send them by the kernel
//!   ([`crate::Delivery::Mapped`]); should one land in a plain `write` all the same, the kernel reads it and answers
//!   EFAULT instead.

#![allow(unsafe_code)]

use bytes::Bytes;
use rustix::mm::{MapFlags, ProtFlags};
use std::{
    collections::BTreeMap,
    ffi::c_void,
    fs::File,
    io,
    ptr::{self, NonNull},
    sync::{Arc, PoisonError, RwLock},
};

/// The mappings that exist, by address: how a socket finds out which file a slice is a part of.
#[derive(Debug, Clone, Default)]
pub struct Mappings(Arc<RwLock<BTreeMap<usize, Mapped>>>);

/// A slice of a mapped file, as a place in that file.
#[derive(Debug)]
pub struct FilePart {
    /// The file.
    pub file: Arc<File>,
    /// Where in it the slice begins.
    pub offset: u64,
    /// Whether the slice ends where the mapped file does, so that no more of it can follow.
    pub is_end: bool,
}

#[derive(Debug)]
struct Mapped {
    length: usize,
    file: Arc<File>,
}

/// The owner of one mapping.
struct Mapping {
    start: NonNull<c_void>,
    length: usize,
    mappings: Mappings,
}

// SAFETY: the pointer leads to memory that nobody writes and that belongs to this value alone.
unsafe impl Send for Mapping {}
// SAFETY: as above; all that a shared reference gives is the slice.
unsafe impl Sync for Mapping {}

impl Mappings {
    /// Maps the first `length` bytes of an object's file.
    ///
    /// # Errors
    /// Of `mmap`: too many mappings, or a limit on the address space. `length` must not be 0.
    pub(crate) fn map(&self, file: &Arc<File>, length: usize) -> io::Result<Bytes> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0)? };
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapped = Mapped { length, file: file.clone() };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(start.as_ptr() as usize, mapped);
        Ok(Bytes::from_owner(Mapping { start, length, mappings: self.clone() }))
    }

    /// Which part of which file this slice is; `None` for any other memory.
    pub fn locate(&self, slice: &[u8]) -> Option<FilePart> {
        let address = slice.as_ptr() as usize;
        let mappings = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (start, mapped) = mappings.range(..=address).next_back()?;
        let offset = address - start;
        let end = offset + slice.len();
        let is_end = end == mapped.length;
        (end <= mapped.length).then(|| FilePart { file: mapped.file.clone(), offset: offset as u64, is_end })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped there for as long as this value lives, and never change (see above).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let mut mappings = self.mappings.0.write().unwrap_or_else(PoisonError::into_inner);
        // Forgotten first, under the lock: the address may belong to another mapping as soon as it is given back.
        mappings.remove(&(self.start.as_ptr() as usize));
        // SAFETY: this is the whole mapping, and nobody has a slice of it any more.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) } {
            tracing::error!(%error, "a mapped object could not be unmapped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn slices_are_found_and_nothing_else_is() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..100_000u32).map(|number| (number % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let file = Arc::new(file);
        let mappings = Mappings::default();
        let mapped = mappings.map(&file, content.len()).unwrap();
        assert_eq!(mapped, content);
        let part = mapped.slice(70_001..90_000);
        let found = mappings.locate(&part).unwrap();
        assert!(Arc::ptr_eq(&found.file, &file));
        assert_eq!((found.offset, found.is_end), (70_001, false));
        assert!(mappings.locate(&mapped.slice(70_001..)).unwrap().is_end);
        assert!(mappings.locate(&content).is_none());
        drop(mapped);
        assert!(mappings.locate(&part).is_some(), "the part keeps the mapping");
        drop(part);
        assert!(mappings.0.read().unwrap().is_empty());
    }

    #[test]
    fn an_empty_file_cannot_be_mapped() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        assert!(Mappings::default().map(&file, 0).is_err());
    }
}
