//! The mark of the store that the database belongs to.

use super::{Connection, Store, Transaction, read};
use crate::Result;

statements! {
    MARK = "INSERT INTO store_mark (id, mark) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";
    FIND = "SELECT mark FROM store_mark WHERE id = 1";
}

struct MarkStore(String);

impl Transaction for MarkStore {
    type Output = String;

    async fn run(&self, connection: &mut Connection) -> Result<String> {
        sqlx::query(MARK).bind(&self.0).execute(&mut *connection).await?;
        let (mark,): (String,) = sqlx::query_as(FIND).fetch_one(connection).await?;
        Ok(mark)
    }
}

impl Store {
    pub(crate) async fn mark_store(&self, mark: &str) -> Result<String> {
        self.write(MarkStore(mark.to_owned())).await
    }

    pub(crate) async fn store_mark(&self) -> Result<Option<String>> {
        read!(self.connections, connection => Ok(sqlx::query_scalar(FIND).fetch_optional(connection).await?))
    }
}
