//! Owns the large case: a million blobs and 200,000 manifests in Postgres, all of them to be reviewed, half of them garbage;
//! and what pulls notice of it.
//!
//! So much is not pushed but put into the database by generated rows, as pushes would have left them, with the bytes of
//! blobs and manifests in them: whatever is pulled is real.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::readers::{Corpus, Phase, Wanted, while_reading};
use super::tell::{Told, figures, latencies_as_json};
use crate::body::Sha256Digest;
use crate::client::{Connection, Method, Request};
use crate::report::three_digits;
use crate::setup::{self, ACCEPT_MANIFESTS};
use crate::subject::{Psql, Subject};

const MANIFESTS: u64 = 200_000;
const BLOBS_EACH: u64 = 5;
const REPOSITORIES: u64 = 200;
/// Readers are alone for so long before anything is counted: what they read first was never read before.
const WARM_UP: Duration = Duration::from_secs(5);

const PHASES: [&str; 3] = ["warming up", "collection off", "collection on"];

/// Nothing is collected while this holds: as if the breaker had stopped it.
const STOP: &str = "UPDATE gc_state SET stopped_at = 1, stopped_why = 'the load test fills the registry' WHERE id = 1;";
const RESUME: &str = "UPDATE gc_state SET stopped_at = NULL, stopped_why = NULL WHERE id = 1;";

/// What one half is made of, in the words of the database: each repository has some of either.
const IS_GARBAGE: &str = "(m / 200) % 2 = 0";

/// Fills the registry and reads it, without and with collection.
pub(super) fn measure(subject: &Subject, readers: u16, window: Duration) -> Result<Told> {
    let target = subject.target.clone();
    let database = subject.database()?;
    eprintln!("filling the database");
    database.run(&format!("{STOP}{}", rows())).context("cannot fill the database")?;
    verify(&mut Connection::new(&target, setup::setup_deadline()))?;
    let reading = (readers, PHASES.len());
    let work = |phase: &Phase| collect(database, phase, window);
    let (collected, latencies) = while_reading(&target, &Large, reading, work)?;
    let mut lines = vec![["pulls", "requests/s", "p50 ms", "p99 ms", "max ms"].map(str::to_owned).to_vec()];
    for (phase, latencies) in PHASES.iter().zip(&latencies).skip(1) {
        let rate = latencies.count() as f64 / window.as_secs_f64();
        let line = [(*phase).to_owned(), three_digits(Some(rate))].into_iter().chain(figures(latencies));
        lines.push(line.collect());
    }
    let (json, remarks) = collected.tell();
    let json = json!({
        "collected": json,
        "collection_off": latencies_as_json(&latencies[1]),
        "collection_on": latencies_as_json(&latencies[2]),
    });
    Ok(Told::with_remarks(&lines, &remarks, json))
}

/// What is to be done, and how to count what is left of it. A pass goes through the first three in this order.
const COUNTED: [(&str, &str); 5] = [
    ("reviews of manifests", "SELECT count(*) FROM gc_queue WHERE kind = 1"),
    ("reviews of what repositories hold", "SELECT count(*) FROM gc_queue WHERE kind = 2"),
    ("reviews of blobs", "SELECT count(*) FROM gc_queue WHERE kind = 3"),
    ("manifests", "SELECT count(*) FROM manifests"),
    ("blobs", "SELECT count(*) FROM blobs"),
];
/// So many of those are reviews.
const REVIEWS: usize = 3;

/// What there was before and after the time with collection.
struct Collected {
    seconds: f64,
    before: [u64; COUNTED.len()],
    after: [u64; COUNTED.len()],
}

impl Collected {
    fn reviews(counted: &[u64; COUNTED.len()]) -> u64 {
        counted[..REVIEWS].iter().sum()
    }

    /// As JSON, and for people. A review that makes others (a manifest's, of its blobs) counts for less than it is.
    fn tell(&self) -> (serde_json::Value, Vec<String>) {
        let (before, after) = (Self::reviews(&self.before), Self::reviews(&self.after));
        let reviews = before.saturating_sub(after) as f64 / self.seconds;
        let rate = three_digits(Some(reviews));
        let mut remarks =
            vec![format!("{rate} reviews a second, at least: so much shorter the queue became; {after} are left")];
        let mut json = json!({ "seconds": self.seconds, "reviews_per_second": reviews });
        for (number, (what, _)) in COUNTED.iter().enumerate() {
            let (before, after) = (self.before[number], self.after[number]);
            remarks.push(format!("{what}: {before} before, {after} after"));
            json[*what] = json!({ "before": before, "after": after });
        }
        (json, remarks)
    }
}

fn collect(database: &Psql, phase: &Phase, window: Duration) -> Result<Collected> {
    // Readers read meanwhile: so long their caches are filled, and so long is measured.
    std::thread::sleep(WARM_UP);
    phase.begin(1);
    std::thread::sleep(window);
    phase.begin(0);
    let before = counted(database)?;
    eprintln!("collecting");
    let began = Instant::now();
    database.run(RESUME)?;
    phase.begin(2);
    std::thread::sleep(window); // as long as without
    phase.begin(0);
    let seconds = began.elapsed().as_secs_f64();
    let after = counted(database)?;
    ensure!(Collected::reviews(&after) < Collected::reviews(&before), "nothing was reviewed in {window:?}");
    Ok(Collected { seconds, before, after })
}

fn counted(database: &Psql) -> Result<[u64; COUNTED.len()]> {
    let mut counted = [0; COUNTED.len()];
    for (count, (_, query)) in counted.iter_mut().zip(COUNTED) {
        *count = database.number(query)?;
    }
    Ok(counted)
}

/// What is read: manifests that have a tag, and their blobs.
struct Large;

impl Large {
    /// The manifest of this number among those that are kept.
    fn kept(number: u64) -> u64 {
        let (row, column) = (number / REPOSITORIES, number % REPOSITORIES);
        (row * 2 + 1) * REPOSITORIES + column
    }

    fn blob(number: u64) -> Vec<u8> {
        format!("blob {number}").into_bytes()
    }

    /// As the database makes it.
    fn manifest(number: u64) -> Vec<u8> {
        let descriptor = |media_type: &str, blob: u64| {
            let bytes = Self::blob(blob);
            let (digest, size) = (Sha256Digest::of(&bytes), bytes.len());
            format!(r#"{{"mediaType":"application/vnd.oci.image.{media_type}","digest":"{digest}","size":{size}}}"#)
        };
        let first = number * BLOBS_EACH;
        let layers = (first + 1..first + BLOBS_EACH).map(|blob| descriptor("layer.v1.tar+gzip", blob));
        let layers = layers.collect::<Vec<_>>().join(",");
        let config = descriptor("config.v1+json", first);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}]}}"#)
            .into_bytes()
    }

    fn path(number: u64, what: &str) -> String {
        format!("/v2/longshore-loadtest/large-{}/{what}", number % REPOSITORIES)
    }
}

impl Corpus for Large {
    fn choose(&self, random: u64) -> Vec<Wanted> {
        let number = Self::kept(random % (MANIFESTS / 2));
        let path = Self::path(number, &format!("manifests/tag-{number}"));
        let length = Self::manifest(number).len() as u64;
        let blob = Self::blob(number * BLOBS_EACH + (random >> 32) % BLOBS_EACH);
        let blob_path = Self::path(number, &format!("blobs/{}", Sha256Digest::of(&blob)));
        vec![
            Wanted { path, headers: ACCEPT_MANIFESTS, length },
            Wanted { path: blob_path, headers: "", length: blob.len() as u64 },
        ]
    }
}

/// What the database made is what is expected of it, to the last byte.
fn verify(connection: &mut Connection<'_>) -> Result<()> {
    for number in [0, MANIFESTS / 4, MANIFESTS / 2 - 1].map(Large::kept) {
        let path = Large::path(number, &format!("manifests/tag-{number}"));
        let request = Request { method: Method::Get, path: &path, headers: ACCEPT_MANIFESTS, expected_status: 200 };
        let mut body = Vec::new();
        connection.read(&request, &mut |piece| body.extend_from_slice(piece))?;
        ensure!(body == Large::manifest(number), "{path} is {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// The script that makes all rows. Triggers and foreign keys sleep meanwhile: what they would have done is done here.
fn rows() -> String {
    let (blobs, media_type) = (MANIFESTS * BLOBS_EACH, "application/vnd.oci.image");
    format!(
        r#"
SET session_replication_role = replica;
BEGIN;
INSERT INTO repositories (id, name, created_at)
    SELECT n + 1, 'longshore-loadtest/large-' || n, 0 FROM generate_series(0, {REPOSITORIES} - 1) n;
INSERT INTO blobs (id, digest, size, inline, created_at)
    SELECT n + 1, '\x01'::bytea || sha256(content), octet_length(content), content, 0
    FROM (SELECT n, convert_to('blob ' || n, 'UTF8') AS content FROM generate_series(0, {blobs} - 1) n) c;
INSERT INTO manifests
        (id, repository_id, digest, media_type, config_media_type, body, size, pushed_at, untagged_since)
    SELECT m + 1, m % {REPOSITORIES} + 1, '\x01'::bytea || sha256(body), '{media_type}.manifest.v1+json',
        '{media_type}.config.v1+json', body, octet_length(body), 0, CASE WHEN {IS_GARBAGE} THEN 0 END
    FROM (
        SELECT m, convert_to('{{"schemaVersion":2,"mediaType":"{media_type}.manifest.v1+json","config":'
            || min(CASE WHEN n = 0 THEN d END) || ',"layers":[' || string_agg(CASE WHEN n > 0 THEN d END, ',' ORDER BY n)
            || ']}}', 'UTF8') AS body
        FROM (
            SELECT (b.id - 1) / {BLOBS_EACH} AS m, (b.id - 1) % {BLOBS_EACH} AS n,
                '{{"mediaType":"{media_type}.' || CASE WHEN (b.id - 1) % {BLOBS_EACH} = 0 THEN 'config.v1+json'
                    ELSE 'layer.v1.tar+gzip' END
                || '","digest":"sha256:' || encode(substr(b.digest, 2), 'hex') || '","size":' || b.size || '}}' AS d
            FROM blobs b
        ) descriptors GROUP BY m
    ) bodies;
INSERT INTO repository_blobs (repository_id, blob_id, expires_at)
    SELECT n / {BLOBS_EACH} % {REPOSITORIES} + 1, n + 1, 0 FROM generate_series(0, {blobs} - 1) n;
INSERT INTO manifest_blobs (repository_id, manifest_id, blob_id)
    SELECT n / {BLOBS_EACH} % {REPOSITORIES} + 1, n / {BLOBS_EACH} + 1, n + 1 FROM generate_series(0, {blobs} - 1) n;
INSERT INTO tags (repository_id, name, manifest_id, updated_at)
    SELECT m % {REPOSITORIES} + 1, 'tag-' || m, m + 1, 0 FROM generate_series(0, {MANIFESTS} - 1) m
    WHERE NOT ({IS_GARBAGE});
INSERT INTO gc_queue (kind, id1, id2, review_after)
    SELECT 1, m % {REPOSITORIES} + 1, m + 1, 0 FROM generate_series(0, {MANIFESTS} - 1) m;
INSERT INTO gc_queue (kind, id1, id2, review_after)
    SELECT 2, n / {BLOBS_EACH} % {REPOSITORIES} + 1, n + 1, 0 FROM generate_series(0, {blobs} - 1) n;
SELECT setval(pg_get_serial_sequence('repositories', 'id'), {REPOSITORIES}),
    setval(pg_get_serial_sequence('blobs', 'id'), {blobs}),
    setval(pg_get_serial_sequence('manifests', 'id'), {MANIFESTS});
COMMIT;
ANALYZE;
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_kept() {
        for number in [0, 1, REPOSITORIES, MANIFESTS / 2 - 1] {
            let kept = Large::kept(number);
            assert!(kept < MANIFESTS && (kept / 200) % 2 == 1, "{kept}");
        }
        assert_eq!(REPOSITORIES, 200, "the script says so in words of its own");
        assert!(serde_json::from_slice::<serde_json::Value>(&Large::manifest(7)).is_ok());
    }
}
