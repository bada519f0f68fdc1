//! Verifying passwords without letting logins eat the machine.
//!
//! bcrypt is slow on purpose. So it runs on the blocking pool, on half the cores at most; a bounded number of logins
//! waits for it; callers with the same credentials share one run; and a success is remembered for some minutes. Failures
//! are never remembered.

use crate::credentials::BasicCredentials;
use crate::error::AuthError;
use crate::htpasswd::Claim;
use crate::principal::Principal;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Successes remembered at one time.
const REMEMBERED: u64 = 10_000;

/// How long a success is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(5 * 60);

/// Different logins that may wait or run; the next is told to come back. At htpasswd's default cost (some
/// milliseconds) the queue is through in a second, at a high one in a minute.
const QUEUE: usize = 256;

/// bcrypt knows no more than these bytes of a password.
const MAX_PASSWORD_BYTES: usize = 72;

/// Compares a password (first) with a hash (second).
pub(crate) type Compare = dyn Fn(&str, &str) -> bool + Send + Sync;

/// Verifies passwords against hashes.
pub(crate) struct Verifier {
    compare: Arc<Compare>,
    queue: Semaphore,
    running: Arc<Semaphore>,
    /// Successes by the keyed digest of user, password and stored hash: a changed hash is another key.
    successes: Cache<[u8; 32], ()>,
    /// Drawn for this process, so that a dump of the cache's keys is of no use elsewhere.
    salt: [u8; 32],
}

impl Verifier {
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let bcrypt = |password: &str, hash: &str| bcrypt::verify(password, hash).unwrap_or(false);
        Self::with(Arc::new(bcrypt), cores.div_ceil(2), QUEUE)
    }

    /// A verifier with its own comparison, of which at most `parallel` run and `queue` wait or run.
    pub(crate) fn with(compare: Arc<Compare>, parallel: usize, queue: usize) -> Self {
        let successes = Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBERED_FOR).build();
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        salt[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self { compare, queue: Semaphore::new(queue), running: Arc::new(Semaphore::new(parallel)), successes, salt }
    }

    /// The principal that `credentials` prove, given what is stored for the claimed name.
    pub(crate) async fn verify(&self, credentials: &BasicCredentials, claim: Claim) -> Result<Principal, AuthError> {
        if credentials.password().len() > MAX_PASSWORD_BYTES {
            return Err(AuthError::PasswordTooLong);
        }
        let key = self.key(credentials, &claim.hash);
        self.successes
            .try_get_with(key, self.compare(credentials.password(), &claim))
            .await
            .map_err(|error: Arc<AuthError>| *error)?;
        // Nobody gets in as an unknown user, whatever the dummy's comparison said; `compare` never lets it succeed.
        claim.user.map(Principal::User).ok_or(AuthError::WrongCredentials)
    }

    async fn compare(&self, password: &str, claim: &Claim) -> Result<(), AuthError> {
        let _place = self.queue.try_acquire().map_err(|_| AuthError::Busy)?;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(|_| AuthError::Aborted)?;
        let compare = Arc::clone(&self.compare);
        let (password, hash) = (password.to_owned(), Arc::clone(&claim.hash));
        let matches = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a caller that hangs up does not make room for more of it.
            let _permit = permit;
            compare(&password, &hash)
        })
        .await
        .map_err(|_| AuthError::Aborted)?;
        if matches && claim.user.is_some() { Ok(()) } else { Err(AuthError::WrongCredentials) }
    }

    /// SHA-256 over the salt and the three parts, each with its length, so that no two triples run together.
    fn key(&self, credentials: &BasicCredentials, hash: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.salt);
        for part in [credentials.user(), credentials.password(), hash] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};
    use tokio::task::JoinSet;

    fn credentials(user: &str, password: &str) -> BasicCredentials {
        BasicCredentials::new(user, password).unwrap()
    }

    fn known(user: &str, hash: &str) -> Claim {
        Claim { user: Some(Arc::from(user)), hash: Arc::from(hash) }
    }

    fn unknown(hash: &str) -> Claim {
        Claim { user: None, hash: Arc::from(hash) }
    }

    /// Takes a password for its own hash, and counts how often it was asked.
    fn counting(parallel: usize, queue: usize) -> (Verifier, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let compare = move |password: &str, hash: &str| {
            counter.fetch_add(1, Ordering::SeqCst);
            password == hash
        };
        (Verifier::with(Arc::new(compare), parallel, queue), count)
    }

    #[tokio::test]
    async fn a_success_is_remembered_and_a_failure_is_not() {
        let (verifier, count) = counting(1, 1);
        let (right, wrong) = (credentials("alice", "a"), credentials("alice", "b"));
        for _ in 0..3 {
            let alice = verifier.verify(&right, known("alice", "a")).await;
            assert_eq!(alice, Ok(Principal::User("alice".into())));
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        for _ in 0..3 {
            assert_eq!(verifier.verify(&wrong, known("alice", "a")).await, Err(AuthError::WrongCredentials));
        }
        assert_eq!(count.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_success_is_bound_to_the_stored_hash_and_to_the_user() {
        let (verifier, _) = counting(1, 1);
        let alice = credentials("alice", "a");
        assert!(verifier.verify(&alice, known("alice", "a")).await.is_ok());
        assert_eq!(verifier.verify(&alice, known("alice", "changed")).await, Err(AuthError::WrongCredentials));
        assert_eq!(verifier.verify(&alice, unknown("a")).await, Err(AuthError::WrongCredentials));
    }

    #[tokio::test]
    async fn an_unknown_user_costs_a_comparison_and_never_passes() {
        let (verifier, count) = counting(1, 1);
        for attempt in 1..=3 {
            let verdict = verifier.verify(&credentials("mallory", "a"), unknown("a")).await;
            assert_eq!(verdict, Err(AuthError::WrongCredentials));
            assert_eq!(count.load(Ordering::SeqCst), attempt);
        }
    }

    #[tokio::test]
    async fn a_password_beyond_bcrypt_is_refused_unseen() {
        let (verifier, count) = counting(1, 1);
        let long = "p".repeat(73);
        let verdict = verifier.verify(&credentials("alice", &long), known("alice", &long)).await;
        assert_eq!(verdict, Err(AuthError::PasswordTooLong));
        assert_eq!(count.load(Ordering::SeqCst), 0);
        let longest = "p".repeat(72);
        assert!(verifier.verify(&credentials("alice", &longest), known("alice", &longest)).await.is_ok());
    }

    #[tokio::test]
    async fn a_comparison_that_dies_lets_nobody_in() {
        let verifier = Verifier::with(Arc::new(|_: &str, _: &str| panic!("on purpose")), 1, 1);
        for _ in 0..2 {
            let verdict = verifier.verify(&credentials("alice", "a"), known("alice", "a")).await;
            assert_eq!(verdict, Err(AuthError::Aborted));
        }
    }

    /// A verifier whose comparisons say that they have begun, and end (well) only when told to.
    struct Held {
        verifier: Arc<Verifier>,
        begun: mpsc::Receiver<()>,
        end: mpsc::Sender<()>,
        most_at_once: Arc<AtomicUsize>,
    }

    impl Held {
        fn new(parallel: usize, queue: usize) -> Self {
            let (begin, begun) = mpsc::channel();
            let (end, ended) = mpsc::channel();
            let (begin, ended) = (Mutex::new(begin), Mutex::new(ended));
            let (running, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
            let most_at_once = Arc::clone(&most);
            let compare = move |_: &str, _: &str| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                begin.lock().unwrap().send(()).unwrap();
                ended.lock().unwrap().recv().unwrap();
                running.fetch_sub(1, Ordering::SeqCst);
                true
            };
            Self { verifier: Arc::new(Verifier::with(Arc::new(compare), parallel, queue)), begun, end, most_at_once }
        }

        /// Starts a login and runs it until it waits for something.
        async fn login(&self, logins: &mut JoinSet<Result<Principal, AuthError>>, password: String) {
            let verifier = Arc::clone(&self.verifier);
            logins.spawn(async move { verifier.verify(&credentials("alice", &password), known("alice", "h")).await });
            // One thread: every task that can run has run before this one goes on.
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_flood_of_logins_runs_a_few_at_a_time() {
        const LOGINS: usize = 32;
        const PARALLEL: usize = 2;
        let held = Held::new(PARALLEL, LOGINS);
        let mut logins = JoinSet::new();
        for index in 0..LOGINS {
            held.login(&mut logins, format!("password {index}")).await;
        }
        assert_eq!(held.verifier.queue.available_permits(), 0, "every login is in the queue");
        assert_eq!(held.verifier.running.available_permits(), 0);
        for _ in 0..PARALLEL {
            held.begun.recv().unwrap();
        }
        for _ in 0..LOGINS {
            held.end.send(()).unwrap();
            assert!(logins.join_next().await.unwrap().unwrap().is_ok());
        }
        assert_eq!(held.most_at_once.load(Ordering::SeqCst), PARALLEL);
    }

    #[tokio::test]
    async fn beyond_the_queue_logins_are_told_to_come_back() {
        let held = Held::new(1, 2);
        let mut logins = JoinSet::new();
        for index in 0..2 {
            held.login(&mut logins, format!("password {index}")).await;
        }
        let third = held.verifier.verify(&credentials("alice", "password 2"), known("alice", "h")).await;
        assert_eq!(third, Err(AuthError::Busy));
        for _ in 0..2 {
            held.end.send(()).unwrap();
            assert!(logins.join_next().await.unwrap().unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn the_same_login_at_once_is_verified_once() {
        let held = Held::new(1, 1);
        let mut logins = JoinSet::new();
        for _ in 0..20 {
            held.login(&mut logins, "password".to_owned()).await;
        }
        held.end.send(()).unwrap();
        while let Some(login) = logins.join_next().await {
            assert_eq!(login.unwrap(), Ok(Principal::User("alice".into())));
        }
        assert_eq!(held.begun.iter().take(1).count(), 1);
        assert!(held.begun.try_recv().is_err(), "a second comparison began");
    }

    #[tokio::test]
    async fn a_caller_that_hangs_up_does_not_make_room() {
        let held = Held::new(1, 2);
        let mut logins = JoinSet::new();
        held.login(&mut logins, "first".to_owned()).await;
        held.begun.recv().unwrap();
        logins.abort_all();
        assert!(logins.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert_eq!(held.verifier.running.available_permits(), 0, "the comparison still runs");

        held.login(&mut logins, "second".to_owned()).await;
        held.end.send(()).unwrap();
        held.end.send(()).unwrap();
        assert!(logins.join_next().await.unwrap().unwrap().is_ok());
        assert_eq!(held.most_at_once.load(Ordering::SeqCst), 1);
    }
}
