//! Who may do what.

use crate::credentials::BasicCredentials;
use crate::error::AuthError;
use crate::htpasswd::{Htpasswd, HtpasswdError};
use crate::principal::Principal;
use crate::verifier::Verifier;
use longshore_oci::RepositoryName;
use std::fmt;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read a repository: blobs, manifests, its tags, its referrers.
    Pull,
    /// Write to a repository: uploads, mounts, manifests, tags.
    Push,
    /// Delete from a repository.
    Delete,
    /// See the registry as a whole: that it is there (`/v2/`), its catalog of repositories.
    List,
}

/// What a request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Go on.
    Allowed,
    /// Not as an anonymous caller; a login may help.
    LoginRequired,
    /// Not as this user; a login as the same user will not help.
    Denied,
}

/// Who may do what in this registry.
pub struct Policy {
    /// None: the registry is open.
    logins: Option<Logins>,
}

struct Logins {
    htpasswd: Htpasswd,
    verifier: Verifier,
}

impl Policy {
    /// Everyone may do everything, without a login.
    pub fn open() -> Self {
        Self { logins: None }
    }

    /// The file's users may do everything, others nothing.
    ///
    /// Not even pull: over the Basic scheme alone a client either logs in because `/v2/` refused it, or never does.
    pub fn htpasswd(htpasswd: Htpasswd) -> Self {
        Self { logins: Some(Logins { htpasswd, verifier: Verifier::new() }) }
    }

    /// Who the caller is; without credentials, [`Principal::Anonymous`].
    ///
    /// An open registry has nobody to compare credentials with: there, everyone stays anonymous.
    ///
    /// # Errors
    /// Why the credentials prove nobody. They are never taken for an anonymous caller: who sends them wants to know.
    pub async fn authenticate(&self, credentials: Option<&BasicCredentials>) -> Result<Principal, AuthError> {
        match (&self.logins, credentials) {
            (None, _) | (_, None) => Ok(Principal::Anonymous),
            (Some(logins), Some(credentials)) => {
                let claim = logins.htpasswd.users().claim(credentials.user());
                logins.verifier.verify(credentials, claim).await
            }
        }
    }

    /// Whether `principal` may do `action`, in `repository` where the action is about one.
    ///
    /// All actions and repositories are alike today; the parameters are there so that every caller has them at hand.
    pub fn allows(&self, principal: &Principal, _action: Action, _repository: Option<&RepositoryName>) -> Decision {
        match (&self.logins, principal) {
            (None, _) | (Some(_), Principal::User(_)) => Decision::Allowed,
            (Some(_), Principal::Anonymous) => Decision::LoginRequired,
        }
    }

    /// Whether there is anything that needs a login.
    pub fn asks_for_login(&self) -> bool {
        self.logins.is_some()
    }

    /// Reads the users again and tells how many there are; on an error the old ones stay. `None` for an open registry,
    /// which has no users to read.
    ///
    /// A password that was changed or a user that was removed stops working at once. Reads the disk.
    ///
    /// # Errors
    /// See [`HtpasswdError`].
    pub fn reload(&self) -> Option<Result<usize, HtpasswdError>> {
        let logins = self.logins.as_ref()?;
        Some(logins.htpasswd.reload())
    }
}

/// Whether the registry is open, else how many users there are: no name, no hash, no remembered login.
impl fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.logins {
            None => formatter.write_str("Policy::open"),
            Some(logins) => formatter.debug_tuple("Policy::htpasswd").field(&logins.htpasswd).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Delete, List, Pull, Push};
    use Decision::{Allowed, LoginRequired};
    use proptest::prelude::*;
    use std::fs;
    use std::future::Future;
    use tempfile::TempDir;

    /// A hash at the lowest cost: the tests are about the verdict.
    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    /// An htpasswd file with these users and passwords, and a policy that reads it.
    struct File {
        directory: TempDir,
        policy: Policy,
    }

    impl File {
        fn new(users: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("htpasswd");
            fs::write(&path, lines(users)).unwrap();
            Self { policy: Policy::htpasswd(Htpasswd::read(path).unwrap()), directory }
        }

        fn rewrite(&self, text: &str) {
            fs::write(self.directory.path().join("htpasswd"), text).unwrap();
        }

        async fn login(&self, user: &str, password: &str) -> Result<Principal, AuthError> {
            let credentials = BasicCredentials::new(user, password).unwrap();
            self.policy.authenticate(Some(&credentials)).await
        }
    }

    fn lines(users: &[(&str, &str)]) -> String {
        users.iter().map(|(user, password)| format!("{user}:{}\n", hash(password))).collect()
    }

    fn user(name: &str) -> Principal {
        Principal::User(name.into())
    }

    #[tokio::test]
    async fn an_open_registry_takes_everyone_for_anonymous_and_lets_them_do_everything() {
        let policy = Policy::open();
        let credentials = BasicCredentials::new("alice", "stale").unwrap();
        assert_eq!(policy.authenticate(Some(&credentials)).await, Ok(Principal::Anonymous));
        assert_eq!(policy.authenticate(None).await, Ok(Principal::Anonymous));
        for action in [Pull, Push, Delete, List] {
            assert_eq!(policy.allows(&Principal::Anonymous, action, None), Allowed);
        }
        assert!(!policy.asks_for_login());
        assert!(policy.reload().is_none());
    }

    #[test]
    fn users_may_do_everything_and_others_nothing() {
        let repository: RepositoryName = "library/busybox".parse().unwrap();
        let policy = File::new(&[("alice", "a")]).policy;
        assert!(policy.asks_for_login());
        for action in [Pull, Push, Delete, List] {
            for repository in [None, Some(&repository)] {
                assert_eq!(policy.allows(&user("alice"), action, repository), Allowed);
                assert_eq!(policy.allows(&Principal::Anonymous, action, repository), LoginRequired);
            }
        }
    }

    #[tokio::test]
    async fn the_right_password_proves_the_user() {
        let file = File::new(&[("alice", "correct horse"), ("bob", "b")]);
        assert_eq!(file.login("alice", "correct horse").await, Ok(user("alice")));
        assert_eq!(file.login("bob", "b").await, Ok(user("bob")));
        assert_eq!(file.policy.authenticate(None).await, Ok(Principal::Anonymous));
    }

    #[tokio::test]
    async fn wrong_credentials_are_an_error() {
        let file = File::new(&[("alice", "a"), ("bob", "b")]);
        for (name, password) in [("alice", "b"), ("alice", ""), ("Alice", "a"), ("mallory", "a"), ("", "")] {
            assert_eq!(file.login(name, password).await, Err(AuthError::WrongCredentials), "{name}:{password}");
        }
    }

    #[tokio::test]
    async fn a_file_made_by_htpasswd_is_understood() {
        let file = File::new(&[("x", "x")]);
        file.rewrite("alice:$2y$05$Y7sX5xr4cko/NfK3wmtrtu6jX8vQ7p88ZUIptuyRvvxieIgM8W5qu\n");
        file.policy.reload().unwrap().unwrap();
        assert_eq!(file.login("alice", "password").await, Ok(user("alice")));
    }

    #[tokio::test]
    async fn reload_takes_effect_at_once_in_spite_of_remembered_logins() {
        let file = File::new(&[("alice", "old"), ("bob", "b")]);
        assert!(file.login("alice", "old").await.is_ok());
        assert!(file.login("bob", "b").await.is_ok());

        file.rewrite(&lines(&[("alice", "new"), ("carol", "c")]));
        assert!(file.login("alice", "old").await.is_ok(), "nothing changes before the reload");
        assert!(matches!(file.policy.reload(), Some(Ok(2))));

        assert_eq!(file.login("alice", "old").await, Err(AuthError::WrongCredentials));
        assert_eq!(file.login("alice", "new").await, Ok(user("alice")));
        assert_eq!(file.login("bob", "b").await, Err(AuthError::WrongCredentials));
        assert_eq!(file.login("carol", "c").await, Ok(user("carol")));
    }

    #[tokio::test]
    async fn a_faulty_reload_keeps_the_old_users() {
        let file = File::new(&[("alice", "a")]);
        for text in ["", "alice:{SHA}x\n", "alice\n"] {
            file.rewrite(text);
            assert!(matches!(file.policy.reload(), Some(Err(_))));
            assert_eq!(file.login("alice", "a").await, Ok(user("alice")));
        }
        fs::remove_file(file.directory.path().join("htpasswd")).unwrap();
        let outcome = file.policy.reload();
        assert!(matches!(outcome, Some(Err(HtpasswdError::Unreadable { .. }))), "{outcome:?}");
        assert_eq!(file.login("alice", "a").await, Ok(user("alice")));
    }

    #[tokio::test]
    async fn debug_shows_only_the_number_of_users() {
        let file = File::new(&[("alice", "hunter2"), ("bob", "b")]);
        assert!(file.login("alice", "hunter2").await.is_ok());
        assert_eq!(format!("{:?}", file.policy), "Policy::htpasswd(Htpasswd { users: 2, .. })");
        assert_eq!(format!("{:?}", Policy::open()), "Policy::open");
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn only_the_right_password_passes(right in "\\PC{0,18}", wrong in "\\PC{0,18}", cut in 0_usize..18) {
            let file = File::new(&[("alice", &right)]);
            block_on(async {
                prop_assert_eq!(file.login("alice", &right).await, Ok(user("alice")));
                // A stranger, and neighbours: cut short, lengthened, doubled.
                let shortened: String = right.chars().take(cut).collect();
                for attempt in [wrong, shortened, format!("{right} "), format!("{right}{right}")] {
                    if attempt != right {
                        prop_assert_eq!(file.login("alice", &attempt).await.is_err(), true, "{:?}", attempt);
                    }
                }
                Ok(())
            })?;
        }
    }
}
