//! A push in one request, of which the database has lost the beginning, as it may where it breaks down: its client has opened
//! no session, and is not told of one.

use crate::session::{KIB, Session};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use longshore_metadata::{Metadata, UploadAddress, UploadId};
use longshore_oci::{Algorithm, Digest};
use longshore_registry::{Chunk, Error};

/// Ends all sessions but this one.
async fn lose_others(metadata: &Metadata, but: UploadId) {
    let page = metadata.open_sessions(None, 10).await.unwrap();
    for other in page.sessions.into_iter().filter(|session| session.id != but) {
        let address = UploadAddress { repository: other.repository, id: other.id, principal: None };
        assert!(metadata.cancel_upload(address).await.unwrap());
    }
}

async fn a_push_whose_beginning_is_lost_is_to_be_made_again(session: Session) {
    let repository = session.address.repository.clone();
    let pieces = [Bytes::from(vec![1; 100 * KIB]), Bytes::from(vec![2; 100 * KIB])];
    let digest = Digest::of(Algorithm::Sha256, &pieces.concat());
    let [first, second] = pieces.clone();
    let (metadata, but) = (session.metadata.clone(), session.address.id);
    let rest = stream::once(async move {
        lose_others(&metadata, but).await;
        Ok(second)
    });
    let body = Box::pin(stream::iter([Ok(first)]).chain(rest));
    let lost = session.registry.push_blob(&repository, None, digest, Chunk { start: None, length: None, body }).await;
    assert!(matches!(lost, Err(Error::PushLost)), "{lost:?}");

    let body = Box::pin(stream::iter(pieces.map(Ok)));
    session.registry.push_blob(&repository, None, digest, Chunk { start: None, length: None, body }).await.unwrap();
    assert_eq!(session.registry.find_blob(&repository, &digest).await.unwrap().size, 200 * KIB as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_beginning_is_lost_is_to_be_made_again_on_sqlite() {
    a_push_whose_beginning_is_lost_is_to_be_made_again(Session::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_beginning_is_lost_is_to_be_made_again_on_postgres() {
    a_push_whose_beginning_is_lost_is_to_be_made_again(Session::on_postgres().await).await;
}
