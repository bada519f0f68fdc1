//! A thin client of the registry API for tests: the few calls that every test repeats, and any request by hand.
//!
//! It hides nothing: calls that a test makes for their answer return the response, whatever its status. What a request
//! line or header of a well-formed client cannot say goes through [`crate::raw`].

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use crate::image::{Blob, DOCKER_LIST, DOCKER_MANIFEST, INDEX, Image, MANIFEST};

/// A client of one registry, with one person's credentials or none.
#[derive(Clone, Debug)]
pub struct Client {
    root: Url,
    http: reqwest::Client,
    credentials: Option<(String, String)>,
}

impl Client {
    /// An anonymous client of the registry at `root`, such as `http://127.0.0.1:5000`.
    #[must_use]
    pub fn new(root: &str) -> Self {
        let root = Url::parse(root).unwrap_or_else(|error| panic!("{root} is no URL: {error}"));
        Self { root, http: build(reqwest::Client::builder()), credentials: None }
    }

    /// The same client, speaking HTTP/2 from its first byte on.
    #[must_use]
    pub fn over_http2(mut self) -> Self {
        self.http = build(reqwest::Client::builder().http2_prior_knowledge());
        self
    }

    /// The same client with a user's name and password.
    #[must_use]
    pub fn with_basic(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// A request to `target`: a path (`/v2/...`) or a `Location` as the server gave it, relative or absolute.
    pub fn request(&self, method: Method, target: &str) -> RequestBuilder {
        let url = self.root.join(target).unwrap_or_else(|error| panic!("{target} is no path or URL: {error}"));
        let request = self.http.request(method, url);
        match &self.credentials {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    /// GET of a path or URL.
    pub async fn get(&self, target: &str) -> Response {
        send(self.request(Method::GET, target)).await
    }

    /// A number of the server's own account: a line of its metrics without labels.
    pub async fn metric(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics").await.text().await.expect("metrics are text");
        let number = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {metrics}"))
    }

    /// HEAD of a path or URL.
    pub async fn head(&self, target: &str) -> Response {
        send(self.request(Method::HEAD, target)).await
    }

    /// DELETE of a path or URL.
    pub async fn delete(&self, target: &str) -> Response {
        send(self.request(Method::DELETE, target)).await
    }

    /// Opens an upload session and returns its location.
    pub async fn start_upload(&self, repository: &str) -> String {
        let request = self.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/"));
        let opened = send(request.header(CONTENT_LENGTH, 0)).await;
        assert_eq!(opened.status(), StatusCode::ACCEPTED, "opening an upload in {repository}");
        location(opened.headers())
    }

    /// PATCH of a chunk, with `Content-Range` when `start` is given. The answer's `Location` is the next one to use.
    pub async fn send_chunk(
        &self,
        upload: &str,
        start: Option<u64>,
        chunk: impl Into<reqwest::Body> + AsRef<[u8]>,
    ) -> Response {
        let mut request = self.request(Method::PATCH, upload).header(CONTENT_TYPE, "application/octet-stream");
        if let Some(start) = start {
            let last = start + chunk.as_ref().len() as u64 - 1;
            request = request.header("content-range", format!("{start}-{last}"));
        }
        send(request.body(chunk)).await
    }

    /// PUT that closes an upload session under `digest`, with the last bytes or with none.
    pub async fn finish_upload(&self, upload: &str, digest: &str, last: impl Into<reqwest::Body>) -> Response {
        let joint = if upload.contains('?') { '&' } else { '?' };
        let request = self.request(Method::PUT, &format!("{upload}{joint}digest={digest}"));
        send(request.header(CONTENT_TYPE, "application/octet-stream").body(last)).await
    }

    /// Pushes a blob by POST and PUT; it must be accepted.
    pub async fn push_blob(&self, repository: &str, blob: &Blob) {
        let upload = self.start_upload(repository).await;
        let pushed = self.finish_upload(&upload, &blob.digest, blob.bytes.clone()).await;
        expect(pushed, StatusCode::CREATED, &format!("blob {} of {repository}", blob.digest)).await;
    }

    /// PUT of a manifest under a tag or digest.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let request = self.request(Method::PUT, &format!("/v2/{repository}/manifests/{reference}"));
        send(request.header(CONTENT_TYPE, media_type).body(body)).await
    }

    /// Pushes a manifest whose parts are there; it must be accepted.
    pub async fn push_manifest(&self, repository: &str, reference: &str, manifest: &Blob) {
        let pushed = self.put_manifest(repository, reference, &manifest.media_type, manifest.bytes.clone()).await;
        expect(pushed, StatusCode::CREATED, &format!("manifest {repository}:{reference}")).await;
    }

    /// Pushes an image, its blobs first, under a tag.
    pub async fn push_image(&self, repository: &str, tag: &str, image: &Image) {
        for blob in image.layers.iter().chain([&image.config]) {
            self.push_blob(repository, blob).await;
        }
        self.push_manifest(repository, tag, &image.manifest).await;
    }

    /// GET of a manifest by tag or digest, whatever its type.
    pub async fn get_manifest(&self, repository: &str, reference: &str) -> Response {
        let request = self.request(Method::GET, &format!("/v2/{repository}/manifests/{reference}"));
        send(request.header(ACCEPT, format!("{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"))).await
    }

    /// GET of a blob.
    pub async fn get_blob(&self, repository: &str, digest: &str) -> Response {
        self.get(&format!("/v2/{repository}/blobs/{digest}")).await
    }

    /// The bytes of a blob that must be there.
    pub async fn blob(&self, repository: &str, digest: &str) -> Vec<u8> {
        let answer = expect(self.get_blob(repository, digest).await, StatusCode::OK, digest).await;
        body(answer).await
    }

    /// The bytes of a manifest that must be there.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Vec<u8> {
        let answer = expect(self.get_manifest(repository, reference).await, StatusCode::OK, reference).await;
        body(answer).await
    }

    /// The tags of a repository that must be there.
    pub async fn tags(&self, repository: &str) -> Vec<String> {
        let answer = expect(self.get(&format!("/v2/{repository}/tags/list")).await, StatusCode::OK, repository).await;
        let list = json(answer).await;
        let tags = list["tags"].as_array().unwrap_or_else(|| panic!("no list of tags in {list}"));
        tags.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Asks for every part of an image and compares it with what was pushed.
    pub async fn assert_serves(&self, repository: &str, reference: &str, image: &Image) {
        assert!(self.manifest(repository, reference).await == image.manifest.bytes, "{repository}:{reference} differs");
        for blob in image.layers.iter().chain([&image.config]) {
            assert!(self.blob(repository, &blob.digest).await == blob.bytes, "{} of {repository} differs", blob.digest);
        }
    }
}

fn build(http: reqwest::ClientBuilder) -> reqwest::Client {
    // It has to be there even for who never speaks TLS. Fails where there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = http.no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    http.expect("the client has no settings that can fail")
}

/// Sends a request; the connection must hold until the answer's head is there.
pub async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
}

/// The answer if it has `status`, else a panic that shows what the server said.
pub async fn expect(answer: Response, status: StatusCode, what: &str) -> Response {
    if answer.status() == status {
        return answer;
    }
    let (got, url) = (answer.status(), answer.url().to_string());
    panic!("{what}: {url} answered {got}, not {status}: {}", answer.text().await.unwrap_or_default());
}

/// The body of an answer, whole.
pub async fn body(answer: Response) -> Vec<u8> {
    answer.bytes().await.unwrap_or_else(|error| panic!("the body broke off: {error:?}")).to_vec()
}

/// The body of an answer as JSON.
pub async fn json(answer: Response) -> Value {
    let body = body(answer).await;
    serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&body)))
}

/// The `code` of the first error in an answer's OCI error body.
pub async fn error_code(answer: Response) -> String {
    let body = json(answer).await;
    body["errors"][0]["code"].as_str().unwrap_or_else(|| panic!("no error code in {body}")).to_owned()
}

/// The `Location` of an answer.
#[must_use]
pub fn location(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    location.unwrap_or_else(|| panic!("no Location in {headers:?}")).to_owned()
}
