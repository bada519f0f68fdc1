//! Statements whose outcome nobody asks for, one round trip each. The twin of `sqlite/batch.rs`.

use super::Connection;
use crate::Result;
use sqlx::{Arguments as _, Encode, Postgres, Type, error::BoxDynError, postgres::PgArguments};

/// Statements that run one after the other, up to the first that fails.
#[derive(Default)]
pub(super) struct Batch {
    statements: Vec<(&'static str, PgArguments)>,
    unencoded: Option<BoxDynError>,
}

impl Batch {
    /// Adds a statement; its parameters are bound next.
    pub(super) fn add(&mut self, sql: &'static str) -> &mut Self {
        self.statements.push((sql, PgArguments::default()));
        self
    }

    /// Binds the next parameter of the statement that was added last.
    pub(super) fn bind<'q, T: Encode<'q, Postgres> + Type<Postgres>>(&mut self, value: T) -> &mut Self {
        if let Some((_, arguments)) = self.statements.last_mut()
            && let Err(error) = arguments.add(value)
        {
            self.unencoded.get_or_insert(error);
        }
        self
    }

    pub(super) async fn execute(self, connection: &mut Connection) -> Result<()> {
        if let Some(error) = self.unencoded {
            return Err(sqlx::Error::Encode(error).into());
        }
        for (sql, arguments) in self.statements {
            sqlx::query_with(sql, arguments).execute(&mut *connection).await?;
        }
        Ok(())
    }
}
