//! Owns what is told of a replay: latencies, and hits beside those of the caches to compare with.

use std::time::Duration;

use serde_json::{Value, json};

use super::cache::Hits;
use super::entry::{Action, Kind};
use super::replay::{CLASSES, Replayed, Tally};
use crate::markdown;
use crate::proxy::Passed;
use crate::report::{ratio, three_digits};
use crate::scrape::HotCache;

/// A replay with what was seen around it.
pub(super) struct Report {
    pub(super) subject: String,
    pub(super) replayed: Replayed,
    /// Between the server and its object store, meanwhile.
    pub(super) passed: Passed,
    /// The server's own figures, before and after.
    pub(super) hot_cache: Option<(HotCache, HotCache)>,
    /// With its database.
    pub(super) server_cpu: Duration,
    pub(super) peak_bytes: u64,
    /// Blobs up to this size count for no cache.
    pub(super) inline_max: u64,
}

impl Report {
    /// Those of the server, told from behind it: bytes that did not come from its object store, and GETs of blobs for
    /// which no object was begun to be read there.
    fn server_hits(&self) -> Hits {
        let (requests, bytes) = self.replayed.cacheable;
        Hits {
            requests,
            bytes,
            hit_requests: requests.saturating_sub(self.passed.gets_from_start),
            hit_bytes: bytes.saturating_sub(self.passed.received_bytes),
        }
    }

    fn inline_gets(&self) -> u64 {
        let is_it = |(action, kind, _): &&(Action, Kind, &str)| *action == Action::Get && *kind == Kind::Blob;
        let of_all = CLASSES.iter().zip(&self.replayed.tallies).find(|(class, _)| is_it(class));
        of_all.map_or(0, |(_, tally)| tally.latencies.count() - self.replayed.cacheable.0)
    }

    fn caches(&self) -> [(String, Hits); 3] {
        let lru = format!("LRU of {:.0} MiB, whole blobs", self.replayed.lru.capacity as f64 / f64::from(1 << 20));
        [
            (self.subject.clone(), self.server_hits()),
            (lru, self.replayed.lru.hits),
            ("endless cache".to_owned(), self.replayed.endless.hits()),
        ]
    }
}

/// Both tables, as Markdown, and remarks below them.
pub(super) fn text(report: &Report) -> String {
    let seconds = report.replayed.elapsed.as_secs_f64();
    let headings = ["request", "number", "1/s", "MB/s", "p50 ms", "p90 ms", "p99 ms", "max ms"];
    let mut lines = vec![headings.map(str::to_owned).to_vec()];
    for ((.., name), tally) in CLASSES.iter().zip(&report.replayed.tallies) {
        lines.push(line_of(name, tally, seconds));
    }
    let mut text = markdown::table(&lines, &[0]);
    text.push('\n');
    let mut lines = vec![["hits of GETs of blobs", "bytes %", "requests %", "missed GB"].map(str::to_owned).to_vec()];
    for (name, hits) in report.caches() {
        let percent = |part: u64, whole: u64| three_digits(ratio(part as f64 * 100.0, whole as f64));
        lines.push(vec![
            name,
            percent(hits.hit_bytes, hits.bytes),
            percent(hits.hit_requests, hits.requests),
            three_digits(Some((hits.bytes - hits.hit_bytes) as f64 / 1e9)),
        ]);
    }
    text.push_str(&markdown::table(&lines, &[0]));
    text.push('\n');
    for remark in remarks(report) {
        text.push_str(&format!("- {remark}\n"));
    }
    text
}

fn line_of(name: &str, tally: &Tally, seconds: f64) -> Vec<String> {
    let latency = |percent| three_digits(Some(tally.latencies.percentile(percent).as_secs_f64() * 1e3));
    vec![
        name.to_owned(),
        tally.latencies.count().to_string(),
        three_digits(ratio(tally.latencies.count() as f64, seconds)),
        three_digits(ratio(tally.bytes as f64 / 1e6, seconds)),
        latency(50.0),
        latency(90.0),
        latency(99.0),
        latency(100.0),
    ]
}

fn remarks(report: &Report) -> Vec<String> {
    let replayed = &report.replayed;
    let mut remarks = vec![format!(
        "{} requests of the trace in {} s, {} entries passed over, {} failed",
        replayed.lines.requests,
        three_digits(Some(replayed.elapsed.as_secs_f64())),
        replayed.lines.passed_over,
        replayed.failures
    )];
    remarks.extend(replayed.first_failure.as_ref().map(|failure| format!("the first failure: {failure}")));
    if replayed.lags.count() > 0 {
        let lag = |percent| three_digits(Some(replayed.lags.percentile(percent).as_secs_f64() * 1e3));
        remarks.push(format!("requests began late by {} ms (p50), {} ms (p99)", lag(50.0), lag(99.0)));
    }
    if report.inline_max > 0 {
        let (inline, kib) = (report.inline_gets(), report.inline_max >> 10);
        remarks
            .push(format!("{inline} GETs of blobs of up to {kib} KiB are in no hit ratio: they are in the database"));
    }
    remarks.push(format!(
        "{} GETs to the object store, {} of them from an object's first byte",
        report.passed.gets, report.passed.gets_from_start
    ));
    if let Some((before, after)) = report.hot_cache {
        remarks.push(format!(
            "the server says: {} segments read into its hot cache, {} of {} MiB in use",
            after.segments_read - before.segments_read,
            after.bytes >> 20,
            after.capacity_bytes >> 20
        ));
    }
    remarks
}

/// Everything, unrounded, in base units.
pub(super) fn json(report: &Report) -> Value {
    let replayed = &report.replayed;
    let classes = CLASSES.iter().zip(&replayed.tallies).map(|((.., name), tally)| json_of_class(name, tally));
    let hot_cache = report.hot_cache.map(|(before, after)| {
        json!({
            "capacity_bytes": after.capacity_bytes,
            "bytes": after.bytes,
            "segments_read": after.segments_read - before.segments_read,
        })
    });
    let lag = |percent| replayed.lags.percentile(percent).as_secs_f64();
    json!({
        "subject": report.subject,
        "requests": replayed.lines.requests,
        "passed_over": replayed.lines.passed_over,
        "elapsed_seconds": replayed.elapsed.as_secs_f64(),
        "failures": replayed.failures,
        "first_failure": replayed.first_failure,
        "classes": classes.collect::<Vec<_>>(),
        "caches": report.caches().map(json_of_cache),
        "hot_cache": hot_cache,
        "lag_seconds": {"p50": lag(50.0), "p99": lag(99.0), "max": replayed.lags.max().as_secs_f64()},
        "store": {
            "received_bytes": report.passed.received_bytes,
            "sent_bytes": report.passed.sent_bytes,
            "gets": report.passed.gets,
            "gets_from_start": report.passed.gets_from_start,
        },
        "server_cpu_seconds": report.server_cpu.as_secs_f64(),
        "server_peak_bytes": report.peak_bytes,
        "inline_max_bytes": report.inline_max,
        "inline_gets": report.inline_gets(),
    })
}

fn json_of_class(name: &str, tally: &Tally) -> Value {
    let latency = |percent| tally.latencies.percentile(percent).as_secs_f64();
    json!({
        "request": name,
        "count": tally.latencies.count(),
        "bytes": tally.bytes,
        "latency_seconds": {
            "mean": tally.latencies.mean().as_secs_f64(),
            "p50": latency(50.0),
            "p90": latency(90.0),
            "p99": latency(99.0),
            "max": tally.latencies.max().as_secs_f64(),
        },
    })
}

fn json_of_cache((name, hits): (String, Hits)) -> Value {
    json!({
        "cache": name,
        "requests": hits.requests,
        "bytes": hits.bytes,
        "hit_requests": hits.hit_requests,
        "hit_bytes": hits.hit_bytes,
        "hit_ratio_of_requests": ratio(hits.hit_requests as f64, hits.requests as f64),
        "hit_ratio_of_bytes": ratio(hits.hit_bytes as f64, hits.bytes as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Histogram;
    use crate::trace::cache::{EndlessCache, LruCache};
    use crate::trace::stream::Lines;

    fn report() -> Report {
        let tally = |count: u64, bytes| {
            let mut latencies = Histogram::new();
            (1..=count).for_each(|number| latencies.record(Duration::from_millis(number)));
            Tally { latencies, bytes }
        };
        let (mut lru, mut endless) = (LruCache::new(64 << 20), EndlessCache::new());
        for content in [1, 2, 1, 3, 1, 2] {
            lru.get(content, 32_000_000);
            endless.get(content, 32_000_000);
        }
        let hot = |segments_read| HotCache { capacity_bytes: 64 << 20, bytes: 40 << 20, segments_read };
        let mut lags = Histogram::new();
        lags.record(Duration::from_millis(2));
        Report {
            subject: "longshore-s3".to_owned(),
            replayed: Replayed {
                tallies: vec![tally(4, 4000), tally(9, 192_020_000), tally(1, 32_000_000), tally(1, 1000)],
                cacheable: (6, 192_000_000),
                lags,
                failures: 1,
                first_failure: Some("status 503".to_owned()),
                elapsed: Duration::from_secs(2),
                lines: Lines { requests: 16, passed_over: 2 },
                lru,
                endless,
            },
            passed: Passed { received_bytes: 96_000_500, sent_bytes: 33_000_000, gets: 96, gets_from_start: 3 },
            hot_cache: Some((hot(4), hot(100))),
            server_cpu: Duration::from_millis(500),
            peak_bytes: 90 << 20,
            inline_max: 16 << 10,
        }
    }

    #[test]
    fn the_text_is_as_it_was() {
        assert_eq!(text(&report()), include_str!("../../golden/trace-replay.md"));
    }

    #[test]
    fn the_json_is_as_it_was() {
        let json = format!("{:#}\n", json(&report()));

        assert_eq!(json, include_str!("../../golden/trace-replay.json"));
    }
}
