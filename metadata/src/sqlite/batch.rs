//! Statements whose outcome nobody asks for, in one hand-over to SQLite's thread. The twin of `postgres/batch.rs`.

use super::Connection;
use crate::Result;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, Type, error::BoxDynError, sqlite::SqliteArguments};

/// Statements that run one after the other, up to the first that fails.
#[derive(Default)]
pub(super) struct Batch {
    sql: String,
    arguments: SqliteArguments,
    unencoded: Option<BoxDynError>,
}

impl Batch {
    /// Adds a statement; its parameters are bound next.
    pub(super) fn add(&mut self, sql: &'static str) -> &mut Self {
        if !self.sql.is_empty() {
            self.sql.push_str("; ");
        }
        append_renumbered(&mut self.sql, sql, self.arguments.len());
        self
    }

    /// Binds the next parameter of the statement that was added last.
    pub(super) fn bind<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.unencoded.get_or_insert(error);
        }
        self
    }

    pub(super) async fn execute(self, connection: &mut Connection) -> Result<()> {
        if let Some(error) = self.unencoded {
            return Err(sqlx::Error::Encode(error).into());
        }
        if !self.sql.is_empty() {
            // Our own statements, behind each other: no text of anybody else's is in them.
            sqlx::query_with(AssertSqlSafe(self.sql), self.arguments).execute(connection).await?;
        }
        Ok(())
    }
}

/// Appends a statement, whose `$1` becomes `$4` where three parameters stand before it.
fn append_renumbered(joined: &mut String, sql: &str, before: usize) {
    let mut parts = sql.split('$');
    joined.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        joined.push('$');
        match number.parse::<usize>() {
            Ok(number) => joined.push_str(&(number + before).to_string()),
            Err(_) => joined.push_str(number),
        }
        joined.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::append_renumbered;

    #[test]
    fn parameters_are_counted_on() {
        let mut joined = String::new();
        append_renumbered(&mut joined, "VALUES ($1, $2, '$', $12)", 0);
        append_renumbered(&mut joined, "; a = $1 AND b=$2", 12);
        assert_eq!(joined, "VALUES ($1, $2, '$', $12); a = $13 AND b=$14");
    }
}
