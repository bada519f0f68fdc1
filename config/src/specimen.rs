//! The specimen: settings in which every optional value is there.
//!
//! Serialised, it is the list of all keys with an example for each; nothing else keeps such a list. A test refuses a
//! specimen with a gap, so a new optional key cannot be forgotten.

use crate::{
    Auth, Azure, ByteSize, Database, DiskCache, Gcs, Http, ImmutableTagsRule, Limits, Metrics, Network, Quota,
    Redirects, RetentionRule, S3, Secret, Settings, Storage, Tls,
};
use longshore_oci::RepositoryPattern;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Defaults where there are any, else a plausible example.
pub(crate) fn specimen() -> Settings {
    Settings {
        http: Http {
            tls: Some(Tls {
                certificate: PathBuf::from("/etc/longshore/tls.crt"),
                key: PathBuf::from("/etc/longshore/tls.key"),
            }),
            proxies: private_network(),
            ..Http::default()
        },
        // Not a URL: it is masked as a whole, which is how a secret key is told from the others.
        database: Database { url: Some(Secret::new("specimen")), ..Database::default() },
        storage: Storage {
            disk_cache: Some(DiskCache { path: PathBuf::from("/var/cache/longshore"), size: ByteSize::mib(50 * 1024) }),
            s3: Some(S3 {
                bucket: "images".to_owned(),
                endpoint: Some("https://s3.example.com".to_owned()),
                prefix: "longshore".to_owned(),
                access_key_id: Some("longshore".to_owned()),
                secret_access_key: Some(Secret::new("specimen")),
                ..S3::default()
            }),
            gcs: Some(Gcs {
                bucket: "images".to_owned(),
                endpoint: Some("https://storage.googleapis.com".to_owned()),
                prefix: "longshore".to_owned(),
                service_account: Some(PathBuf::from("/run/secrets/gcs.json")),
            }),
            azure: Some(Azure {
                account: "longshore".to_owned(),
                container: "images".to_owned(),
                endpoint: Some("https://longshore.blob.core.windows.net".to_owned()),
                prefix: "longshore".to_owned(),
                access_key: Some(Secret::new("specimen")),
            }),
            redirects: Some(Redirects {
                networks: private_network(),
                repositories: models(),
                endpoint: Some("https://s3.example.com".to_owned()),
                ..Redirects::default()
            }),
            ..Storage::default()
        },
        auth: Auth { htpasswd: Some(PathBuf::from("/etc/longshore/htpasswd")), ..Auth::default() },
        limits: Limits { blob_size: Some(ByteSize::mib(10 * 1024)), quotas: quotas(), ..Limits::default() },
        retention: vec![retention_rule()],
        immutable_tags: vec![ImmutableTagsRule {
            name: "releases".to_owned(),
            except_tags: ".*-rc.*".parse().ok(),
            ..ImmutableTagsRule::default()
        }],
        metrics: Metrics { address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9090))), ..Metrics::default() },
        ..Settings::default()
    }
}

fn private_network() -> Vec<Network> {
    "10.0.0.0/8".parse().into_iter().collect()
}

fn quotas() -> Vec<Quota> {
    "team=500GiB".parse().into_iter().collect()
}

fn models() -> Vec<RepositoryPattern> {
    "ml/**".parse().into_iter().collect()
}

fn retention_rule() -> RetentionRule {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    RetentionRule {
        name: "branches".to_owned(),
        except_tags: "main|v.*".parse().ok(),
        keep_last_pushed: Some(10),
        keep_last_pulled: Some(10),
        keep_pushed_within: Some(DAY * 30),
        keep_pulled_within: Some(DAY * 30),
        untagged_after: Some(DAY * 30),
        build_caches: Some(1),
        ..RetentionRule::default()
    }
}
