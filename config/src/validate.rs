//! Rules that one key's type cannot express: ranges, and keys that depend on each other.
//!
//! Every message says what to change. None holds a secret.

use crate::database::Scheme;
use crate::retention::{broken_immutable_tags, broken_retention};
use crate::{ByteSize, Gc, Redirects, Settings, Storage, duration};
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A rule that the settings break.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The key to change.
    pub(crate) key: &'static str,
    /// Why, and what to change.
    pub(crate) rule: String,
}

/// Checks everything, in the order of the sections.
pub(crate) fn check(settings: &Settings) -> Vec<Broken> {
    let mut rules = Rules { broken: Vec::new() };
    rules.http(settings);
    rules.database(settings);
    rules.storage(settings);
    rules.auth(settings);
    rules.limits(settings);
    rules.gc(settings);
    rules.tags(settings);
    rules.log_and_metrics(settings);
    rules.broken
}

/// Far beyond any use, and within what databases hold in microseconds.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// How long S3 and Google Cloud Storage let a URL be used at most.
const LONGEST_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

struct Rules {
    broken: Vec<Broken>,
}

impl Rules {
    fn refuse(&mut self, key: &'static str, rule: impl Into<String>) {
        self.broken.push(Broken { key, rule: rule.into() });
    }

    fn within<T: PartialOrd + Display>(&mut self, key: &'static str, value: &T, range: &RangeInclusive<T>) {
        if !range.contains(value) {
            self.refuse(key, format!("{value} is out of range: choose {} to {}", range.start(), range.end()));
        }
    }

    fn at_least(&mut self, key: &'static str, value: Duration, shortest: Duration) {
        if !(shortest..=LONGEST).contains(&value) {
            let (shown, from, to) = (duration::format(value), duration::format(shortest), duration::format(LONGEST));
            self.refuse(key, format!("{shown} is out of range: choose {from} to {to}"));
        }
    }

    fn http(&mut self, settings: &Settings) {
        let http = &settings.http;
        let auth = &settings.auth;
        if is_public(http.address) && auth.htpasswd.is_none() && !auth.open {
            self.refuse(
                "http.address",
                format!(
                    "other machines can reach {}, and nobody would be asked to log in: listen on 127.0.0.1, \
                     or set auth.htpasswd to a file of users, or set auth.open to true to let everyone pull and push",
                    http.address
                ),
            );
        }
        if let Some(tls) = &http.tls {
            let both = "TLS needs http.tls.certificate and http.tls.key: set both, or remove http.tls";
            if tls.certificate.as_os_str().is_empty() {
                self.refuse("http.tls.certificate", format!("missing: {both}"));
            }
            if tls.key.as_os_str().is_empty() {
                self.refuse("http.tls.key", format!("missing: {both}"));
            }
        }
        self.at_least("http.header_timeout", http.header_timeout, Duration::from_millis(100));
        self.at_least("http.idle_timeout", http.idle_timeout, Duration::from_millis(100));
        self.at_least("http.drain_delay", http.drain_delay, Duration::ZERO);
        self.at_least("http.drain_timeout", http.drain_timeout, Duration::ZERO);
        self.within("http.max_connections", &http.max_connections, &(1..=1_000_000));
        if let Some(all) = http.proxies.iter().find(|network| network.is_everything()) {
            self.refuse(
                "http.proxies",
                format!("{all} would believe whatever any client says: name the proxies' own networks"),
            );
        }
    }

    fn database(&mut self, settings: &Settings) {
        let database = &settings.database;
        if let Some(url) = &database.url {
            match Scheme::of(url.expose()) {
                Some(Scheme::Sqlite { path })
                    if path.is_empty() || path.contains(":memory:") || path.contains("mode=memory") =>
                {
                    self.refuse("database.url", "SQLite needs a file: write sqlite:PATH");
                }
                Some(_) => {}
                // The text is not shown: it may be a password that ended up in the wrong variable.
                None => self.refuse(
                    "database.url",
                    "not a known database: write sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE",
                ),
            }
        }
        self.within("database.max_connections", &database.max_connections, &(1..=10_000));
        self.at_least("database.acquire_timeout", database.acquire_timeout, Duration::from_millis(1));
        self.at_least("database.pull_statistics", database.pull_statistics, Duration::ZERO);
    }

    fn storage(&mut self, settings: &Settings) {
        let storage = &settings.storage;
        if storage.path.as_os_str().is_empty() {
            self.refuse("storage.path", "empty: name a directory");
        }
        self.within("storage.inline_max", &storage.inline_max, &(ByteSize::new(0)..=ByteSize::kib(64)));
        self.within("storage.upload_memory", &storage.upload_memory, &(ByteSize::mib(16)..=ByteSize::mib(1024 * 1024)));
        self.disk_cache(storage);
        self.one_object_store(storage);
        if let Some(s3) = &storage.s3 {
            self.named("storage.s3.bucket", &s3.bucket);
            self.named("storage.s3.region", &s3.region);
            self.url("storage.s3.endpoint", s3.endpoint.as_deref());
            let both = "missing: set both storage.s3.access_key_id and storage.s3.secret_access_key, or neither";
            match (&s3.access_key_id, &s3.secret_access_key) {
                (Some(_), None) => self.refuse("storage.s3.secret_access_key", both),
                (None, Some(_)) => self.refuse("storage.s3.access_key_id", both),
                _ => {}
            }
        }
        if let Some(gcs) = &storage.gcs {
            self.named("storage.gcs.bucket", &gcs.bucket);
            self.url("storage.gcs.endpoint", gcs.endpoint.as_deref());
            if gcs.service_account.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                self.refuse("storage.gcs.service_account", "empty: name a file, or remove the key");
            }
        }
        if let Some(azure) = &storage.azure {
            self.named("storage.azure.account", &azure.account);
            self.named("storage.azure.container", &azure.container);
            self.url("storage.azure.endpoint", azure.endpoint.as_deref());
        }
        if let Some(redirects) = &storage.redirects {
            self.redirects(settings, redirects);
        }
    }

    fn redirects(&mut self, settings: &Settings, redirects: &Redirects) {
        let Storage { s3, gcs, azure, .. } = &settings.storage;
        if s3.is_none() && gcs.is_none() && azure.is_none() {
            self.refuse(
                "storage.redirects.networks",
                "there is no object store to send clients to, only files: \
                 name one by storage.s3, storage.gcs or storage.azure, or remove storage.redirects",
            );
        }
        if redirects.networks.is_empty() {
            self.refuse(
                "storage.redirects.networks",
                "missing: name the networks of the clients that are sent to the object store, \
                 0.0.0.0/0 and ::/0 for all",
            );
        }
        if redirects.repositories.is_empty() {
            self.refuse("storage.redirects.repositories", "empty: name some, or remove the key for all of them");
        }
        self.at_least("storage.redirects.lifetime", redirects.lifetime, Duration::from_secs(1));
        let longest = settings.gc.object_delay.min(LONGEST_LIFETIME);
        if redirects.lifetime > longest {
            let (shown, longest) = (duration::format(redirects.lifetime), duration::format(longest));
            self.refuse(
                "storage.redirects.lifetime",
                format!(
                    "{shown} is too long: choose at most {longest}, \
                     for a URL must not outlive the bytes of a deleted object (gc.object_delay), \
                     and no store takes one beyond 7d"
                ),
            );
        }
        self.url("storage.redirects.endpoint", redirects.endpoint.as_deref());
        if gcs.as_ref().is_some_and(|gcs| gcs.endpoint.is_some()) || gcs.is_some() && redirects.endpoint.is_some() {
            self.refuse(
                "storage.redirects.endpoint",
                "contradicts storage.gcs: its signed URLs are for storage.googleapis.com only, \
                 so remove this key and storage.gcs.endpoint, or storage.redirects",
            );
        }
    }

    fn disk_cache(&mut self, storage: &Storage) {
        let Some(disk) = &storage.disk_cache else { return };
        if disk.path.as_os_str().is_empty() {
            self.refuse("storage.disk_cache.path", "missing: name a directory, or remove storage.disk_cache");
        } else if storage.s3.is_none() && storage.gcs.is_none() && storage.azure.is_none() {
            self.refuse(
                "storage.disk_cache.path",
                "keeps what comes from an object store, and objects are files: remove storage.disk_cache, \
                 or set storage.s3, storage.gcs or storage.azure",
            );
        }
        if disk.size == ByteSize::new(0) {
            self.refuse("storage.disk_cache.size", "missing: say how much of the disk it may take");
        } else {
            let (least, most) = (ByteSize::mib(64), ByteSize::mib(1024 * 1024 * 1024));
            self.within("storage.disk_cache.size", &disk.size, &(least..=most));
        }
    }

    fn one_object_store(&mut self, storage: &Storage) {
        let first = if storage.s3.is_some() { "storage.s3" } else { "storage.gcs" };
        let contradiction = format!("contradicts {first}: objects lie in one place, so remove one of the two");
        if storage.gcs.is_some() && storage.s3.is_some() {
            self.refuse("storage.gcs.bucket", &*contradiction);
        }
        if storage.azure.is_some() && (storage.s3.is_some() || storage.gcs.is_some()) {
            self.refuse("storage.azure.container", contradiction);
        }
    }

    fn named(&mut self, key: &'static str, name: &str) {
        if name.is_empty() {
            self.refuse(key, "missing: without it there is no object store");
        }
    }

    fn url(&mut self, key: &'static str, url: Option<&str>) {
        if url.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            self.refuse(key, "not a URL: it begins with http:// or https://");
        }
    }

    fn auth(&mut self, settings: &Settings) {
        let auth = &settings.auth;
        match &auth.htpasswd {
            Some(path) if path.as_os_str().is_empty() => {
                self.refuse("auth.htpasswd", "empty: name a file of users, or remove the key");
            }
            Some(_) if auth.open => self.refuse("auth.open", "contradicts auth.htpasswd: remove one of the two"),
            _ => {}
        }
        // The realm stands in quotes in a response header.
        let fits_a_header = |c: char| (c.is_ascii_graphic() || c == ' ') && c != '"' && c != '\\';
        if auth.realm.is_empty() || !auth.realm.chars().all(fits_a_header) {
            self.refuse("auth.realm", "must be printable ASCII without quotes and backslashes, and not empty");
        }
    }

    fn limits(&mut self, settings: &Settings) {
        let limits = &settings.limits;
        self.within("limits.manifest_size", &limits.manifest_size, &(ByteSize::mib(4)..=ByteSize::mib(64)));
        if limits.blob_size == Some(ByteSize::new(0)) {
            self.refuse("limits.blob_size", "0 would refuse every blob: choose at least 1, or null for no limit");
        }
        self.within("limits.page_size", &limits.page_size, &(1..=100_000));
        self.within("limits.ranges", &limits.ranges, &(1..=10_000));
        self.within("limits.tags_per_push", &limits.tags_per_push, &(1..=1_000));
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = limits.quotas.iter().find(|quota| !seen.insert(&quota.namespace)) {
            self.refuse("limits.quotas", format!("{twice} is a second quota of the same namespace: write one"));
        }
    }

    fn gc(&mut self, settings: &Settings) {
        let gc = &settings.gc;
        self.at_least("gc.interval", gc.interval, Duration::from_millis(10));
        self.at_least("gc.promise", gc.promise, Duration::from_secs(1));
        self.at_least("gc.upload_expiry", gc.upload_expiry, Duration::from_secs(1));
        self.at_least("gc.object_delay", gc.object_delay, Duration::ZERO);
        self.at_least("gc.undo", gc.undo, Duration::ZERO);
        self.tag_history(gc);
        self.within("gc.breaker", &gc.breaker, &(1..=100));
        self.at_least("gc.retention_interval", gc.retention_interval, Duration::from_millis(10));
        self.within("gc.tag_breaker", &gc.tag_breaker, &(1..=100));
        self.within("gc.share", &gc.share, &(1..=100));
        self.at_least("gc.scrub_period", gc.scrub_period, Duration::ZERO);
        self.within("gc.scrub_rate", &gc.scrub_rate, &(Gc::SLOWEST_SCRUB..=ByteSize::new(1 << 40)));
    }

    fn tag_history(&mut self, gc: &Gc) {
        self.at_least("gc.tag_history", gc.tag_history, Duration::ZERO);
        if gc.tag_history < gc.undo {
            let (shown, undo) = (duration::format(gc.tag_history), duration::format(gc.undo));
            self.refuse(
                "gc.tag_history",
                format!(
                    "{shown} is too short: choose at least {undo}, \
                     for what a tag named must be known for as long as it can be brought back (gc.undo)"
                ),
            );
        }
    }

    fn tags(&mut self, settings: &Settings) {
        for rule in broken_retention(settings) {
            self.refuse("retention", rule);
        }
        for rule in broken_immutable_tags(settings) {
            self.refuse("immutable_tags", rule);
        }
    }

    fn log_and_metrics(&mut self, settings: &Settings) {
        if settings.log.level.trim().is_empty() {
            self.refuse("log.level", "empty: write a level such as info");
        }
        let address = settings.http.address;
        if address.port() != 0 && settings.metrics.address == Some(address) {
            self.refuse(
                "metrics.address",
                "is the main listener's address: choose another port, or remove the key to serve /metrics there",
            );
        }
    }
}

/// Whether other machines may reach a listener on this address.
fn is_public(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}
