//! Statements whose outcome nobody asks for: where the engine knows some of them as one, they go over together.

use super::{Connection, TOGETHER};
use crate::Result;

/// What a parameter is bound to.
pub(super) enum Value {
    Number(Option<i64>),
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

struct Statement {
    sql: &'static str,
    values: Vec<Value>,
}

/// Statements that run one after the other, up to the first that fails.
#[derive(Default)]
pub(super) struct Batch(Vec<Statement>);

impl Batch {
    /// Adds a statement; its parameters are bound next.
    pub(super) fn add(&mut self, sql: &'static str) -> &mut Self {
        self.0.push(Statement { sql, values: Vec::new() });
        self
    }

    /// Binds the next parameter of the statement that was added last.
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        if let Some(statement) = self.0.last_mut() {
            statement.values.push(value.into());
        }
        self
    }

    pub(super) async fn execute(mut self, connection: &mut Connection) -> Result<()> {
        while let Some(first) = self.0.first() {
            let (sql, count) = together(&self.0).unwrap_or((first.sql, 1));
            let mut query = sqlx::query(sql);
            for value in self.0.drain(..count).flat_map(|statement| statement.values) {
                query = match value {
                    Value::Number(number) => query.bind(number),
                    Value::Text(text) => query.bind(text),
                };
            }
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// The one statement that the first few of these are together, and how many they are.
fn together(statements: &[Statement]) -> Option<(&'static str, usize)> {
    let begins_with = |parts: &[&str]| {
        parts.len() <= statements.len() && parts.iter().zip(statements).all(|(part, statement)| *part == statement.sql)
    };
    TOGETHER.iter().find(|(parts, _)| begins_with(parts)).map(|(parts, sql)| (*sql, parts.len()))
}
