//! Gigabytes: pushed in every way and pulled byte-exact, blobs of 5 GiB among them, with bounded memory.
//!
//! The clients make their content while they send it and hash it while they receive it; they hold none of it.

mod content;
mod memory;
mod mixed;
mod one_blob;
mod wire;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// What all tests of this program together move to the server, and back again.
const TOTAL: u64 = 2 * one_blob::LENGTH + mixed::TOTAL;
const _: () = assert!(TOTAL >= 10 * GIB, "ten gibibytes are promised");
