//! What stands in for Google Cloud Storage: its XML API, of which it says itself that it is S3's, in front of a real S3
//! server. What is Google's own is the login: a token that the service account signs for itself.
//!
//! There is no better one. fake-gcs-server has neither this API's way to write an object nor its uploads in parts (its issues
//! 331 and 852), and those are what clients in Rust use.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::middleman::{Fault, Faults, Head, Middleman};
use crate::programs::{program, run};
use crate::scratch::Scratch;

/// The id of the service account's key.
const KEY_ID: &str = "longshore-1";
/// How tokens that are signed with it begin: `{"typ":"JWT","alg":"RS256","kid":"longshore-1"}` in base64.
const TOKEN: &str = "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsImtpZCI6ImxvbmdzaG9yZS0xIn0.";

/// What it says to who is not let in.
const STRANGER: &str = "401 Unauthorized\r\n\r\n\
                        <Error><Code>AuthenticationRequired</Code><Message>Authentication required.</Message></Error>";

/// A stand-in for Google Cloud Storage on 127.0.0.1.
#[derive(Debug)]
pub struct Gcs {
    middleman: Middleman,
    faults: Faults,
    scratch: Scratch,
    private_key: String,
}

impl Gcs {
    /// Passes what comes with the service account's token on to the S3 server at `server` (`host:port`), as what anyone
    /// may ask: the bucket must be open to everyone there.
    #[must_use]
    pub fn in_front_of(server: &str) -> Self {
        let faults = Faults::default();
        let planned = faults.clone();
        let middleman = Middleman::in_front_of(server, move |head| {
            if !has_token(head) {
                return Some(Fault::Refused(STRANGER));
            }
            head.remove("authorization");
            planned.next(head)
        });
        let mut make_key: Command = program("openssl");
        make_key.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        Self { middleman, faults, scratch: Scratch::new("gcs"), private_key: run(&mut make_key) }
    }

    /// What is to go wrong with requests that are let in.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.middleman.url()
    }

    /// The file with the key of the service account that is let in.
    #[must_use]
    pub fn service_account(&self) -> PathBuf {
        self.account_with(KEY_ID)
    }

    /// That of another one.
    #[must_use]
    pub fn strange_account(&self) -> PathBuf {
        self.account_with("somebody-1")
    }

    fn account_with(&self, key_id: &str) -> PathBuf {
        let path = self.scratch.join(&format!("{key_id}.json"));
        let key = self.private_key.replace('\n', "\\n");
        let email = "longshore@project.iam.gserviceaccount.com";
        let json = format!(
            r#"{{"type":"service_account","private_key_id":"{key_id}","private_key":"{key}","client_email":"{email}"}}"#
        );
        fs::write(&path, json).expect("a scratch directory can be written");
        path
    }
}

fn has_token(head: &Head) -> bool {
    head.header("authorization").is_some_and(|value| value.starts_with(TOKEN))
}
