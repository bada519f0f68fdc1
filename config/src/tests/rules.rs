//! Ranges, and rules between keys.

use super::SettingsFile;
use crate::Settings;

#[track_caller]
fn assert_complaint(yaml: &str, expected: &str) {
    assert_eq!(SettingsFile::new(yaml).complaint(), expected);
}

#[track_caller]
fn assert_accepted(yaml: &str) {
    let loaded = SettingsFile::new(yaml).load(&[], &[]);
    assert!(loaded.is_ok(), "{}", loaded.unwrap_err());
}

#[test]
fn a_public_address_needs_a_decision_on_logins() {
    for address in ["0.0.0.0:5000", "'[::]:5000'", "10.0.0.1:5000", "'[::ffff:10.0.0.1]:5000'"] {
        let shown = address.trim_matches('\'');
        assert_complaint(
            &format!("http: {{ address: {address} }}"),
            &format!(
                "longshore.yaml:1:18: http.address: other machines can reach {shown}, and nobody would be asked to log in: \
                 listen on 127.0.0.1, or set auth.htpasswd to a file of users, \
                 or set auth.open to true to let everyone pull and push"
            ),
        );
        assert_accepted(&format!("http: {{ address: {address} }}\nauth: {{ open: true }}"));
        assert_accepted(&format!("http: {{ address: {address} }}\nauth: {{ htpasswd: /etc/users }}"));
    }
    for address in ["127.0.0.1:5000", "127.9.9.9:1", "'[::1]:5000'", "'[::ffff:127.0.0.1]:5000'"] {
        assert_accepted(&format!("http: {{ address: {address} }}"));
    }
}

#[test]
fn logins() {
    assert_complaint(
        "auth: { open: true, htpasswd: /etc/users }",
        "longshore.yaml:1:15: auth.open: contradicts auth.htpasswd: remove one of the two",
    );
    assert_complaint(
        "auth: { htpasswd: '' }",
        "longshore.yaml:1:19: auth.htpasswd: empty: name a file of users, or remove the key",
    );
    for realm in ["''", "'a\"b'", "'a\\b'", "\"a\\nb\"", "Käse"] {
        assert_complaint(
            &format!("auth: {{ realm: {realm} }}"),
            "longshore.yaml:1:16: auth.realm: must be printable ASCII without quotes and backslashes, and not empty",
        );
    }
}

#[test]
fn tls_needs_both_files() {
    let both = "missing: TLS needs http.tls.certificate and http.tls.key: set both, or remove http.tls";
    assert_complaint("http: { tls: { certificate: a.pem } }", &format!("http.tls.key: {both}"));
    assert_complaint("http: { tls: { key: a.pem } }", &format!("http.tls.certificate: {both}"));
}

#[test]
fn sizes_and_counts_have_ranges() {
    let cases = [
        ("limits: { manifest_size: 1MiB }", "1:26: limits.manifest_size: 1MiB is out of range: choose 4MiB to 64MiB"),
        ("limits: { manifest_size: 65MiB }", "1:26: limits.manifest_size: 65MiB is out of range: choose 4MiB to 64MiB"),
        ("storage: { inline_max: 65KiB }", "1:24: storage.inline_max: 65KiB is out of range: choose 0 to 64KiB"),
        (
            "limits: { blob_size: 0 }",
            "1:22: limits.blob_size: 0 would refuse every blob: choose at least 1, or null for no limit",
        ),
        ("limits: { page_size: 0 }", "1:22: limits.page_size: 0 is out of range: choose 1 to 100000"),
        ("limits: { page_size: 100001 }", "1:22: limits.page_size: 100001 is out of range: choose 1 to 100000"),
        ("limits: { ranges: 0 }", "1:19: limits.ranges: 0 is out of range: choose 1 to 10000"),
        ("limits: { tags_per_push: 0 }", "1:26: limits.tags_per_push: 0 is out of range: choose 1 to 1000"),
        (
            "limits: { quotas: [team=1GiB, team=2GiB] }",
            "1:19: limits.quotas: team=2GiB is a second quota of the same namespace: write one",
        ),
        ("http: { max_connections: 0 }", "1:26: http.max_connections: 0 is out of range: choose 1 to 1000000"),
        ("gc: { scrub_rate: 63KiB }", "1:19: gc.scrub_rate: 63KiB is out of range: choose 64KiB to 1TiB"),
        ("database: { max_connections: 0 }", "1:30: database.max_connections: 0 is out of range: choose 1 to 10000"),
    ];
    for (yaml, expected) in cases {
        assert_complaint(yaml, &format!("longshore.yaml:{expected}"));
    }
    assert_accepted("limits: { manifest_size: 64MiB, page_size: 1 }\nstorage: { inline_max: 64KiB }");
    assert_accepted("gc: { scrub_rate: 64KiB }");
}

#[test]
fn durations_have_ranges() {
    let cases = [
        ("gc: { promise: 999ms }", "1:16: gc.promise: 999ms is out of range: choose 1s to 3650d"),
        ("gc: { promise: 3651d }", "1:16: gc.promise: 3651d is out of range: choose 1s to 3650d"),
        ("gc: { interval: 0s }", "1:17: gc.interval: 0s is out of range: choose 10ms to 3650d"),
        ("gc: { upload_expiry: 0s }", "1:22: gc.upload_expiry: 0s is out of range: choose 1s to 3650d"),
        ("gc: { object_delay: 4000d }", "1:21: gc.object_delay: 4000d is out of range: choose 0s to 3650d"),
        ("gc: { tag_history: 4000d }", "1:20: gc.tag_history: 4000d is out of range: choose 0s to 3650d"),
        ("http: { idle_timeout: 0s }", "1:23: http.idle_timeout: 0s is out of range: choose 100ms to 3650d"),
        ("http: { header_timeout: 0s }", "1:25: http.header_timeout: 0s is out of range: choose 100ms to 3650d"),
        ("http: { drain_delay: 4000d }", "1:22: http.drain_delay: 4000d is out of range: choose 0s to 3650d"),
        ("http: { drain_timeout: 4000d }", "1:24: http.drain_timeout: 4000d is out of range: choose 0s to 3650d"),
        (
            "database: { pull_statistics: 4000d }",
            "1:30: database.pull_statistics: 4000d is out of range: choose 0s to 3650d",
        ),
        (
            "database: { acquire_timeout: 0s }",
            "1:30: database.acquire_timeout: 0s is out of range: choose 1ms to 3650d",
        ),
    ];
    for (yaml, expected) in cases {
        assert_complaint(yaml, &format!("longshore.yaml:{expected}"));
    }
}

#[test]
fn databases() {
    let unknown = "not a known database: write sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE";
    for url in ["mysql://u:hunter2@db/x", "hunter2", "postgres:hunter2"] {
        assert_complaint(
            &format!("database: {{ url: '{url}' }}"),
            &format!("longshore.yaml:1:18: database.url: {unknown}"),
        );
    }
    for url in ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite:x.db?mode=memory"] {
        assert_complaint(
            &format!("database: {{ url: '{url}' }}"),
            "longshore.yaml:1:18: database.url: SQLite needs a file: write sqlite:PATH",
        );
    }
    for url in ["sqlite:x.db", "sqlite:///var/x.db", "postgres://db/x", "postgresql://u:p@db/x"] {
        assert_accepted(&format!("database: {{ url: '{url}' }}"));
    }
}

#[test]
fn object_stores_are_named_in_full() {
    let missing = "missing: without it there is no object store";
    assert_complaint("storage: { s3: { prefix: x } }", &format!("storage.s3.bucket: {missing}"));
    assert_complaint("storage: { gcs: { prefix: x } }", &format!("storage.gcs.bucket: {missing}"));
    assert_complaint("storage: { azure: { account: x } }", &format!("storage.azure.container: {missing}"));
    assert_complaint("storage: { azure: { container: x } }", &format!("storage.azure.account: {missing}"));
    assert_complaint(
        "storage: { s3: { bucket: x, access_key_id: y } }",
        "storage.s3.secret_access_key: missing: \
         set both storage.s3.access_key_id and storage.s3.secret_access_key, or neither",
    );
    assert_complaint(
        "storage: { gcs: { bucket: x, service_account: '' } }",
        "longshore.yaml:1:47: storage.gcs.service_account: empty: name a file, or remove the key",
    );
    let not_a_url = "not a URL: it begins with http:// or https://";
    for (yaml, expected) in [
        ("storage: { s3: { bucket: x, endpoint: y } }", "1:39: storage.s3.endpoint"),
        ("storage: { gcs: { bucket: x, endpoint: y } }", "1:40: storage.gcs.endpoint"),
        ("storage: { azure: { account: x, container: x, endpoint: y } }", "1:57: storage.azure.endpoint"),
    ] {
        assert_complaint(yaml, &format!("longshore.yaml:{expected}: {not_a_url}"));
    }
    assert_accepted("storage: { s3: { bucket: x } }");
    assert_accepted("storage: { gcs: { bucket: x, service_account: key.json } }");
    assert_accepted("storage: { azure: { account: x, container: y, access_key: z } }");
}

#[test]
fn a_disk_cache_is_named_in_full_and_in_front_of_an_object_store() {
    let s3 = "s3: { bucket: x }";
    for (yaml, expected) in [
        (
            format!("{s3}, disk_cache: {{ size: 1GiB }}"),
            "storage.disk_cache.path: missing: name a directory, or remove storage.disk_cache",
        ),
        (
            format!("{s3}, disk_cache: {{ path: x }}"),
            "storage.disk_cache.size: missing: say how much of the disk it may take",
        ),
        (
            format!("{s3}, disk_cache: {{ path: x, size: 63MiB }}"),
            "longshore.yaml:1:60: storage.disk_cache.size: 63MiB is out of range: choose 64MiB to 1024TiB",
        ),
        (
            "disk_cache: { path: x, size: 1GiB }".to_owned(),
            "longshore.yaml:1:32: storage.disk_cache.path: keeps what comes from an object store, and objects are files: \
             remove storage.disk_cache, or set storage.s3, storage.gcs or storage.azure",
        ),
    ] {
        assert_complaint(&format!("storage: {{ {yaml} }}"), expected);
    }
    assert_accepted(&format!("storage: {{ {s3}, disk_cache: {{ path: x, size: 64MiB }} }}"));
    assert_accepted("storage: { disk_cache: null }");
}

#[test]
fn objects_lie_in_one_place() {
    let why = "objects lie in one place, so remove one of the two";
    let (s3, gcs, azure) = ("s3: { bucket: x }", "gcs: { bucket: x }", "azure: { account: x, container: y }");
    for (yaml, expected) in [
        (format!("{s3}, {gcs}"), format!("1:46: storage.gcs.bucket: contradicts storage.s3: {why}")),
        (format!("{s3}, {azure}"), format!("1:63: storage.azure.container: contradicts storage.s3: {why}")),
        (format!("{gcs}, {azure}"), format!("1:64: storage.azure.container: contradicts storage.gcs: {why}")),
    ] {
        assert_complaint(&format!("storage: {{ {yaml} }}"), &format!("longshore.yaml:{expected}"));
    }
    assert_accepted(&format!("storage: {{ {s3}, gcs: null, azure: null }}"));
}

#[test]
fn redirects_need_a_store_and_somebody_to_send_there() {
    let of = |rest: &str, redirects: &str| format!("storage: {{ {rest} redirects: {{ {redirects} }} }}");
    let (s3, net) = ("s3: { bucket: x },", "networks: [10.0.0.0/8]");
    assert_complaint(
        &of("", net),
        "longshore.yaml:1:36: storage.redirects.networks: there is no object store to send clients to, only files: \
         name one by storage.s3, storage.gcs or storage.azure, or remove storage.redirects",
    );
    assert_complaint(
        &of(s3, "lifetime: 1m"),
        "storage.redirects.networks: missing: \
         name the networks of the clients that are sent to the object store, 0.0.0.0/0 and ::/0 for all",
    );
    assert_complaint(
        &of(s3, &format!("{net}, repositories: []")),
        "longshore.yaml:1:82: storage.redirects.repositories: empty: name some, or remove the key for all of them",
    );
    assert_complaint(
        &of(s3, &format!("{net}, endpoint: s3.example.com")),
        "longshore.yaml:1:78: storage.redirects.endpoint: not a URL: it begins with http:// or https://",
    );
    let google = "storage.redirects.endpoint: contradicts storage.gcs: \
                  its signed URLs are for storage.googleapis.com only, \
                  so remove this key and storage.gcs.endpoint, or storage.redirects";
    assert_complaint(&of("gcs: { bucket: x, endpoint: 'http://x' },", net), google);
    assert_complaint(
        &of("gcs: { bucket: x },", &format!("{net}, endpoint: 'http://x'")),
        &format!("longshore.yaml:1:79: {google}"),
    );
    for store in [s3, "gcs: { bucket: x },", "azure: { account: x, container: y },"] {
        assert_accepted(&of(store, net));
    }
    assert_accepted(&of(
        s3,
        "networks: [0.0.0.0/0, '::/0'], repositories: ['**'], from_size: 0, endpoint: 'https://s3'",
    ));
    assert_accepted("storage: { redirects: null }");
}

#[test]
fn a_redirect_does_not_outlive_the_bytes() {
    let complaint = |gc: &str, lifetime: &str| {
        let storage = format!("s3: {{ bucket: x }}, redirects: {{ networks: ['::/0'], lifetime: {lifetime} }}");
        SettingsFile::new(&format!("storage: {{ {storage} }}\ngc: {{ object_delay: {gc} }}")).load(&[], &[]).err()
    };
    let text = |gc, lifetime| complaint(gc, lifetime).unwrap().to_string().split_once(": ").unwrap().1.to_owned();
    let why =
        "for a URL must not outlive the bytes of a deleted object (gc.object_delay), and no store takes one beyond 7d";
    assert_eq!(text("1h", "61m"), format!("storage.redirects.lifetime: 1h1m is too long: choose at most 1h, {why}"));
    assert_eq!(text("30d", "8d"), format!("storage.redirects.lifetime: 8d is too long: choose at most 7d, {why}"));
    assert_eq!(text("1h", "999ms"), "storage.redirects.lifetime: 999ms is out of range: choose 1s to 3650d");
    assert!(complaint("1h", "1h").is_none() && complaint("30d", "7d").is_none());
    assert_eq!(
        text("10m", "20m"),
        format!("storage.redirects.lifetime: 20m is too long: choose at most 10m, {why}"),
        "the default needs as much as any other"
    );
}

#[test]
fn the_past_of_a_tag_is_known_for_as_long_as_it_can_be_brought_back() {
    let why = "for what a tag named must be known for as long as it can be brought back (gc.undo)";
    assert_complaint(
        "gc: { tag_history: 6d }",
        &format!("longshore.yaml:1:20: gc.tag_history: 6d is too short: choose at least 7d, {why}"),
    );
    let long_undo = SettingsFile::new("gc: { undo: 400d }").load(&[], &[]).unwrap_err().to_string();
    let expected = format!("gc.tag_history: 365d is too short: choose at least 400d, {why}");
    assert!(long_undo.ends_with(&expected), "the default needs as much as any other: {long_undo}");
    assert_accepted("gc: { tag_history: 7d }");
    assert_accepted("gc: { undo: 0s, tag_history: 0s }");
}

#[test]
fn not_everybody_is_a_proxy() {
    for all in ["0.0.0.0/0", "::/0"] {
        assert_complaint(
            &format!("http: {{ proxies: [10.0.0.0/8, '{all}'] }}"),
            &format!(
                "longshore.yaml:1:18: http.proxies: {all} would believe whatever any client says: \
                 name the proxies' own networks"
            ),
        );
    }
    assert_accepted("http: { proxies: [10.0.0.0/8, 'fd00::/8', 192.0.2.1] }");
}

#[test]
fn the_rest() {
    assert_complaint("storage: { path: '' }", "longshore.yaml:1:18: storage.path: empty: name a directory");
    assert_complaint("log: { level: '' }", "longshore.yaml:1:15: log.level: empty: write a level such as info");
    assert_complaint(
        "metrics: { address: 127.0.0.1:5000 }",
        "longshore.yaml:1:21: metrics.address: is the main listener's address: \
         choose another port, or remove the key to serve /metrics there",
    );
}

#[test]
fn settings_made_in_code_are_checked_as_well() {
    let mut settings = Settings::default();
    assert!(settings.validate().is_ok());
    settings.limits.page_size = 0;
    settings.storage.path = "".into();
    assert_eq!(
        settings.validate().unwrap_err().to_string(),
        "storage.path: empty: name a directory\nlimits.page_size: 0 is out of range: choose 1 to 100000"
    );
}
