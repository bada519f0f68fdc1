//! A store that asks to come again later (`Retry-After`) is taken at its word.

use crate::bytes;
use futures_util::TryStreamExt;
use longshore_config::{S3, Secret};
use longshore_storage::{Backend, Error, ObjectKey, s3_backend};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::Instant,
};

/// What an overloaded store says.
const LATER: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\n\
                     content-length: 56\r\nconnection: close\r\n\r\n\
                     <Error><Code>SlowDown</Code><Message>m</Message></Error>";
const SIZE: usize = 10;

/// The object, whole.
fn whole() -> Vec<u8> {
    let head = "HTTP/1.1 206 Partial Content\r\nlast-modified: Wed, 21 Oct 2015 07:28:00 GMT\r\netag: \"1\"\r\n\
                content-range: bytes 0-9/10\r\ncontent-length: 10\r\nconnection: close\r\n\r\n";
    [head.as_bytes(), &bytes(SIZE)].concat()
}

/// A store on loopback that gives these answers, the last one again and again. Tells when requests came, by the clock
/// of the test.
async fn serve(mut answers: VecDeque<Vec<u8>>) -> (SocketAddr, UnboundedReceiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, came) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            tell.send(Instant::now()).unwrap();
            client.write_all(&answers[0]).await.unwrap();
            if answers.len() > 1 {
                answers.pop_front();
            }
            client.shutdown().await.unwrap();
        }
    });
    (address, came)
}

fn store_at(address: SocketAddr) -> Arc<dyn Backend> {
    let settings = S3 {
        bucket: "images".to_owned(),
        endpoint: Some(format!("http://{address}")),
        access_key_id: Some("id".to_owned()),
        secret_access_key: Some(Secret::new("secret")),
        ..S3::default()
    };
    s3_backend(&settings, None).unwrap()
}

async fn read(backend: &dyn Backend) -> Result<Vec<u8>, Error> {
    let pieces: Vec<_> = backend.read(&ObjectKey::random(), 0..SIZE as u64).await?.try_collect().await?;
    Ok(pieces.concat())
}

fn times(mut came: UnboundedReceiver<Instant>) -> Vec<Instant> {
    std::iter::from_fn(move || came.try_recv().ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn it_is_not_asked_again_before_it_said() {
    let (address, came) = serve([LATER.into(), whole()].into()).await;
    assert_eq!(read(&*store_at(address)).await.unwrap(), bytes(SIZE));
    let times = times(came);
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_secs(7), "{:?}", times[1] - times[0]);
}

#[tokio::test(start_paused = true)]
async fn one_that_says_so_all_the_time_is_given_up_in_the_end() {
    let (address, came) = serve([LATER.into()].into()).await;
    let refused = read(&*store_at(address)).await.unwrap_err();
    assert!(matches!(&refused, Error::Backend { reason, .. } if reason.starts_with("SlowDown")), "{refused}");
    let times = times(came);
    assert!((2..=9).contains(&times.len()), "{} requests", times.len());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(7)), "{times:?}");
}
