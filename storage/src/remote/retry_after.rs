//! A store that says when to come again (`Retry-After`, with 429 or 503) is taken at its word. The `object_store` crate
//! tries again after a pause of its own, which begins at a tenth of a second, so its answer is held back until then.
//!
//! Only the request that was told to wait waits: another one may be for a part of the store that has nothing to do. The
//! one in twenty reads that is asked for twice, because its first byte is late, may come again sooner.

use super::retry::{Retried, is_passing};
use futures_util::future::BoxFuture;
use object_store::{
    ClientOptions, Result,
    client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector},
};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// What is waited at most, before up to a quarter of it is added: some stores ask for a minute whatever it is that they
/// lack. We ask no client of ours to wait longer, and nine answers of this kind fit into the time in which a request is
/// tried again.
const LONGEST: Duration = Duration::from_secs(8);

/// Makes the HTTP client that waits, and counts what failed in passing.
#[derive(Debug)]
pub(super) struct Heeding(pub(super) Retried);

impl HttpConnector for Heeding {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(HeedingClient { inner, retried: self.0.clone() }))
    }
}

#[derive(Debug)]
struct HeedingClient {
    inner: HttpClient,
    retried: Retried,
}

impl HttpService for HeedingClient {
    fn call<'this, 'call>(&'this self, request: HttpRequest) -> BoxFuture<'call, Result<HttpResponse, HttpError>>
    where
        'this: 'call,
        Self: 'call,
    {
        Box::pin(async move {
            let answer = self.inner.execute(request).await;
            if answer.as_ref().map_or(true, |answer| is_passing(answer.status())) {
                self.retried.count();
            }
            let answer = answer?;
            let Some(wait) = told_to_wait(&answer, SystemTime::now()) else { return Ok(answer) };
            // All of it, so that its connection can serve others meanwhile.
            let (head, body) = answer.into_parts();
            let body = body.bytes().await?;
            tracing::debug!(status = %head.status, ?wait, "the object store asks to come again later");
            tokio::time::sleep(wait).await;
            Ok(HttpResponse::from_parts(head, body.into()))
        })
    }
}

/// How long to wait until the request is made again, where the answer asks for that.
fn told_to_wait(answer: &HttpResponse, now: SystemTime) -> Option<Duration> {
    if !matches!(answer.status().as_u16(), 429 | 503) {
        return None;
    }
    let wait = retry_after(answer.headers(), now)?;
    // Those who were told at the same moment do not all come at the same moment.
    let share = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    Some(wait.min(LONGEST).mul_f64(1.0 + share / 4.0))
}

/// After how long the store wants to be asked again: it says how many seconds, or when. Whatever it says; the caller
/// bounds it.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let told = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match told.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(told).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::client::HttpRequestBody;
    use std::collections::HashSet;
    use tokio::time::Instant;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn answer(status: u16, retry_after: Option<&str>) -> HttpResponse {
        let mut answer = HttpResponse::new("slow down".to_owned().into());
        *answer.status_mut() = status.try_into().unwrap();
        if let Some(value) = retry_after {
            answer.headers_mut().insert("retry-after", value.parse().unwrap());
        }
        answer
    }

    fn wait(status: u16, retry_after: &str) -> Option<Duration> {
        told_to_wait(&answer(status, Some(retry_after)), SystemTime::UNIX_EPOCH + NOW)
    }

    #[test]
    fn seconds_and_dates_are_understood_and_bounded() {
        let in_three = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(3));
        for (told, seconds) in [("3", 3), (" 3 ", 3), (&in_three, 3), ("0", 0), ("60", 8), ("18446744073709551615", 8)]
        {
            for status in [429, 503] {
                let wait = wait(status, told).unwrap();
                let least = Duration::from_secs(seconds);
                assert!((least..=least + least / 4).contains(&wait), "{status} {told}: {wait:?}");
            }
        }
        let past = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH);
        for told in ["", "soon", "-1", "1.5", "18446744073709551616", &past] {
            assert_eq!(wait(503, told), None, "{told}");
        }
        for status in [200, 206, 404, 500, 502] {
            assert_eq!(wait(status, "3"), None, "{status}");
        }
        assert_eq!(told_to_wait(&answer(503, None), SystemTime::now()), None);
    }

    #[test]
    fn not_all_come_at_the_same_moment() {
        let waits: HashSet<Option<Duration>> = (0..100).map(|_| wait(503, "4")).collect();
        assert!(waits.len() > 50, "{waits:?}");
    }

    /// Gives the same answer to all requests.
    #[derive(Debug)]
    struct Answers(u16, Option<&'static str>);

    impl HttpService for Answers {
        fn call<'this, 'call>(&'this self, _: HttpRequest) -> BoxFuture<'call, Result<HttpResponse, HttpError>>
        where
            'this: 'call,
            Self: 'call,
        {
            Box::pin(async move { Ok(answer(self.0, self.1)) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_is_handed_on_whole_when_it_is_time() {
        for (status, told, least) in [(503, Some("3"), 3), (429, Some("60"), 8), (503, None, 0), (200, Some("3"), 0)] {
            let retried = Retried::default();
            let client = HeedingClient { inner: HttpClient::new(Answers(status, told)), retried: retried.clone() };
            let begin = Instant::now();
            let answer = client.call(HttpRequest::new(HttpRequestBody::empty())).await.unwrap();
            let (least, waited) = (Duration::from_secs(least), begin.elapsed());
            // The clock of a test moves by whole milliseconds.
            let most = least + least / 4 + Duration::from_millis(1);
            assert!((least..=most).contains(&waited), "{status} {told:?}: {waited:?}");
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(answer.into_body().bytes().await.unwrap(), "slow down");
            assert_eq!(retried.total(), u64::from(status != 200), "{status}");
        }
    }
}
