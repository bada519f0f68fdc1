#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod credentials;
mod error;
mod htpasswd;
mod policy;
mod principal;
mod verifier;

pub use credentials::{BasicCredentials, CredentialsError};
pub use error::AuthError;
pub use htpasswd::{Htpasswd, HtpasswdError};
pub use policy::{Action, Decision, Policy};
pub use principal::Principal;
