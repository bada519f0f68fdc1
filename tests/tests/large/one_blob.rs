//! One blob of 5 GiB, pushed as docker does and pulled again.

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
    let server = Server::start(Options::on(Backend::Sqlite));
    let mut wire = Wire::to(server.address());
    // A first small one, so that what is only set up once does not count.
    push(&mut wire, &mut Content::new(0, MIB));

    let watch = Watch::begin(&server);
    let mut content = Content::new(1, LENGTH);
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
