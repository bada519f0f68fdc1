//! One blob of 5 GiB, pushed as docker does and pulled again: from files, and from an object store, where it is more than
//! one request may carry.

use std::time::Instant;

use longshore_tests::backends::Backend;
use longshore_tests::server::{Options, Server};

use crate::content::Content;
use crate::memory::Watch;
use crate::wire::{Framing, Wire};
use crate::{GIB, MIB};

/// Not a whole number of anything.
pub(crate) const LENGTH: u64 = 5 * GIB + 12_345;

const REPOSITORY: &str = "large/one-blob";

#[test]
fn a_blob_of_5_gib_takes_less_than_64_mib_of_extra_memory() {
    push_and_pull(Options::on(Backend::Sqlite), 1);
}

/// S3 takes 5 GiB at most in one request, and ten thousand parts: the parts grow.
#[test]
fn the_same_with_s3_takes_the_memory_that_it_was_given_and_no_more() {
    let options = Options::on(Backend::S3).set("storage.upload_memory", "32MiB").set("storage.cache_size", "16MiB");
    push_and_pull(options, 2);
}

fn push_and_pull(options: Options, number: u64) {
    let server = Server::start(options);
    let mut wire = Wire::to(server.address());
    // A first small one, so that what is only set up once does not count.
    push(&mut wire, &mut Content::new(0, MIB));

    let watch = Watch::begin(&server);
    let mut content = Content::new(number, LENGTH);
    let begun = Instant::now();
    let digest = push(&mut wire, &mut content);
    say("pushed", begun);
    watch.assert_bounded("pushing 5 GiB");

    let watch = Watch::begin(&server);
    let begun = Instant::now();
    assert_eq!(wire.pull(REPOSITORY, &digest, LENGTH), digest, "other bytes came back");
    say("pulled", begun);
    watch.assert_bounded("pulling 5 GiB");
}

/// POST, one PATCH of unknown length, PUT.
fn push(wire: &mut Wire, content: &mut Content) -> String {
    let upload = wire.open_upload(REPOSITORY);
    let all = (0, content.length());
    let (digest, upload) = wire.send(("PATCH", &upload, 202), Framing::Chunked, content, all);
    wire.close_upload(&upload, &digest);
    digest
}

fn say(done: &str, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!("5 GiB {done} in {seconds:.1} s: {:.0} MB/s", LENGTH as f64 / 1e6 / seconds);
}
