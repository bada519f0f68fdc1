//! Bringing the schema up to date.
//!
//! A migration that is applied but unknown here is one of a newer release, taken first by another replica: it keeps
//! what this release needs (see `migrations/README.md`), so it is no error.

use super::{Connection, Store, apply_migrations, migrator};
use crate::{MigrationStatus, Result};
use sqlx::{Connection as _, migrate::Migrate as _};
use std::collections::BTreeSet;

/// Where sqlx keeps its books.
const BOOKS: &str = "_sqlx_migrations";

/// The last migration that this program has.
pub(crate) fn newest_migration() -> i64 {
    migrator().iter().map(|migration| migration.version).max().unwrap_or_default()
}

impl Store {
    pub(crate) async fn migrate(&self) -> Result<()> {
        let mut connection: Connection = self.owner_connection().await?;
        apply_migrations(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    pub(crate) async fn migration_status(&self) -> Result<MigrationStatus> {
        let mut connection = self.owner_connection().await?;
        connection.ensure_migrations_table(BOOKS).await?;
        let applied = connection.list_applied_migrations(BOOKS).await?;
        connection.close().await?;
        let applied: BTreeSet<i64> = applied.iter().map(|migration| migration.version).collect();
        let (done, pending) = migrator()
            .iter()
            .map(|migration| (migration.version, migration.description.to_string()))
            .partition(|(version, _)| applied.contains(version));
        Ok(MigrationStatus { applied: done, pending })
    }
}
