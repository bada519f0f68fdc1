//! Real clients against the real server: each does what its users do every day, and every byte is compared.
//!
//! A client gets a home of its own and, where it needs a daemon, a daemon of its own; nothing of the machine's
//! configuration is read and nothing outside the test's directories is left behind. Images are made on the spot.

mod buildkit;
mod containerd;
mod crane;
mod docker;
mod engine;
mod helm;
mod home;
mod htpasswd;
mod interrupted;
mod oras;
mod podman;
mod redirects;
mod regctl;
mod skopeo;
mod tour;

/// A mebibyte, in bytes.
const MIB: usize = 1024 * 1024;
