//! `database`: which metadata database, and how many connections to it.

use crate::secret::MASK;
use crate::{ByteSize, Secret, duration};
use serde::{Deserialize, Serialize, Serializer};
use std::time::Duration;

/// The metadata database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:PATH` or `postgres://...`; none: SQLite in `storage.path`. See [`crate::Settings::database_url`].
    ///
    /// Serialises with its password masked; `Debug` shows nothing of it.
    #[serde(serialize_with = "serialize_masked")]
    pub url: Option<Secret>,
    /// Connections that one replica opens at most. Default 16.
    pub max_connections: u32,
    /// How long a request waits for a free connection before it fails. Default 5 s.
    #[serde(with = "duration")]
    pub acquire_timeout: Duration,
    /// Memory for what is read most: manifests, tags, small blobs. Default 32 MiB; 0 keeps nothing.
    pub cache_size: ByteSize,
    /// How often pull statistics are written. Default 60 s; 0 s counts nothing.
    #[serde(with = "duration")]
    pub pull_statistics: Duration,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            max_connections: 16,
            acquire_timeout: Duration::from_secs(5),
            cache_size: ByteSize::mib(32),
            pull_statistics: Duration::from_secs(60),
        }
    }
}

/// The databases that there are, as their URLs tell them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scheme<'url> {
    Sqlite { path: &'url str },
    Postgres,
}

impl<'url> Scheme<'url> {
    pub(crate) fn of(url: &'url str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        match scheme {
            "sqlite" => Some(Self::Sqlite { path: rest.strip_prefix("//").unwrap_or(rest) }),
            "postgres" | "postgresql" if rest.starts_with("//") => Some(Self::Postgres),
            _ => None,
        }
    }
}

fn serialize_masked<S: Serializer>(url: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_ref().map(|url| masked(url.expose())).serialize(serializer)
}

/// The URL with its password masked; what is no database URL is masked as a whole.
///
/// Masks too much rather than too little: a password that should have been percent-encoded may hold `@`, `/` or `?`.
pub(crate) fn masked(url: &str) -> String {
    match Scheme::of(url) {
        Some(Scheme::Sqlite { .. }) => url.to_owned(),
        Some(Scheme::Postgres) => mask_query_password(&mask_user_password(url)),
        None => MASK.to_owned(),
    }
}

/// `postgres://user:PASSWORD@host`: from the first colon after the scheme to the last `@`.
fn mask_user_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("//") else {
        return url.to_owned();
    };
    let Some((user_and_password, host)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    match user_and_password.split_once(':') {
        Some((user, _)) => format!("{scheme}//{user}:{MASK}@{host}"),
        None => url.to_owned(),
    }
}

/// `?password=PASSWORD`, `&sslpassword=PASSWORD`: libpq takes passwords there as well.
fn mask_query_password(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let mut parameters = Vec::new();
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("password") => {
                parameters.push(format!("{name}={MASK}"));
            }
            _ => parameters.push(parameter.to_owned()),
        }
    }
    format!("{base}?{}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_of_a_url_is_masked() {
        let cases = [
            ("postgres://longshore:hunter2@db:5432/longshore", "postgres://longshore:********@db:5432/longshore"),
            ("postgresql://u:hunter2@db/x?sslmode=require", "postgresql://u:********@db/x?sslmode=require"),
            ("postgres://u@db/x", "postgres://u@db/x"),
            ("postgres://db:5432/x", "postgres://db:5432/x"),
            ("postgres://db/x?user=u&password=hunter2", "postgres://db/x?user=u&password=********"),
            ("postgres://u:hunter2@db/x?sslpassword=hunter2", "postgres://u:********@db/x?sslpassword=********"),
            ("sqlite:/var/lib/longshore/longshore.db", "sqlite:/var/lib/longshore/longshore.db"),
        ];
        for (url, shown) in cases {
            assert_eq!(masked(url), shown);
        }
    }

    #[test]
    fn a_password_that_was_not_encoded_is_masked_whole() {
        for url in ["postgres://u:hun@ter2@db/x", "postgres://u:hun/ter2@db/x", "postgres://u:hun?ter2@db/x"] {
            assert_eq!(masked(url), "postgres://u:********@db/x");
        }
    }

    #[test]
    fn what_is_no_url_is_masked_whole() {
        for text in ["hunter2", "postgres:hunter2", "mysql://u:hunter2@db/x", ""] {
            assert_eq!(masked(text), MASK);
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_url() {
        let database = Database { url: Some(Secret::new("postgres://u:hunter2@db/x")), ..Database::default() };
        let shown = format!("{database:?}");
        assert!(shown.contains(MASK) && !shown.contains("hunter2") && !shown.contains("db/x"), "{shown}");
    }
}
