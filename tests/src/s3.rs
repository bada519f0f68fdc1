//! Objects in `MinIO`, read and written behind a registry's back: requests that are signed by hand, as AWS's signature
//! version 4 asks for.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Method, RequestBuilder, StatusCode};
use sha2::{Digest, Sha256};

use crate::client::{Client, body, expect, send};
use crate::minio::{ACCESS_KEY, BUCKET, Minio, SECRET_KEY};

/// What `MinIO` says where it is, unless it is told otherwise.
const REGION: &str = "us-east-1";
const SIGNED_HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";
/// SHA-256 works on blocks of so many bytes.
const BLOCK: usize = 64;

/// The bytes of an object, which must be there. Its key holds nothing that a URL would have to escape.
pub async fn object(minio: &Minio, key: &str) -> Vec<u8> {
    let answer = send(signed(minio, Method::GET, key, &[])).await;
    body(expect(answer, StatusCode::OK, key).await).await
}

/// Lets the object have these bytes.
pub async fn overwrite(minio: &Minio, key: &str, bytes: Vec<u8>) {
    let answer = send(signed(minio, Method::PUT, key, &bytes).body(bytes)).await;
    expect(answer, StatusCode::OK, key).await;
}

/// A request with its signature, for this body.
fn signed(minio: &Minio, method: Method, key: &str, body: &[u8]) -> RequestBuilder {
    let (path, stamp, hash) = (format!("/{BUCKET}/{key}"), stamp(SystemTime::now()), hex(&Sha256::digest(body)));
    let host = minio.address();
    let request = format!(
        "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{hash}\nx-amz-date:{stamp}\n\n{SIGNED_HEADERS}\n{hash}"
    );
    let scope = format!("{}/{REGION}/s3/aws4_request", &stamp[..8]);
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let signature = hex(&hmac(&signing_key(&scope), text.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={SIGNED_HEADERS}, Signature={signature}"
    );
    let request = Client::new(&minio.url()).request(method, &path);
    let request = request.header("x-amz-content-sha256", hash).header("x-amz-date", stamp);
    request.header("authorization", authorization)
}

/// The secret, bound to each part of the scope.
fn signing_key(scope: &str) -> Vec<u8> {
    let secret = format!("AWS4{SECRET_KEY}").into_bytes();
    scope.split('/').fold(secret, |key, part| hmac(&key, part.as_bytes()))
}

/// RFC 2104, with SHA-256. No key here is longer than a block.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..key.len()].copy_from_slice(key);
    let hash = |pad: u8, message: &[u8]| {
        let hasher = Sha256::new().chain_update(block.map(|byte| byte ^ pad));
        hasher.chain_update(message).finalize().to_vec()
    };
    hash(0x5c, &hash(0x36, message))
}

/// A time as `20231114T221320Z`: the days are counted in years that begin in March, as the leap day is their last then.
fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs();
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn codes_are_those_of_rfc_4231() {
        let code = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&code), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn stamps_are_dates() {
        let at = |seconds| stamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_782_400), "20000229T000000Z");
        assert_eq!(at(1_700_000_000), "20231114T221320Z");
    }
}
