//! A user name and a password, as HTTP's Basic scheme carries them (RFC 7617).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;
use thiserror::Error;

/// Standard alphabet; some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user name and a password that nobody has verified yet. `Debug` masks the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    user: String,
    password: String,
}

/// Why the value of a Basic authorization cannot be read. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// Another scheme than Basic.
    #[error("the authorization is not of the Basic scheme: log in with a user name and a password")]
    OtherScheme,
    /// Not base64.
    #[error("the basic credentials are not base64")]
    Base64,
    /// Not UTF-8 once decoded.
    #[error("the basic credentials are not UTF-8: encode user name and password as UTF-8")]
    Encoding,
    /// No colon between user name and password.
    #[error("the basic credentials have no colon between user name and password")]
    NoColon,
    /// Control characters, which RFC 7617 forbids, and at which bcrypt would take one password for another.
    #[error("the basic credentials hold a control character")]
    ControlCharacter,
}

impl BasicCredentials {
    /// Credentials from their parts.
    ///
    /// # Errors
    /// [`CredentialsError::ControlCharacter`].
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Result<Self, CredentialsError> {
        let credentials = Self { user: user.into(), password: password.into() };
        if credentials.user.chars().chain(credentials.password.chars()).any(char::is_control) {
            return Err(CredentialsError::ControlCharacter);
        }
        Ok(credentials)
    }

    /// Reads the whole value of an `Authorization` header: `Basic`, in any letter case, and what [`Self::parse`] takes.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn parse_header(value: &str) -> Result<Self, CredentialsError> {
        match value.split_once(' ') {
            Some((scheme, credentials)) if scheme.eq_ignore_ascii_case("Basic") => Self::parse(credentials),
            _ => Err(CredentialsError::OtherScheme),
        }
    }

    /// Reads what follows `Basic ` in an `Authorization` header: base64 of `USER:PASSWORD`.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn parse(value: &str) -> Result<Self, CredentialsError> {
        let bytes = BASE64.decode(value.trim_matches(' ')).map_err(|_| CredentialsError::Base64)?;
        let text = String::from_utf8(bytes).map_err(|_| CredentialsError::Encoding)?;
        let (user, password) = text.split_once(':').ok_or(CredentialsError::NoColon)?;
        Self::new(user, password)
    }

    /// The name that the caller claims.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// For verification only: it must not reach a log or an error.
    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for BasicCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BasicCredentials").field("user", &self.user).field("password", &"********").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_clients_send() {
        let cases = [
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame"),
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ", "Aladdin", "open sesame"),
            (" dTpwOnE= ", "u", "p:q"),
            ("Og==", "", ""),
            ("dTrCow==", "u", "\u{a3}"),
        ];
        for (value, user, password) in cases {
            let credentials = BasicCredentials::parse(value).unwrap();
            assert_eq!((credentials.user(), credentials.password()), (user, password));
        }
    }

    #[test]
    fn refuses_the_rest() {
        let cases = [
            ("%%%", CredentialsError::Base64),
            ("dTpw dTpw", CredentialsError::Base64),
            ("", CredentialsError::NoColon),
            ("bm9jb2xvbg==", CredentialsError::NoColon),
            ("dTr/", CredentialsError::Encoding),
            ("dTpwAHA=", CredentialsError::ControlCharacter),
            ("dQA6cA==", CredentialsError::ControlCharacter),
        ];
        for (value, expected) in cases {
            assert_eq!(BasicCredentials::parse(value), Err(expected), "{value}");
        }
    }

    #[test]
    fn the_scheme_is_basic_in_any_letter_case() {
        for value in ["Basic dTpw", "basic dTpw", "BASIC  dTpw "] {
            assert_eq!(BasicCredentials::parse_header(value), BasicCredentials::new("u", "p"));
        }
        for value in ["Bearer QQ==", "dTpw", "Basic", "", "Basicx dTpw"] {
            assert_eq!(BasicCredentials::parse_header(value), Err(CredentialsError::OtherScheme), "{value}");
        }
    }

    #[test]
    fn debug_masks_the_password() {
        let credentials = BasicCredentials::new("alice", "hunter2").unwrap();
        assert_eq!(format!("{credentials:?}"), "BasicCredentials { user: \"alice\", password: \"********\" }");
    }

    proptest! {
        #[test]
        fn any_pair_without_control_characters_reads_back(user in "[^:\\pC]*", password in "\\PC*") {
            let value = BASE64.encode(format!("{user}:{password}"));
            prop_assert_eq!(BasicCredentials::parse(&value), BasicCredentials::new(user, password));
        }

        #[test]
        fn any_value_is_read_or_refused(value in "\\PC*") {
            let _ = BasicCredentials::parse(&value);
        }
    }
}
