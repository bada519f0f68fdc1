//! Who calls, and whether they may: asked once per request, before anything else is looked at.

use crate::{app::App, error::ApiError};
use http::{HeaderMap, header};
use longshore_auth::{Action, AuthError, BasicCredentials, Decision, Principal};
use longshore_oci::{ErrorCode, RepositoryName};

/// Finds out who calls.
pub(crate) async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Principal, ApiError> {
    if !app.policy.asks_for_login() {
        return Ok(Principal::Anonymous);
    }
    let credentials = match headers.get(header::AUTHORIZATION) {
        None => None,
        Some(value) => {
            let value = value.to_str().map_err(|_| login_required(app, "the Authorization header is not text"))?;
            Some(BasicCredentials::parse_header(value).map_err(|error| login_required(app, &error.to_string()))?)
        }
    };
    app.policy.authenticate(credentials.as_ref()).await.map_err(|error| refused(app, &error))
}

/// Lets the caller pass, or says what is missing.
pub(crate) fn authorise(
    app: &App,
    caller: &Principal,
    action: Action,
    repository: Option<&RepositoryName>,
) -> Result<(), ApiError> {
    match app.policy.allows(caller, action, repository) {
        Decision::Allowed => Ok(()),
        Decision::LoginRequired => Err(login_required(app, "this registry asks for a login")),
        Decision::Denied => Err(ApiError::new(ErrorCode::Denied, "you may not do this here")),
    }
}

fn refused(app: &App, error: &AuthError) -> ApiError {
    match error {
        AuthError::WrongCredentials | AuthError::PasswordTooLong => login_required(app, &error.to_string()),
        AuthError::Busy | AuthError::Aborted => {
            ApiError::new(ErrorCode::TooManyRequests, error.to_string()).with_header(header::RETRY_AFTER, "1")
        }
    }
}

fn login_required(app: &App, message: &str) -> ApiError {
    let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", app.settings.auth.realm.replace(['"', '\\'], ""));
    ApiError::new(ErrorCode::Unauthorized, message).with_header(header::WWW_AUTHENTICATE, challenge)
}
