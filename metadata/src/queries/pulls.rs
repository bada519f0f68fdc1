//! Pull statistics, for many rows in one statement: how often manifests were pulled, and when they and tags were last.
//!
//! They change nothing that anybody else reads or waits for: no trigger fires, nothing that is remembered becomes wrong,
//! no key is touched. Rows are locked in one order, and those of the two tables in transactions of their own, so that
//! replicas which do the same cannot hold each other up.

use super::blobs::{hexadecimal, stored_size};
use super::dialect::{for_no_key_update, json_rows, unhex};
use super::repositories::microseconds;
use super::{Connection, Store, Transaction};
use crate::{Durability, ManifestPulls, Result, TagPulls};
use serde_json::{Value, json};

statements! {
    // Rows of repository, digest in hexadecimal, pulls, and how long ago the last one was.
    RECORD_OF_MANIFESTS = concat!("WITH pulled AS (SELECT m.id, p.pulls, c.now - p.age AS last FROM \
        (SELECT value ->> 0 AS repository, ", unhex!("value ->> 1"), " AS digest, CAST(value ->> 2 AS BIGINT) AS pulls, \
            CAST(value ->> 3 AS BIGINT) AS age FROM ", json_rows!("$1"), ") p \
        JOIN repositories r ON r.name = p.repository \
        JOIN manifests m ON m.repository_id = r.id AND m.digest = p.digest CROSS JOIN clock c \
        ORDER BY m.id", for_no_key_update!("m"), ") \
        UPDATE manifests AS m SET pulls = m.pulls + pulled.pulls, \
        last_pulled_at = CASE WHEN m.last_pulled_at > pulled.last THEN m.last_pulled_at ELSE pulled.last END \
        FROM pulled WHERE m.id = pulled.id");
    // Rows of repository, tag, and how long ago it was last pulled.
    RECORD_OF_TAGS = concat!("WITH pulled AS (SELECT t.repository_id, t.name, c.now - p.age AS last FROM \
        (SELECT value ->> 0 AS repository, value ->> 1 AS name, CAST(value ->> 2 AS BIGINT) AS age \
            FROM ", json_rows!("$1"), ") p \
        JOIN repositories r ON r.name = p.repository \
        JOIN tags t ON t.repository_id = r.id AND t.name = p.name CROSS JOIN clock c \
        ORDER BY t.repository_id, t.name", for_no_key_update!("t"), ") \
        UPDATE tags AS t SET \
        last_pulled_at = CASE WHEN t.last_pulled_at > pulled.last THEN t.last_pulled_at ELSE pulled.last END \
        FROM pulled WHERE t.repository_id = pulled.repository_id AND t.name = pulled.name");
}

/// One statement and its rows.
struct Record {
    statement: &'static str,
    rows: String,
}

impl Record {
    fn of(statement: &'static str, rows: impl Iterator<Item = Value>) -> Self {
        Self { statement, rows: Value::from_iter(rows).to_string() }
    }
}

impl Transaction for Record {
    type Output = u64;

    /// A few pulls that are lost with the power are a few pulls.
    const DURABILITY: Durability = Durability::Relaxed;

    async fn run(&self, connection: &mut Connection) -> Result<u64> {
        Ok(sqlx::query(self.statement).bind(&self.rows).execute(connection).await?.rows_affected())
    }
}

impl Store {
    pub(crate) async fn record_pulls_of_manifests(&self, pulls: &[ManifestPulls]) -> Result<u64> {
        let row = |pulls: &ManifestPulls| {
            let (repository, digest) = (pulls.repository.as_str(), hexadecimal(&pulls.digest));
            json!([repository, digest, stored_size(pulls.count), microseconds(pulls.last)])
        };
        self.write(Record::of(RECORD_OF_MANIFESTS, pulls.iter().map(row))).await
    }

    pub(crate) async fn record_pulls_of_tags(&self, pulls: &[TagPulls]) -> Result<u64> {
        let row = |pulls: &TagPulls| json!([pulls.repository.as_str(), pulls.tag.as_str(), microseconds(pulls.last)]);
        self.write(Record::of(RECORD_OF_TAGS, pulls.iter().map(row))).await
    }
}
