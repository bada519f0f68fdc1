//! Blobs of many sizes, pushed in every way by several clients at a time, and pulled whole and in ranges.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use longshore_tests::backends::Backend;
use longshore_tests::server::{Options, Server};

use crate::content::Content;
use crate::memory::Watch;
use crate::wire::{Framing, Wire};
use crate::{GIB, MIB};

const REPOSITORY: &str = "large/mixed";
/// Clients at a time.
const CLIENTS: usize = 4;

/// So many blobs of such a length.
const SIZES: [(u64, u64); 7] = [
    (2, GIB + 1),
    (4, 400 * MIB + 4_097),
    (16, 50 * MIB + 1_000_003),
    (64, 8 * MIB),
    (128, MIB + 1),
    (256, 64 * 1024),
    (512, 10_000),
];

/// What they come to.
pub(crate) const TOTAL: u64 = {
    let mut total = 0;
    let mut index = 0;
    while index < SIZES.len() {
        total += SIZES[index].0 * SIZES[index].1;
        index += 1;
    }
    total
};

/// How a blob is pushed.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One POST.
    Whole,
    /// POST, then one PUT.
    PostAndPut,
    /// POST, one PATCH of unknown length, PUT.
    Streamed,
    /// POST, PATCH by PATCH of this many bytes, PUT.
    Chunked(u64),
}

const WAYS: [Way; 5] = [Way::Chunked(100 * MIB), Way::Whole, Way::PostAndPut, Way::Streamed, Way::Chunked(5 * MIB)];

#[test]
fn many_blobs_are_pushed_and_pulled_by_several_clients() {
    let server = Server::start(Options::on(Backend::Postgres));
    push_and_pull(&mut Wire::to(server.address()), 0, MIB, Way::Whole);
    let sizes = SIZES.iter().flat_map(|(count, length)| (0..*count).map(|_| *length));
    let blobs: Vec<(u64, u64)> = (1..).zip(sizes).collect();

    let watch = Watch::begin(&server);
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut wire = Wire::to(server.address());
                while let Some((number, length)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let way = WAYS[usize::try_from(*number).expect("a small number") % WAYS.len()];
                    push_and_pull(&mut wire, *number, *length, way);
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} blobs, {TOTAL} bytes pushed and pulled in {seconds:.1} s", blobs.len());
    watch.assert_bounded("pushing and pulling blobs of all sizes");
}

fn push_and_pull(wire: &mut Wire, number: u64, length: u64, way: Way) {
    let mut content = Content::new(number, length);
    let digest = push(wire, &mut content, way);
    let pulled = if number.is_multiple_of(2) {
        wire.pull(REPOSITORY, &digest, length)
    } else {
        wire.pull_in_ranges(REPOSITORY, &digest, length, length / 3 + 1)
    };
    assert_eq!(pulled, digest, "other bytes came back of {length} pushed by {way:?}");
}

fn push(wire: &mut Wire, content: &mut Content, way: Way) -> String {
    let all = (0, content.length());
    match way {
        Way::Whole => {
            let digest = content.digest();
            let target = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={digest}");
            wire.send(("POST", &target, 201), Framing::Length, content, all);
            digest
        }
        Way::PostAndPut => {
            let digest = content.digest();
            let target = format!("{}?digest={digest}", wire.open_upload(REPOSITORY));
            wire.send(("PUT", &target, 201), Framing::Length, content, all);
            digest
        }
        Way::Streamed => {
            let upload = wire.open_upload(REPOSITORY);
            let (digest, upload) = wire.send(("PATCH", &upload, 202), Framing::Chunked, content, all);
            wire.close_upload(&upload, &digest);
            digest
        }
        Way::Chunked(each) => {
            let mut upload = wire.open_upload(REPOSITORY);
            let mut start = 0;
            while start < content.length() {
                let end = content.length().min(start + each);
                (_, upload) = wire.send(("PATCH", &upload, 202), Framing::Length, content, (start, end));
                start = end;
            }
            let digest = content.digest();
            wire.close_upload(&upload, &digest);
            digest
        }
    }
}
