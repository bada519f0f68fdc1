//! A tail that the store gives back damaged: the hash has seen its bytes before they went there, so the digest of what the client
//! sent would be right, and the object wrong.

use crate::session::{MIB, Session};
use bytes::Bytes;
use futures_util::TryStreamExt;
use longshore_registry::Error;
use longshore_storage::Error as StorageError;

impl Session {
    /// Flips a bit of the tail at the store. Doing so again mends it.
    async fn flip_a_bit_of_the_tail(&self) {
        let tail = self.find().await.tail_key.unwrap().parse().unwrap();
        let size = self.backend.size(&tail).await.unwrap();
        let pieces: Vec<Bytes> = self.backend.read(&tail, 0..size).await.unwrap().try_collect().await.unwrap();
        let mut bytes = pieces.concat();
        bytes[MIB + 7] ^= 16;
        self.backend.put(&tail, vec![bytes.into()]).await.unwrap();
    }
}

async fn a_damaged_tail_is_in_no_blob(mut session: Session) {
    session.append(20 * MIB).await.unwrap();
    session.flip_a_bit_of_the_tail().await;
    for refused in
        [session.append(MIB).await.map(drop), session.append(9 * MIB).await.map(drop), session.finish(5).await]
    {
        assert!(matches!(refused, Err(Error::Storage(StorageError::UploadLost { .. }))), "{refused:?}");
    }
    let found = session.find().await;
    assert_eq!((found.received, found.multipart.unwrap().parts.len()), (20 * MIB as u64, 2), "nothing of it was saved");
    session.flip_a_bit_of_the_tail().await;
    session.append(MIB).await.unwrap();
    session.finish(5).await.unwrap();
    session.assert_is_a_blob().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_tail_is_in_no_blob_on_sqlite() {
    a_damaged_tail_is_in_no_blob(Session::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_tail_is_in_no_blob_on_postgres() {
    a_damaged_tail_is_in_no_blob(Session::on_postgres().await).await;
}
