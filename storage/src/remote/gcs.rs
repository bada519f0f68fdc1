//! Buckets of Google Cloud Storage.

use super::{
    Backend,
    cloud::{Cloud, CloudStore, Said, Uploads, UploadsMarker, UploadsPage, elements, reason, told},
    connect::{Advice, CONNECT_TIMEOUT, client_options, retries, unusable},
    retry::{Retried, Retries, is_passing},
    retry_after::{Heeding, retry_after},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use longshore_config::Gcs;
use object_store::{
    gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder},
    path::Path,
};
use reqwest::RequestBuilder;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Where Google's own servers are.
const GOOGLE: &str = "https://storage.googleapis.com";
/// How long the store may take for one answer: an upload of thousands of parts takes it a while to end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

pub(super) const ADVICE: Advice = Advice {
    bucket: (&["NoSuchBucket"], "Make the bucket, or correct storage.gcs.bucket"),
    credentials: (
        &[
            "AccessDenied",
            "AuthenticationRequired",
            "InvalidSecurity",
            "ExpiredToken",
            "credentials",
            "service account",
        ],
        "Check storage.gcs.service_account, or what the machine gives in its place, and that it may read, write and delete \
         there",
    ),
    otherwise: "Check storage.gcs.endpoint",
};

impl CloudStore for GoogleCloudStorage {}

/// A bucket of Google Cloud Storage. Nothing is asked of it yet. URLs for others are signed for Google's own server.
///
/// # Errors
/// [`crate::Error::Unusable`] where the settings make no sense, or the service account's file cannot be read.
pub fn gcs_backend(settings: &Gcs) -> crate::Result<Arc<dyn Backend>> {
    let Gcs { bucket, endpoint, prefix, .. } = settings;
    let place = match endpoint {
        Some(endpoint) => format!("bucket {bucket} at {endpoint}"),
        None => format!("bucket {bucket} of Google Cloud Storage"),
    };
    let mut builder = match &settings.service_account {
        Some(path) => GoogleCloudStorageBuilder::new().with_service_account_path(path.to_string_lossy()),
        None => GoogleCloudStorageBuilder::from_env(),
    };
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let retried = Retried::default();
    let built = builder
        .with_bucket_name(bucket)
        .with_client_options(client_options(endpoint.as_deref()))
        .with_http_connector(Heeding(retried.clone()))
        .with_retry(retries())
        .build();
    let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build();
    match (built, http) {
        (Ok(store), Ok(http)) => {
            let bucket = format!("{}/{bucket}", endpoint.as_deref().unwrap_or(GOOGLE).trim_end_matches('/'));
            let uploads = GcsUploads { store: store.clone(), http, bucket };
            Ok(Arc::new(Cloud::new(store, "gcs", place, prefix).counting(retried).with_uploads(uploads)))
        }
        (Err(error), _) => Err(unusable(place, error.to_string(), &ADVICE)),
        (_, Err(error)) => Err(unusable(place, error.to_string(), &ADVICE)),
    }
}

/// Lists and ends uploads of Google's. They stay until somebody ends them.
#[derive(Debug)]
struct GcsUploads {
    store: GoogleCloudStorage,
    http: reqwest::Client,
    /// Its URL.
    bucket: String,
}

/// What became of a request that failed.
enum Failure {
    /// It would fail again.
    Final(String),
    /// It may succeed later; the store may have said when.
    Passing { said: String, retry_after: Option<Duration> },
}

impl GcsUploads {
    /// Sends a request until it succeeds or there is no use in it; answers the text of the answer.
    async fn ask(&self, request: impl Fn() -> RequestBuilder) -> Said<String> {
        let mut retries = Retries::begin();
        loop {
            let (said, retry_after) = match self.ask_once(request()).await {
                Ok(text) => return Ok(text),
                Err(Failure::Final(said)) => return Err(said),
                Err(Failure::Passing { said, retry_after }) => (said, retry_after),
            };
            let Some(pause) = retries.next_pause(retry_after) else { return Err(said) };
            tracing::debug!(%said, ?pause, "a request to the object store is sent again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request with the token of the moment.
    async fn ask_once(&self, request: RequestBuilder) -> Result<String, Failure> {
        // The crate has tried that again already.
        let token = self.store.credentials().get_credential().await.map_err(|error| Failure::Final(reason(&error)))?;
        let broken = |error| Failure::Passing { said: reason(&error), retry_after: None };
        let answer = request.bearer_auth(&token.bearer).send().await.map_err(broken)?;
        let status = answer.status();
        let retry_after = retry_after(answer.headers(), SystemTime::now());
        let text = answer.text().await.map_err(broken)?;
        // It may have begun its answer before it failed.
        let failed_late = text.contains("<Error>");
        if status.is_success() && !failed_late {
            return Ok(text);
        }
        let said = failure(status, &text);
        let is_passing = is_passing(status) || status.is_success() && LATE.iter().any(|code| said.starts_with(code));
        Err(if is_passing { Failure::Passing { said, retry_after } } else { Failure::Final(said) })
    }
}

/// What passing trouble is called in an answer that began well.
const LATE: [&str; 4] = ["InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"];

/// The code of the answer where it has one, as the other calls tell it.
fn failure(status: reqwest::StatusCode, text: &str) -> String {
    match elements(text, "Code").next() {
        Some(_) => told(text),
        None => format!("{status}: {text}"),
    }
}

/// How a path stands in a URL: what is not plain is encoded, or the object would get another key than its parts were sent to.
/// The crate encodes the slashes as well, which names the same key.
fn encoded(path: &Path) -> String {
    // That is for forms, where a space is a plus; a plus itself has been encoded.
    let one = |part: &str| form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20");
    let parts: Vec<_> = path.as_ref().split('/').map(one).collect();
    parts.join("/")
}

/// Text as it was before it stood in XML. Keys are compared with the marker, and those of a prefix with an ampersand have one.
fn unescaped(text: &str) -> String {
    let marks = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'"), ("&#39;", "'")];
    // The ampersand is the last, or what it makes would be taken for another mark.
    let marks = marks.into_iter().chain([("&amp;", "&")]);
    marks.fold(text.to_owned(), |text, (escaped, mark)| text.replace(escaped, mark))
}

impl Uploads for GcsUploads {
    fn page<'call>(
        &'call self,
        prefix: &'call str,
        after: Option<UploadsMarker>,
    ) -> BoxFuture<'call, Said<UploadsPage>> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("uploads", "").append_pair("prefix", prefix);
        if let Some((key, upload)) = &after {
            query.append_pair("key-marker", key);
            query.extend_pairs(upload.as_ref().map(|upload| ("upload-id-marker", upload)));
        }
        let query = query.finish();
        Box::pin(async move {
            let text = self.ask(|| self.http.get(format!("{}?{query}", self.bucket))).await?;
            let one = |text: &str, name: &str| elements(text, name).next().map(str::to_owned);
            let named = |upload: &str| Some((one(upload, "Key")?, one(upload, "UploadId")?));
            let next = one(&text, "NextKeyMarker").filter(|_| one(&text, "IsTruncated").as_deref() == Some("true"));
            let next = next.map(|key| (unescaped(&key), one(&text, "NextUploadIdMarker")));
            Ok(UploadsPage { uploads: elements(&text, "Upload").filter_map(named).collect(), next })
        })
    }

    /// Sent again where its outcome is not known. If it was done at first, the store knows the upload no more, and whoever
    /// completes it finds the object there.
    fn complete<'call>(
        &'call self,
        path: &'call Path,
        upload: &'call str,
        parts: Vec<(u32, String)>,
    ) -> BoxFuture<'call, Said<()>> {
        let part = |(number, name): &(u32, String)| {
            format!("<Part><PartNumber>{}</PartNumber><ETag>{name}</ETag></Part>", number + 1)
        };
        let parts: String = parts.iter().map(part).collect();
        Box::pin(async move {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("uploadId", upload).finish();
            let text = Bytes::from(format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"));
            let url = format!("{}/{}?{query}", self.bucket, encoded(path));
            let request = || self.http.post(&url).body(text.clone());
            self.ask(request).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{
        ClientOptions, ObjectStoreExt,
        client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService},
    };
    use std::sync::mpsc::{Sender, channel};

    /// Tells the paths of the URLs that are asked for, and has nothing there.
    #[derive(Debug, Clone)]
    struct Telling(Sender<String>);

    impl HttpConnector for Telling {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            Ok(HttpClient::new(self.clone()))
        }
    }

    impl HttpService for Telling {
        fn call<'this, 'call>(&'this self, request: HttpRequest) -> BoxFuture<'call, Result<HttpResponse, HttpError>>
        where
            'this: 'call,
            Self: 'call,
        {
            Box::pin(async move {
                self.0.send(request.uri().path().to_owned()).unwrap();
                Ok(HttpResponse::new(Bytes::new().into()))
            })
        }
    }

    /// The path of the URL at which the crate has this object.
    async fn asked_for(path: &Path) -> String {
        let (tell, told) = channel();
        let store = GoogleCloudStorageBuilder::new()
            .with_bucket_name("bucket")
            .with_skip_signature(true)
            .with_http_connector(Telling(tell))
            .build()
            .unwrap();
        // The answer lacks all that it should have.
        drop(store.head(path).await);
        told.try_recv().unwrap()
    }

    /// What a server makes of it.
    fn decoded(encoded: &str) -> String {
        assert!(!encoded.contains(['+', '&', '=']), "{encoded}");
        form_urlencoded::parse(encoded.as_bytes()).next().unwrap().0.into_owned()
    }

    #[tokio::test]
    async fn an_upload_ends_at_the_key_that_its_parts_were_sent_to() {
        assert_eq!(encoded(&Path::from("p/objects/0-1_2.3")), "p/objects/0-1_2.3");
        assert_eq!(encoded(&Path::from("a#b/c")), "a%2523b/c");
        for folder in ["100%", "a#b", "a~b", "a?b", "a b", "a+b", "a&b=c", "\u{e9}t\u{e9}", ".."] {
            let path = Path::from(format!("{folder}/objects/key"));
            assert_eq!(decoded(&encoded(&path)), path.as_ref());
            assert_eq!(decoded(&asked_for(&path).await), format!("/bucket/{path}"));
        }
    }

    #[test]
    fn a_key_is_read_out_of_xml() {
        assert_eq!(unescaped("plain%23/key"), "plain%23/key");
        assert_eq!(unescaped("R&amp;D &#39;s&apos; &lt;&gt;&quot;&#34; &amp;lt;"), "R&D 's' <>\"\" &lt;");
    }
}
