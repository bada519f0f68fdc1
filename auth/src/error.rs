//! Why a caller's identity could not be established.

use thiserror::Error;

/// Why credentials were not accepted. Never holds a password, nor tells whether the user exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthError {
    /// Unknown user, or not this user's password.
    #[error("wrong user name or password")]
    WrongCredentials,
    /// Beyond what bcrypt looks at: two such passwords with the same beginning would be the same to it.
    #[error("the password is longer than 72 bytes, of which bcrypt knows only the first 72: choose a shorter one")]
    PasswordTooLong,
    /// More logins wait for verification than will be served soon; the caller should come back in some seconds.
    #[error("too many logins at once: try again in a few seconds")]
    Busy,
    /// The verification did not come to an end: the server is stopping, or it has a defect.
    #[error("the login could not be verified")]
    Aborted,
}
