use super::super::epochs::Epochs;
use super::super::questions::Question;
use super::*;
use futures_util::future::{join_all, pending};
use longshore_oci::{RepositoryName, Tag};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use tokio::sync::Semaphore;
use tokio::task::{self, JoinHandle};
use tokio::time::sleep; // the clock is paused: it goes on when nothing else does

const CROWD: usize = 2_000;
const LONGEST: Duration = Duration::from_secs(5);

/// A database that counts, and answers when it is let. What it answers is the number of writes that it has seen.
struct Slow {
    crowds: Crowds<u64>,
    epochs: Epochs,
    /// One for each answer.
    answers: Semaphore,
    queries: AtomicUsize,
    under_way: AtomicUsize,
    /// Who has asked last.
    asker: Mutex<Option<task::Id>>,
    writes: AtomicU64,
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            crowds: Crowds::new(LONGEST),
            epochs: Epochs::new(),
            answers: Semaphore::new(0),
            queries: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            asker: Mutex::new(None),
            writes: AtomicU64::new(0),
        })
    }

    /// Sees what was written before it began.
    async fn query(&self) -> Result<Option<u64>> {
        struct Ends<'a>(&'a AtomicUsize);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        let seen = self.writes.load(SeqCst);
        *self.asker.lock().unwrap() = task::try_id();
        self.queries.fetch_add(1, SeqCst);
        self.under_way.fetch_add(1, SeqCst);
        let _ends = Ends(&self.under_way);
        self.answers.acquire().await.map_err(|_| Error::unavailable(sqlx::Error::PoolClosed))?.forget();
        Ok(Some(seen))
    }

    /// Asks for `tag`, with a cache that knows what `look` answers.
    async fn ask_with(
        &self,
        tag: &str,
        look: impl Fn() -> Option<u64>,
        query: impl Future<Output = Result<Option<u64>>>,
    ) -> Result<Option<u64>> {
        let (repository, tag): (RepositoryName, Tag) = ("app".parse().unwrap(), tag.parse().unwrap());
        let asked = self.epochs.ask(Question::Tag(&repository, &tag));
        self.crowds.ask(&asked, look, query).await
    }

    /// The same with a cache that may not answer.
    fn asks(self: &Arc<Self>) -> JoinHandle<Result<Option<u64>>> {
        let this = self.clone();
        tokio::spawn(async move { this.ask_with("latest", || None, this.query()).await })
    }

    /// Lets everybody go on until all wait for something: only then the clock of a test moves.
    async fn settle(&self) {
        sleep(Duration::from_millis(1)).await;
    }

    fn crowd(self: &Arc<Self>) -> Vec<JoinHandle<Result<Option<u64>>>> {
        (0..CROWD).map(|_| self.asks()).collect()
    }

    fn queries(&self) -> usize {
        self.queries.load(SeqCst)
    }

    fn is_forgotten(&self) -> bool {
        self.crowds.lock().is_empty()
    }
}

async fn results(crowd: Vec<JoinHandle<Result<Option<u64>>>>) -> Vec<Result<Option<u64>>> {
    join_all(crowd).await.into_iter().map(std::result::Result::unwrap).collect()
}

#[tokio::test(start_paused = true)]
async fn what_the_cache_knows_then_is_asked_for_once() {
    let slow = Slow::new();
    let known = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let (slow, known) = (slow.clone(), known.clone());
        tokio::spawn(async move {
            let look = || (known.load(SeqCst) > 0).then_some(7);
            let query = async {
                known.fetch_add(1, SeqCst);
                slow.query().await
            };
            slow.ask_with("latest", look, query).await
        })
    };
    let crowd: Vec<_> = (0..CROWD).map(|_| ask()).collect();
    slow.settle().await;
    slow.answers.add_permits(1);
    let found: Vec<_> = results(crowd).await.into_iter().map(|result| result.unwrap()).collect();
    assert_eq!((slow.queries(), found.iter().filter(|found| **found == Some(7)).count()), (1, CROWD - 1));
    assert!(slow.is_forgotten());
}

#[tokio::test(start_paused = true)]
async fn what_it_does_not_know_is_asked_for_twice() {
    let slow = Slow::new();
    let crowd = slow.crowd();
    slow.settle().await;
    assert_eq!(slow.queries(), 1, "one for all");
    slow.answers.add_permits(1);
    slow.settle().await;
    assert_eq!(slow.queries(), 2, "and one for all who came while it was under way");
    slow.answers.add_permits(1);
    assert!(results(crowd).await.into_iter().all(|result| result.unwrap() == Some(0)));
    assert_eq!(slow.queries(), 2);
    assert!(slow.is_forgotten());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_what_was_right_before_a_write_that_it_has_heard_of() {
    let slow = Slow::new();
    let early = slow.asks();
    slow.settle().await;
    slow.writes.fetch_add(1, SeqCst);
    let late = slow.asks();
    slow.settle().await;
    slow.answers.add_permits(2);
    assert_eq!((early.await.unwrap().unwrap(), late.await.unwrap().unwrap()), (Some(0), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn other_questions_do_not_wait() {
    let slow = Slow::new();
    let stuck = slow.asks();
    slow.settle().await;
    assert_eq!(slow.ask_with("other", || None, async { Ok(None) }).await.unwrap(), None);
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_to_all() {
    let slow = Slow::new();
    let crowd = slow.crowd();
    slow.settle().await;
    slow.answers.close();
    for result in results(crowd).await {
        assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    }
    assert_eq!(slow.queries(), 2);
    assert!(slow.is_forgotten());
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_while_it_asks_is_replaced_by_one() {
    let slow = Slow::new();
    let mut crowd = slow.crowd();
    slow.settle().await;
    for gone in 1..=3 {
        let asker = slow.asker.lock().unwrap().unwrap();
        let place = crowd.iter().position(|member| member.id() == asker).unwrap();
        crowd.remove(place).abort();
        slow.settle().await;
        assert_eq!((slow.queries(), slow.under_way.load(SeqCst)), (1 + gone, 1));
    }
    slow.answers.add_permits(1);
    assert!(results(crowd).await.into_iter().all(|result| result.unwrap() == Some(0)));
    assert_eq!(slow.queries(), 4);
    assert!(slow.is_forgotten());
}

/// A connection that died without a word: it would be found out after minutes.
#[tokio::test(start_paused = true)]
async fn who_is_stuck_holds_nobody_up() {
    let slow = Slow::new();
    let stuck = slow.clone();
    let stuck = tokio::spawn(async move { stuck.ask_with("latest", || None, pending()).await });
    slow.settle().await;
    let begin = Instant::now();
    slow.answers.add_permits(1);
    assert!(results(slow.crowd()).await.into_iter().all(|result| result.unwrap() == Some(0)));
    assert_eq!(slow.queries(), 1);
    assert!(begin.elapsed() <= PATIENCE, "one of them asks as soon as the first has had its time");
    stuck.abort();
}

/// The crowd that has brought a pool of 16 connections to its end: 1,475 of 2,000 were told that the database does not
/// answer, as each of them had lost its patience after half a second.
#[tokio::test(start_paused = true)]
async fn a_slow_database_is_not_fallen_upon() {
    let slow = Slow::new();
    let crowd = slow.crowd();
    sleep(LONGEST / 2).await;
    // The first; one after half a second, and one a second after that.
    assert_eq!(slow.queries(), 3);
    slow.answers.add_permits(3);
    assert!(results(crowd).await.into_iter().all(|result| result.unwrap() == Some(0)));
    assert_eq!(slow.queries(), 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let slow = Slow::new();
    let mut crowd = slow.crowd();
    slow.settle().await;
    sleep(LONGEST + Duration::from_millis(2)).await;
    // After 0, 0.5, 1.5 and 3.5 seconds one of them has asked, and waits for the database itself.
    assert_eq!((slow.queries(), slow.under_way.load(SeqCst)), (4, 4));
    crowd.retain(JoinHandle::is_finished);
    assert_eq!(crowd.len(), CROWD - 4);
    for result in results(crowd).await {
        assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    }
}
