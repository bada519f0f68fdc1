//! The numbers of parts: an object store has ten thousand for an upload, and a session of any number of requests must do
//! with them.

use crate::session::{KIB, MIB, Session};
use longshore_registry::Error;

/// How many numbers there are.
const NUMBERS: u32 = 10_000;

impl Session {
    /// Another writer, which ends without a word: none may have the numbers that it was given.
    async fn lose(&self, numbers: u32) {
        let fence = self.claim().await.fence;
        self.metadata.reserve_parts(self.address.id, fence, numbers).await.unwrap().unwrap();
    }

    /// How many numbers were used, or lost.
    async fn used(&self) -> u32 {
        let fence = self.claim().await.fence;
        self.metadata.reserve_parts(self.address.id, fence, 0).await.unwrap().unwrap()
    }

    async fn parts(&self) -> usize {
        self.find().await.multipart.map_or(0, |multipart| multipart.parts.len())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_chunks_use_up_no_numbers() {
    let mut session = Session::on_sqlite().await;
    session.append(20 * MIB).await.unwrap();
    // Three numbers are left, and two hundred chunks to come: 11 MiB, which are three parts with the tail that is there.
    session.lose(NUMBERS - 3 - session.used().await).await;
    for _ in 0..200 {
        session.append(56 * KIB).await.unwrap();
    }
    session.finish(0).await.unwrap();
    session.assert_is_a_blob().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_numbers_are_used_as_there_are_parts() {
    let mut session = Session::on_sqlite().await;
    for size in [20 * MIB, MIB, 1, 5 * MIB, 3 * MIB, 20 * MIB, 4 * MIB, KIB, 7 * MIB] {
        session.append(size).await.unwrap();
        assert_eq!(session.used().await as usize, session.parts().await, "after {size} bytes more");
    }
    assert!(session.parts().await > 5);
    session.finish(6 * MIB).await.unwrap();
    session.assert_is_a_blob().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_has_no_number_left_is_told_so() {
    let mut session = Session::on_sqlite().await;
    session.append(20 * MIB).await.unwrap();
    session.lose(NUMBERS - session.used().await).await;
    // A tail needs none.
    session.append(MIB / 2).await.unwrap();
    let refused = session.finish(0).await.unwrap_err();
    let Error::Storage(refused) = refused else { panic!("{refused:?}") };
    assert!(refused.to_string().contains("used up their numbers"), "{refused}");
}
