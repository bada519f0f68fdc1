//! Users in an htpasswd file: `USER:HASH` lines, bcrypt only.
//!
//! Owns the parsed file and its reload. Verifies nothing: see [`crate::verifier`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

/// The variants of bcrypt that compute the same; `$2x$` marks a broken one.
const BCRYPT_PREFIXES: [&str; 3] = ["$2a$", "$2b$", "$2y$"];

/// What bcrypt defines at least, and what a login may cost at most: some seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// The users of an htpasswd file, which may be read again at any time.
pub struct Htpasswd {
    path: PathBuf,
    users: RwLock<Arc<Users>>,
}

/// Why an htpasswd file is refused. Never holds a hash.
#[derive(Debug, Error)]
pub enum HtpasswdError {
    /// The file cannot be read.
    #[error("{}: cannot read the users: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No user in it: nobody could log in.
    #[error("{}: no users: make one with `htpasswd -B -c {} USER`", path.display(), path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// One line cannot be used.
    #[error("{}:{line}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// What is wrong with one line of an htpasswd file.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum LineFault {
    /// Not `USER:HASH`.
    #[error("expected USER:HASH: make the line with `htpasswd -B FILE USER`")]
    Malformed,
    /// A hash of another kind.
    #[error(
        "the password of {user:?} is not hashed by bcrypt but by {scheme}: make it anew with `htpasswd -B FILE {user}`"
    )]
    NotBcrypt {
        /// The user.
        user: String,
        /// What it looks like.
        scheme: &'static str,
    },
    /// It begins like bcrypt, but is damaged.
    #[error("the bcrypt hash of {user:?} is damaged: make it anew with `htpasswd -B FILE {user}`")]
    Damaged {
        /// The user.
        user: String,
    },
    /// Too cheap for bcrypt, or so dear that a login would take minutes.
    #[error("the bcrypt cost {cost} of {user:?} is out of range: choose {} to {} with `htpasswd -B -C COST FILE {user}`", COSTS.start(), COSTS.end())]
    Cost {
        /// The user.
        user: String,
        /// The cost in the file.
        cost: u32,
    },
    /// The same user twice: it would be a matter of luck which password holds.
    #[error("the user {user:?} is already in line {first_line}: remove one of the two")]
    Duplicate {
        /// The user.
        user: String,
        /// Where it stood first.
        first_line: usize,
    },
}

impl Htpasswd {
    /// Reads the users of a file.
    ///
    /// # Errors
    /// See [`HtpasswdError`]; the first faulty line.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, HtpasswdError> {
        let path = path.into();
        let users = Users::read(&path)?;
        Ok(Self { path, users: RwLock::new(Arc::new(users)) })
    }

    /// Reads the file again and tells how many users there are; the old users stay when it is faulty.
    ///
    /// Reads the disk: call it off the async workers' hot path.
    ///
    /// # Errors
    /// See [`HtpasswdError`].
    pub fn reload(&self) -> Result<usize, HtpasswdError> {
        let users = Arc::new(Users::read(&self.path)?);
        let count = users.count();
        // Nothing under this lock can panic half-way: a poisoned one still holds whole users.
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
        Ok(count)
    }

    /// The users at this moment.
    pub(crate) fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Only how many users there are: no name, no hash.
impl fmt::Debug for Htpasswd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Htpasswd").field("users", &self.users().count()).finish_non_exhaustive()
    }
}

/// The users of one reading of the file.
pub(crate) struct Users {
    hashes: HashMap<Arc<str>, Arc<str>>,
    /// What unknown users are verified against, as dear as the dearest hash in the file.
    dummy: Arc<str>,
}

/// A user as claimed, with the hash to verify the password against.
pub(crate) struct Claim {
    /// The user, if there is one.
    pub(crate) user: Option<Arc<str>>,
    /// The user's hash; for unknown users one that costs as much time.
    pub(crate) hash: Arc<str>,
}

impl Users {
    fn read(path: &Path) -> Result<Self, HtpasswdError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| HtpasswdError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, HtpasswdError> {
        let mut hashes: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        let mut lines: HashMap<Arc<str>, usize> = HashMap::new();
        let mut dearest = None;
        for (index, text) in text.lines().enumerate() {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let faulty = |fault| HtpasswdError::Line { path: path.to_owned(), line, fault };
            let (user, hash, cost) = parse_line(text).map_err(faulty)?;
            let user: Arc<str> = Arc::from(user);
            match lines.entry(Arc::clone(&user)) {
                Entry::Occupied(first) => {
                    return Err(faulty(LineFault::Duplicate { user: user.to_string(), first_line: *first.get() }));
                }
                Entry::Vacant(vacant) => vacant.insert(line),
            };
            hashes.insert(user, Arc::from(hash));
            dearest = dearest.max(Some(cost));
        }
        let Some(dearest) = dearest else {
            return Err(HtpasswdError::Empty { path: path.to_owned() });
        };
        Ok(Self { hashes, dummy: dummy_hash(dearest) })
    }

    fn count(&self) -> usize {
        self.hashes.len()
    }

    /// What to verify for a claimed user name: there is always something, so that time does not tell who exists.
    pub(crate) fn claim(&self, user: &str) -> Claim {
        match self.hashes.get_key_value(user) {
            Some((user, hash)) => Claim { user: Some(Arc::clone(user)), hash: Arc::clone(hash) },
            None => Claim { user: None, hash: Arc::clone(&self.dummy) },
        }
    }
}

/// The user, the hash and its cost.
fn parse_line(line: &str) -> Result<(&str, &str, u32), LineFault> {
    let (user, hash) = line.split_once(':').ok_or(LineFault::Malformed)?;
    if user.is_empty() || hash.is_empty() {
        return Err(LineFault::Malformed);
    }
    if !BCRYPT_PREFIXES.iter().any(|prefix| hash.starts_with(prefix)) {
        return Err(LineFault::NotBcrypt { user: user.to_owned(), scheme: guess_scheme(hash) });
    }
    let parts = bcrypt::HashParts::from_str(hash).map_err(|_| LineFault::Damaged { user: user.to_owned() })?;
    let cost = parts.get_cost();
    if !COSTS.contains(&cost) {
        return Err(LineFault::Cost { user: user.to_owned(), cost });
    }
    Ok((user, hash, cost))
}

/// What a hash that is not bcrypt looks like.
fn guess_scheme(hash: &str) -> &'static str {
    const SCHEMES: [(&str, &str); 7] = [
        ("$apr1$", "Apache's MD5"),
        ("{SHA}", "SHA-1"),
        ("$1$", "MD5"),
        ("$5$", "SHA-256"),
        ("$6$", "SHA-512"),
        ("$2x$", "a broken variant of bcrypt"),
        ("$argon2", "Argon2"),
    ];
    for (prefix, scheme) in SCHEMES {
        if hash.starts_with(prefix) {
            return scheme;
        }
    }
    "crypt or nothing at all"
}

/// A well-formed hash of the given cost. Whether a password matches it is of no account: it belongs to nobody.
fn dummy_hash(cost: u32) -> Arc<str> {
    Arc::from(format!("$2b${cost:02}${}", ".".repeat(53)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$Y7sX5xr4cko/NfK3wmtrtu6jX8vQ7p88ZUIptuyRvvxieIgM8W5qu";

    fn parse(text: &str) -> Result<Users, HtpasswdError> {
        Users::parse(Path::new("users"), text)
    }

    #[track_caller]
    fn assert_refused(text: &str, expected: &str) {
        let error = parse(text).err().expect("the file is faulty");
        assert_eq!(error.to_string(), expected);
        assert!(!format!("{error:?}").contains(&HASH[7..]), "{error:?}");
    }

    #[test]
    fn comments_blank_lines_and_other_line_ends_are_fine() {
        let users = parse(&format!("# people\n\nalice:{HASH}\r\n  \n  bob:{HASH}  \n")).unwrap();
        assert_eq!(users.count(), 2);
        assert_eq!(users.claim("alice").user.as_deref(), Some("alice"));
        assert_eq!(&*users.claim("bob").hash, HASH);
    }

    #[test]
    fn all_three_spellings_of_bcrypt_are_taken() {
        for prefix in BCRYPT_PREFIXES {
            assert!(parse(&format!("alice:{prefix}{}", &HASH[4..])).is_ok(), "{prefix}");
        }
    }

    #[test]
    fn unknown_users_get_the_dearest_cost() {
        let dear = HASH.replace("$05$", "$07$");
        let users = parse(&format!("alice:{HASH}\nbob:{dear}\ncarol:{HASH}\n")).unwrap();
        let claim = users.claim("mallory");
        assert_eq!(claim.user, None);
        assert_eq!(bcrypt::HashParts::from_str(&claim.hash).unwrap().get_cost(), 7);
    }

    #[test]
    fn faulty_lines_are_named() {
        let scheme = |scheme| {
            format!(
                "users:2: the password of \"bob\" is not hashed by bcrypt but by {scheme}: make it anew with `htpasswd -B FILE bob`"
            )
        };
        let second = |line: &str| format!("alice:{HASH}\n{line}\n");
        assert_refused(&second("bob:$apr1$x$y"), &scheme("Apache's MD5"));
        assert_refused(&second("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="), &scheme("SHA-1"));
        assert_refused(&second("bob:$6$x$y"), &scheme("SHA-512"));
        assert_refused(&second("bob:plain"), &scheme("crypt or nothing at all"));
        assert_refused(&second(&format!("bob:$2x{}", &HASH[3..])), &scheme("a broken variant of bcrypt"));
        let malformed = "users:2: expected USER:HASH: make the line with `htpasswd -B FILE USER`";
        assert_refused(&second("bob"), malformed);
        assert_refused(&second(":hash"), malformed);
        assert_refused(&second("bob:"), malformed);
        assert_refused(
            &second(&format!("bob:{}", &HASH[..59])),
            "users:2: the bcrypt hash of \"bob\" is damaged: make it anew with `htpasswd -B FILE bob`",
        );
        for (cost, written) in [("03", 3), ("17", 17), ("31", 31)] {
            assert_refused(
                &second(&format!("bob:{}", HASH.replace("$05$", &format!("${cost}$")))),
                &format!(
                    "users:2: the bcrypt cost {written} of \"bob\" is out of range: \
                     choose 4 to 16 with `htpasswd -B -C COST FILE bob`"
                ),
            );
        }
        assert_refused(
            &second(&format!("\nalice:{HASH}")),
            "users:3: the user \"alice\" is already in line 1: remove one of the two",
        );
    }

    #[test]
    fn a_file_without_users_is_refused() {
        for text in ["", "\n", "# nobody yet\n"] {
            assert_refused(text, "users: no users: make one with `htpasswd -B -c users USER`");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        assert_eq!(
            Htpasswd::read("/nowhere/users").unwrap_err().to_string(),
            "/nowhere/users: cannot read the users: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn debug_shows_only_the_number_of_users() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        std::fs::write(&path, format!("alice:{HASH}\n")).unwrap();
        assert_eq!(format!("{:?}", Htpasswd::read(&path).unwrap()), "Htpasswd { users: 1, .. }");
    }
}
