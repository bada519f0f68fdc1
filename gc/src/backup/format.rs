//! The lines of a backup, each a JSON text of its own:
//!
//! ```text
//! {"at":"2026-11-27T07:25:20.000000Z","engine":"sqlite","format":1,"longshore":"backup","release":"0.1.0","schema":10}
//! {"table":"repositories"}
//! [1,"team/app",1795764320000000]
//! {"table":"objects"}
//! {"end":{"hash":"sha256:…","rows":{"objects":0,"repositories":1}}}
//! ```
//!
//! The hash is that of all lines before the last, with their ends.

use longshore_metadata::SnapshotTable;
use serde_json::{Value, json, value::RawValue};
use std::{collections::BTreeMap, time::SystemTime};

/// How many rows of each table there are.
pub type RowCounts = BTreeMap<SnapshotTable, u64>;

/// How a backup begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupHead {
    /// The form of its rows.
    pub format: u32,
    /// The last migration of the database.
    pub schema: i64,
    /// What kind of database it was.
    pub engine: String,
    /// The release that wrote it.
    pub release: String,
    /// Of which moment it is, by the clock of the database.
    pub at: SystemTime,
}

impl BackupHead {
    pub(super) fn line(&self) -> String {
        let at = humantime::format_rfc3339_micros(self.at).to_string();
        let Self { format, schema, engine, release, .. } = self;
        json!({
            "longshore": "backup", "format": format, "schema": schema, "engine": engine, "release": release, "at": at,
        })
        .to_string()
    }

    pub(super) fn of_line(line: &str) -> Option<Self> {
        let head: Value = serde_json::from_str(line).ok()?;
        if head["longshore"] != "backup" {
            return None;
        }
        Some(Self {
            format: u32::try_from(head["format"].as_u64()?).ok()?,
            schema: head["schema"].as_i64()?,
            engine: head["engine"].as_str()?.to_owned(),
            release: head["release"].as_str()?.to_owned(),
            at: humantime::parse_rfc3339(head["at"].as_str()?).ok()?,
        })
    }
}

/// How a backup ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) rows: RowCounts,
    pub(super) hash: String,
}

impl Ending {
    pub(super) fn line(&self) -> String {
        let rows: serde_json::Map<String, Value> =
            self.rows.iter().map(|(table, count)| (table.name().to_owned(), Value::from(*count))).collect();
        json!({ "end": { "rows": rows, "hash": self.hash } }).to_string()
    }

    fn of_value(ending: &Value) -> Option<Self> {
        let count = |(name, count): (&String, &Value)| Some((table_of_name(name)?, count.as_u64()?));
        let rows = ending["rows"].as_object()?.iter().map(count).collect::<Option<RowCounts>>()?;
        Some(Self { rows, hash: ending["hash"].as_str()?.to_owned() })
    }
}

/// A line after the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The rows that follow are of this table.
    Table(SnapshotTable),
    /// A row, which is the line itself.
    Row,
    /// The last line.
    End(Ending),
}

impl Line {
    /// None where it is no such line.
    pub(super) fn of(line: &str) -> Option<Self> {
        if line.starts_with('[') {
            return serde_json::from_str::<&RawValue>(line).is_ok().then_some(Self::Row);
        }
        let value: Value = serde_json::from_str(line).ok()?;
        match value["table"].as_str() {
            Some(name) => table_of_name(name).map(Self::Table),
            None => Ending::of_value(&value["end"]).map(Self::End),
        }
    }
}

pub(super) fn table_line(table: SnapshotTable) -> String {
    json!({ "table": table.name() }).to_string()
}

fn table_of_name(name: &str) -> Option<SnapshotTable> {
    SnapshotTable::ALL.into_iter().find(|table| table.name() == name)
}
