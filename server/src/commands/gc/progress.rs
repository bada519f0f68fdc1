//! What a pass has done so far, told while it goes on: it may take hours, and what it did in all is said at its end.

use longshore_gc::Collected;
use std::{
    io::{self, Write as _},
    pin::pin,
    time::Duration,
};

/// It is told so often; of what takes less time nothing is.
const EVERY: Duration = Duration::from_secs(10);

/// Waits for the work to end, and lets somebody speak meanwhile.
pub(super) async fn told<T>(work: impl Future<Output = T>, mut speak: impl FnMut()) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            // Nothing is waited for: so often it is told.
            () = tokio::time::sleep(EVERY) => speak(),
        }
    }
}

/// Says a line on standard error: standard output is for what was done in all. Where nobody hears it the pass goes on.
pub(super) fn say_so_far(collected: &Collected) {
    let _ = writeln!(io::stderr().lock(), "{}", so_far(collected));
}

fn so_far(collected: &Collected) -> String {
    let Collected { uploads, retained, manifests, grants, blobs, objects, .. } = collected;
    let manifests = manifests.count + retained.build_caches.count;
    format!(
        "so far: {uploads} uploads, {} tags, {manifests} manifests, {} grants, {} blobs, {} objects of {} bytes",
        retained.tags, grants.count, blobs.count, objects.count, objects.bytes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_metadata::Deleted;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn it_speaks_every_ten_seconds_and_not_of_what_takes_less() {
        for (seconds, times) in [(0, 0), (9, 0), (11, 1), (35, 3)] {
            let mut spoken = 0;
            let work = async {
                sleep(Duration::from_secs(seconds)).await; // of a clock that nobody waits for
                7
            };
            assert_eq!(told(work, || spoken += 1).await, 7);
            assert_eq!(spoken, times, "in {seconds} s");
        }
    }

    #[test]
    fn it_says_what_was_done_in_a_line() {
        let (manifests, objects) = (Deleted { count: 12_000, bytes: 5 }, Deleted { count: 3, bytes: 4096 });
        let collected = Collected { uploads: 2, manifests, objects, ..Collected::default() };
        let line = "so far: 2 uploads, 0 tags, 12000 manifests, 0 grants, 0 blobs, 3 objects of 4096 bytes";
        assert_eq!(so_far(&collected), line);
    }
}
