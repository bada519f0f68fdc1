//! What answers have in common, and how they are read.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use longshore_tests::client::json;
use reqwest::Response;
use serde_json::Value;

/// The codes of the distribution specification, and ours for faults of the server.
const CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNKNOWN",
    "UNSUPPORTED",
];

/// What a client was told.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) detail: Value,
}

/// The value of a header that must be there, once.
pub(crate) fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    let mut values = answer.headers().get_all(name).iter();
    let value = values.next().unwrap_or_else(|| panic!("no {name} in {answer:?}"));
    assert!(values.next().is_none(), "{name} more than once in {answer:?}");
    value.to_str().unwrap_or_else(|error| panic!("{name} in {answer:?}: {error}"))
}

/// The headers that say something about the content, and not about the one exchange.
pub(crate) fn lasting_headers(answer: &Response) -> BTreeMap<String, String> {
    let of_the_exchange = ["date", "x-request-id"];
    let lasting = answer.headers().iter().filter(|(name, _)| !of_the_exchange.contains(&name.as_str()));
    lasting.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect()
}

/// Sees that an answer is an error with this status and code, well formed as the specification has it.
pub(crate) async fn assert_refused(answer: Response, status: u16, code: &str) -> Refusal {
    let url = answer.url().clone();
    assert_eq!(answer.status(), status, "{url}: {:?}", answer.text().await);
    assert_eq!(header(&answer, "content-type"), "application/json", "{url}");
    let body = json(answer).await;
    let refusal = read_refusal(&body, code);
    assert!(!refusal.message.is_empty(), "{url}: {body}");
    refusal
}

/// Reads an error's body, which must have this code.
pub(crate) fn read_refusal(body: &Value, code: &str) -> Refusal {
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no list of errors in {body}"));
    assert_eq!(errors.len(), 1, "{body}");
    assert_eq!(errors[0]["code"], code, "{body}");
    assert!(CODES.contains(&code), "{code} is no code of the specification");
    let message = errors[0]["message"].as_str().unwrap_or_else(|| panic!("no message in {body}"));
    Refusal { message: message.to_owned(), detail: errors[0]["detail"].clone() }
}

/// Where a `Link` leads that says `rel="next"`.
pub(crate) fn next_page(answer: &Response) -> Option<String> {
    let link = answer.headers().get("link")?.to_str().expect("a link is text");
    let (target, relation) = link.split_once("; ").expect("a link has a relation");
    assert_eq!(relation, "rel=\"next\"");
    Some(target.strip_prefix('<').and_then(|target| target.strip_suffix('>')).expect("a link's <target>").to_owned())
}

/// Asks again until there is an answer: for what the server does after a client can no longer be told.
pub(crate) async fn eventually<T, A: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> A) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not {what} after a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
