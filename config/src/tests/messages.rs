//! Every message about a file or a flag, word by word.

use super::{SettingsFile, owned};
use crate::{Settings, Sources};
use std::path::Path;

#[track_caller]
fn assert_complaint(yaml: &str, expected: &str) {
    assert_eq!(SettingsFile::new(yaml).complaint(), expected);
}

#[test]
fn unknown_keys() {
    assert_complaint(
        "# a comment\nhttp:\n  adress: 127.0.0.1:5000\n",
        "longshore.yaml:3:3: unknown key \"http.adress\": did you mean \"http.address\"?",
    );
    assert_complaint("htpp:\n  address: x\n", "longshore.yaml:1:1: unknown key \"htpp\": did you mean \"http\"?");
    assert_complaint("address: x\n", "longshore.yaml:1:1: unknown key \"address\": did you mean \"http.address\"?");
    assert_complaint(
        "storage:\n  ceph: {}\n",
        "longshore.yaml:2:3: unknown key \"storage.ceph\": \
         the keys of storage are azure, cache_size, disk_cache, gcs, inline_max, path, redirects, s3, upload_memory",
    );
    assert_complaint(
        "redis: {}\n",
        "longshore.yaml:1:1: unknown key \"redis\": \
         the sections are auth, database, gc, http, immutable_tags, limits, log, manifests, metrics, retention, storage",
    );
    assert_complaint(
        "http.address: 127.0.0.1:5000\n",
        "longshore.yaml:1:1: unknown key \"http.address\": \
         dots do not nest: write the section, then its key indented below",
    );
}

#[test]
fn duplicate_keys() {
    assert_complaint(
        "log:\n  level: info\n  access: true\n  level: debug\n",
        "longshore.yaml:4:3: duplicate key \"log.level\": already set in line 2",
    );
    assert_complaint("log: {}\ngc: {}\nlog: {}\n", "longshore.yaml:3:1: duplicate key \"log\": already set in line 1");
}

#[test]
fn wrong_values() {
    let cases = [
        (
            "http: { max_connections: many }",
            "1:26: http.max_connections: \"many\" is not a whole number, for example 10000",
        ),
        (
            "http: { max_connections: -1 }",
            "1:26: http.max_connections: \"-1\" is not a whole number, for example 10000",
        ),
        (
            "http: { max_connections: '10' }",
            "1:26: http.max_connections: \"10\" is text: write it without quotes, for example 10000",
        ),
        ("auth: { open: yes }", "1:15: auth.open: \"yes\" is neither true nor false, for example false"),
        (
            "http: { address: localhost:5000 }",
            "1:18: http.address: \"localhost:5000\" is not an IP address with a port \
             (0.0.0.0 and [::] mean every interface), for example \"127.0.0.1:5000\"",
        ),
        (
            "metrics: { address: 9090 }",
            "1:21: metrics.address: \"9090\" is not an IP address with a port \
             (0.0.0.0 and [::] mean every interface), for example \"127.0.0.1:9090\"",
        ),
        ("gc: { promise: 60 }", "1:16: gc.promise: \"60\" has no unit: add d, h, m, s or ms, for example \"24h\""),
        (
            "gc: { promise: 30m1h }",
            "1:16: gc.promise: \"30m1h\" is not a duration: \
             write whole numbers with d, h, m, s or ms, largest first, for example \"24h\"",
        ),
        (
            "gc: { promise: 99999999999999999d }",
            "1:16: gc.promise: \"99999999999999999d\" is too long, for example \"24h\"",
        ),
        (
            "storage: { inline_max: 16K }",
            "1:24: storage.inline_max: \"16K\" is not a size: write bytes, or a whole number with \
             kB, KiB, MB, MiB, GB, GiB, TB or TiB, for example \"16KiB\"",
        ),
        (
            "limits: { blob_size: 99999999TiB }",
            "1:22: limits.blob_size: \"99999999TiB\" is beyond 16 EiB, for example \"10GiB\"",
        ),
        (
            "manifests: { sparse_indexes: maybe }",
            "1:30: manifests.sparse_indexes: unknown variant `maybe`, expected `refuse` or `allow`, for example \"refuse\"",
        ),
        ("log: { level: }", "1:13: log.level: no value: write one, or remove the key, for example \"info\""),
        ("log: { level: [info] }", "1:15: log.level: expected one value, found a list, for example \"info\""),
        ("log: { level: { a: b } }", "1:15: log.level: expected one value, found keys below it, for example \"info\""),
        ("limits: { page_size: 5000000000 }", "1:22: limits.page_size: 5000000000 is too large, for example 10000"),
        (
            "database: { url: { path: /x } }",
            "1:18: database.url: expected a text, or the single key \"file\" with a path, \
             for example { file: /run/secrets/NAME }",
        ),
        (
            "storage: /srv",
            "1:10: storage is a section: \
             set one of its keys (azure, cache_size, disk_cache, gcs, inline_max, path, redirects, s3, upload_memory)",
        ),
        (
            "http: { proxies: [10.0.0.0/8, 10.0.0.0/33] }",
            "1:18: http.proxies: \"10.0.0.0/33\" is not a network: its addresses have 32 bits, \
             for example [\"10.0.0.0/8\"]",
        ),
        (
            "http: { proxies: ['10.0.0.0/8,'] }",
            "1:18: http.proxies: \"10.0.0.0/8,\" is not a network: \
             write an address and a prefix, such as 10.0.0.0/8 or 2001:db8::/32, for example [\"10.0.0.0/8\"]",
        ),
        (
            "http: { proxies: [[10.0.0.0/8]] }",
            "1:19: http.proxies: an element of the list is no single value, for example [\"10.0.0.0/8\"]",
        ),
        (
            "http: { proxies: { a: b } }",
            "1:18: http.proxies: expected a list, found keys below it, for example [\"10.0.0.0/8\"]",
        ),
        (
            "http: { client_header: X-Real-IP }",
            "1:24: http.client_header: unknown variant `X-Real-IP`, expected `x-forwarded-for` or `forwarded`, \
             for example \"x-forwarded-for\"",
        ),
        (
            "storage: { redirects: { repositories: [ML/*] } }",
            "1:39: storage.redirects.repositories: repository pattern `ML/*` is invalid: \
             no repository has such a name: \
             use lower-case letters, digits, `.`, `_`, `-` and `/` only, not 'M', for example [\"ml/**\"]",
        ),
        ("http: { tls: true }", "1:14: http.tls is a section: set one of its keys (certificate, key)"),
    ];
    for (yaml, expected) in cases {
        assert_complaint(yaml, &format!("longshore.yaml:{expected}"));
    }
}

#[test]
fn yaml_that_is_not_taken() {
    assert_complaint("- http\n", "longshore.yaml:1:1: expected sections such as \"http:\", found something else");
    assert_complaint("http\n", "longshore.yaml:1:1: expected sections such as \"http:\", found something else");
    assert_complaint("log: {}\n---\ngc: {}\n", "longshore.yaml:2:1: a second document: settings are one document");
    assert_complaint(
        "gc: { interval: &a 5s, promise: *a }\n",
        "longshore.yaml:1:33: aliases are not supported: write the value again, or in quotes if it begins with *",
    );
    assert_complaint(
        "log: { level: !custom info }\n",
        "longshore.yaml:1:23: the tag !custom is not supported: write the plain value",
    );
    assert_complaint("? [a]\n: b\n", "longshore.yaml:1:3: a key must be a single word");
    let deep = format!("log: {}{}\n", "[".repeat(40), "]".repeat(40));
    assert_complaint(&deep, "longshore.yaml:1:22: nested too deeply");
}

#[test]
fn broken_yaml_names_its_line() {
    for (yaml, line) in
        [("log: {\n", "1:"), ("http:\n\taddress: x\n", "2:"), ("a: b: c\n", "1:"), ("log: 'info\n", "1:")]
    {
        let complaint = SettingsFile::new(yaml).complaint();
        assert!(complaint.starts_with(&format!("longshore.yaml:{line}")), "{complaint}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let file = SettingsFile::new("http:\n  adress: x\n  idle_timeout: 5\nlogs:\n  level: info\n");
    let environment = [("LONGSHORE_GC__PROMISE", "soon")];
    let error = file.load(&environment, &[("log.access", "perhaps")]).unwrap_err();
    let shown = error.to_string();
    let lines: Vec<&str> = shown.lines().map(|line| line.rsplit('/').next().unwrap_or(line)).collect();
    assert_eq!(
        lines,
        [
            "longshore.yaml:2:3: unknown key \"http.adress\": did you mean \"http.address\"?",
            "longshore.yaml:3:17: http.idle_timeout: \"5\" has no unit: add d, h, m, s or ms, for example \"1m\"",
            "longshore.yaml:4:1: unknown key \"logs\": did you mean \"log\"?",
            "environment LONGSHORE_GC__PROMISE: gc.promise: \"soon\" is not a duration: \
             write whole numbers with d, h, m, s or ms, largest first, for example \"24h\"",
            "flag: log.access: \"perhaps\" is neither true nor false, for example true",
        ]
    );
    assert_eq!(error.problems.len(), 5);
}

#[test]
fn flags() {
    let complaint = |key: &str, value: &str| {
        Settings::load(Sources { flags: owned(&[(key, value)]), ..Sources::default() }).unwrap_err().to_string()
    };
    assert_eq!(complaint("log.levl", "info"), "flag: unknown key \"log.levl\": did you mean \"log.level\"?");
    assert_eq!(
        complaint("storage", "/srv"),
        "flag: storage is a section: \
         set one of its keys (azure, cache_size, disk_cache, gcs, inline_max, path, redirects, s3, upload_memory)"
    );
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources { file: Some(Path::new("/nowhere/longshore.yaml")), ..Sources::default() };
    assert_eq!(
        Settings::load(sources).unwrap_err().to_string(),
        "/nowhere/longshore.yaml: cannot read the settings file: No such file or directory (os error 2)"
    );
}
