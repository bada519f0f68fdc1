//! A replica, driven by hand, and connections that listen beside it, on a real server.

use super::*;
use crate::cache::Cache;
use crate::postgres::notifications::{Deaf, OPEN, connect, prove_alive};
use crate::postgres::roll::{SETTLING, SILENT};
use crate::{ConnectOptions, Metadata};
use longshore_tests::postgres::Postgres;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use std::str::FromStr as _;

const NOBODY: [u32; 0] = [];

/// Its heart beats, and writers ask, when the test says so.
struct Replica {
    listener: PgListener,
    questions: Questions,
    cache: Cache,
}

impl Replica {
    async fn at(address: &PgConnectOptions) -> Self {
        let listener = connect(address).await.unwrap();
        Self { listener, questions: hearing().1, cache: Cache::new(1024, PATIENCE) }
    }

    /// Asks for a writer. Who is waited for until it is answered?
    async fn ask(&mut self) -> Vec<u32> {
        let (writer, mut answer) = oneshot::channel();
        self.questions.ask(&mut self.listener, writer).await.unwrap();
        let question = format!("{}-{}", self.questions.name, self.questions.next);
        let awaited = self.questions.asked.get(&question).map(|asked| asked.awaited.iter().copied().collect());
        let awaited: Vec<u32> = awaited.unwrap_or_default();
        assert_eq!(awaited.is_empty(), answer.try_recv().is_ok(), "a writer that waits for nobody is answered");
        awaited
    }

    /// Takes all that was said before.
    async fn beat(&mut self) {
        prove_alive(&mut self.listener, &self.cache, &mut self.questions, Instant::now()).await.unwrap();
    }
}

/// A connection that has the name of one that listens, and the number of its process.
async fn connected(address: &PgConnectOptions) -> (PgConnection, u32) {
    let mut connection = address.clone().application_name(LISTENER).connect().await.unwrap();
    let (pid,): (i32,) = sqlx::query_as("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    (connection, pid.unsigned_abs())
}

/// A database with its schema.
async fn database() -> PgConnectOptions {
    let url = Postgres::shared().create_database();
    let options = ConnectOptions { url, max_connections: 1, acquire_timeout: PATIENCE * 60, cache_size: 0 };
    Metadata::connect(&options).await.unwrap().migrate().await.unwrap();
    PgConnectOptions::from_str(&options.url).unwrap()
}

/// Time goes by for us, and not for the server.
async fn let_pass(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

#[tokio::test]
async fn who_never_answers_is_waited_for_first_and_then_no_more() {
    let address = database().await;
    let mut replica = Replica::at(&address).await;
    assert_eq!(replica.ask().await, NOBODY, "there is nobody else");
    let (mut mute, number) = connected(&address).await;
    assert_eq!(replica.ask().await, [number], "who has just connected counts at once");
    let_pass(SETTLING).await;
    replica.beat().await;
    assert_eq!(replica.ask().await, [number]);
    let_pass(SILENT / 2).await;
    replica.beat().await;
    assert_eq!(replica.ask().await, [number]);
    let_pass(SILENT / 2).await;
    assert_eq!(replica.ask().await, [number], "it is not known yet what it has said");
    replica.beat().await;
    assert_eq!(replica.ask().await, NOBODY);

    // Another one that comes counts, and so does the first when it says anything.
    let (another, other_number) = connected(&address).await;
    assert_eq!(replica.ask().await, [other_number]);
    sqlx::query(ANNOUNCE).bind(format!("{HEARD}whatever it was")).execute(&mut mute).await.unwrap();
    replica.beat().await;
    let mut awaited = replica.ask().await;
    awaited.sort_unstable();
    let mut both = [number, other_number];
    both.sort_unstable();
    assert_eq!(awaited, both);
    another.close().await.unwrap();
    mute.close().await.unwrap();
}

#[tokio::test]
async fn who_answers_is_never_left_out() {
    let address = database().await;
    let (mut one, mut two) = (Replica::at(&address).await, Replica::at(&address).await);
    for _ in 0..4 {
        let_pass(SETTLING.max(SILENT)).await;
        one.beat().await;
        let awaited = one.ask().await;
        assert_eq!(awaited.len(), 1);
        assert_eq!(one.questions.asked.len(), 1);
        // It takes the question with one beat, and has answered before the next.
        two.beat().await;
        one.beat().await;
        assert!(one.questions.asked.is_empty(), "it has answered");
        assert_eq!(two.ask().await.len(), 1);
        one.beat().await;
        two.beat().await;
    }
}

/// Others may have left it out by then, and would not know that it is back.
#[tokio::test]
async fn who_was_stuck_for_too_long_gives_up_its_connection() {
    let mut replica = Replica::at(&database().await).await;
    let last = Instant::now();
    let_pass(OPEN).await;
    let beat = prove_alive(&mut replica.listener, &replica.cache, &mut replica.questions, last).await;
    assert!(matches!(beat, Err(Deaf::Late)), "{beat:?}");
}

#[tokio::test]
async fn the_server_is_told_to_miss_the_dead() {
    let mut replica = Replica::at(&database().await).await;
    for (setting, expected) in [("SHOW tcp_keepalives_idle", "10"), ("SHOW tcp_user_timeout", "30000")] {
        let (value,): (String,) = sqlx::query_as(setting).fetch_one(&mut replica.listener).await.unwrap();
        assert_eq!(value, expected, "{setting}");
    }
}
