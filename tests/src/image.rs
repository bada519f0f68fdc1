//! Images made on the spot: a static program in one layer, random bytes in another. No network, no base image.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::programs::{program, run};
use crate::scratch::Scratch;

/// Media type of an OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of a Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of an OCI image configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a gzip-compressed layer.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes with their digest: a blob, or a manifest, which is one by nature.
#[derive(Clone, Debug)]
pub struct Blob {
    /// What the bytes are.
    pub media_type: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// A blob of the given bytes.
    #[must_use]
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { media_type: media_type.to_owned(), digest: sha256(&bytes), bytes }
    }

    /// A JSON document as a blob.
    #[must_use]
    pub fn of_json(media_type: &str, document: &Value) -> Self {
        Self::new(media_type, document.to_string().into_bytes())
    }

    /// `length` random bytes, which no compression shortens and no other test has.
    #[must_use]
    pub fn random(length: usize) -> Self {
        Self::new("application/octet-stream", random_bytes(length))
    }

    /// Its descriptor: media type, digest, size.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// An image for the machine that the test runs on.
#[derive(Clone, Debug)]
pub struct Image {
    /// The configuration, with a history and the layers' diff ids.
    pub config: Blob,
    /// The layers: the program, then the payload.
    pub layers: Vec<Blob>,
    /// The manifest that names them.
    pub manifest: Blob,
    /// What running the image prints.
    pub prints: String,
}

impl Image {
    /// An image of a payload of `length` random bytes. Images share the program's layer and nothing else.
    #[must_use]
    pub fn random(length: usize) -> Self {
        let payload = random_bytes(length);
        let scratch = Scratch::new("image");
        let program = tar_of(&scratch, "hello", &fs::read(&*PROGRAM).expect("the program was just built"), "0755");
        let random = tar_of(&scratch, "payload", &payload, "0644");
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": ["/hello"], "Env": ["PATH=/"], "Labels": { "made-by": "longshore-tests" } },
            "rootfs": { "type": "layers", "diff_ids": [sha256(&program), sha256(&random)] },
            "history": [{ "created_by": "COPY hello /" }, { "created_by": "COPY payload /" }],
        });
        let config = Blob::of_json(CONFIG, &config);
        let layers = [program, random].map(|tar| Blob::new(LAYER_GZIP, gzip(&scratch, &tar))).to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        Self { config, layers, manifest: Blob::of_json(MANIFEST, &manifest), prints: greeting(&payload) }
    }

    /// Writes the image as an OCI image layout into the directory, under a tag.
    pub fn write_layout(&self, directory: &Path, tag: &str) {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap_or_else(|error| panic!("cannot create {}: {error}", blobs.display()));
        for blob in self.layers.iter().chain([&self.config, &self.manifest]) {
            let hex = blob.digest.trim_start_matches("sha256:");
            write(&blobs.join(hex), &blob.bytes);
        }
        let mut descriptor = self.manifest.descriptor();
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
        write(&directory.join("index.json"), index.to_string().as_bytes());
        write(&directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
    }

    /// Whether the directory is an OCI image layout that holds every part of this image, byte for byte.
    pub fn assert_in_layout(&self, directory: &Path) {
        for blob in self.layers.iter().chain([&self.config, &self.manifest]) {
            let path = directory.join("blobs").join(blob.digest.replace(':', "/"));
            let found = fs::read(&path).unwrap_or_else(|error| panic!("no {}: {error}", path.display()));
            assert!(found == blob.bytes, "{} differs from what was pushed", blob.digest);
        }
    }
}

/// Writes a directory from which `docker build` and `buildah build` make an image with a payload of `length` random
/// bytes. Returns what running the image prints.
#[must_use]
pub fn write_build_context(directory: &Path, length: usize) -> String {
    let payload = random_bytes(length);
    fs::copy(&*PROGRAM, directory.join("hello")).expect("the program was just built");
    write(&directory.join("payload"), &payload);
    write(&directory.join("Dockerfile"), b"FROM scratch\nCOPY hello /\nCOPY payload /\nENTRYPOINT [\"/hello\"]\n");
    greeting(&payload)
}

/// The static program `hello.c`, built once in a test process.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    // Kept for the whole process: removed at its end by the reaper, as statics are not dropped.
    static HOME: LazyLock<Scratch> = LazyLock::new(|| Scratch::new("hello"));
    let (source, executable) = (HOME.join("hello.c"), HOME.join("hello"));
    write(&source, include_bytes!("hello.c"));
    run(program("cc").args(["-static", "-O1", "-s", "-o"]).arg(&executable).arg(&source));
    executable
});

/// What `hello.c` prints for a payload: its 64-bit FNV-1a sum.
fn greeting(payload: &[u8]) -> String {
    let sum = payload
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("the payload sums to {sum:016x}")
}

fn tar_of(scratch: &Scratch, name: &str, content: &[u8], mode: &str) -> Vec<u8> {
    write(&scratch.join(name), content);
    let archive = scratch.join("layer.tar");
    let mut tar = program("tar");
    tar.args(["--format=ustar", "--owner=0", "--group=0", "--mtime=@0", "--mode", mode, "-cf"]).arg(&archive);
    run(tar.arg("-C").arg(scratch.path()).arg(name));
    fs::read(&archive).expect("tar has written it")
}

fn gzip(scratch: &Scratch, content: &[u8]) -> Vec<u8> {
    let path = scratch.join("to-compress");
    write(&path, content);
    run(program("gzip").args(["-n", "-1", "-f"]).arg(&path));
    fs::read(scratch.join("to-compress.gz")).expect("gzip has written it")
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// `length` random bytes.
#[must_use]
pub fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .expect("the kernel gives random bytes");
    bytes
}

/// `sha256:` and the hex digest of the bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// `sha512:` and the hex digest of the bytes.
#[must_use]
pub fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This machine's architecture in Go's words, which image configurations use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
