//! What the database promises, on both engines: SQLite in a folder of the test's own, and a real PostgreSQL.
//!
//! A file is a subject. Its tests are plain functions of a [`database::Database`], listed at its top, where
//! [`on_both_engines`] makes two tests of each; one that is missing from the list is dead code, and so an error.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

/// Makes of each function `async fn name(database: Database)` the tests `sqlite::name` and `postgres::name`.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::database::Database::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::database::Database::postgres().await).await;
            })*
        }
    };
}

mod blobs;
mod cache;
mod collection;
mod collection_races;
mod content;
mod contents;
mod damage;
mod database;
mod durability;
mod finish;
mod garbage;
mod history;
mod immutable;
mod inside;
mod leases;
mod lost_connections;
mod manifest_races;
mod manifests;
mod orders;
mod parts;
mod preview;
mod pulls;
mod queue;
mod quotas;
mod races;
mod referrers;
mod replicas;
mod retention;
mod schema;
mod snapshot;
mod store_mark;
mod tags;
mod upload_races;
mod uploads;
