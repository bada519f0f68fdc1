//! One test, both databases; and with objects in an object store as well.

use crate::minio::Minio;
use crate::postgres::Postgres;
use std::path::Path;

/// What a server can stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Embedded, a file beside the objects.
    Sqlite,
    /// A database of its own in the test process's Postgres, objects in files.
    Postgres,
    /// A database of its own in the test process's Postgres, objects in a folder of its own in its `MinIO`.
    S3,
}

impl Backend {
    /// The URL of a new, empty database; `directory` is where a database that is a file goes.
    #[must_use]
    pub fn new_database(self, directory: &Path) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", directory.join("longshore.sqlite").display()),
            Self::Postgres | Self::S3 => Postgres::shared().create_database(),
        }
    }
}

impl Backend {
    /// The settings of a new, empty store of objects, beside `storage.path`.
    #[must_use]
    pub fn new_store(self) -> Vec<(String, String)> {
        if self != Self::S3 {
            return Vec::new();
        }
        Minio::shared().new_store()
    }
}

/// As [`on_both!`](crate::on_both), and a third test, `NAME::s3`, with objects in an object store: for what moves bytes.
#[macro_export]
macro_rules! on_all {
    ($($name:ident),+ $(,)?) => {
        $crate::on_both!($($name),+);

        mod on_s3 {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::backends::Backend::S3).await;
            }
        )+}
    };
}

/// Makes two tests of each named function, `NAME::sqlite` and `NAME::postgres`. The functions are
/// `async fn NAME(backend: Backend)` in the same file; the caller's crate must have tokio.
///
/// ```ignore
/// on_both!(a_pushed_blob_is_served);
///
/// async fn a_pushed_blob_is_served(backend: Backend) {
///     let server = Server::start(Options::on(backend));
/// }
/// ```
#[macro_export]
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::backends::Backend;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(Backend::Postgres).await;
            }
        }
    )+};
}

/// As [`on_both!`](crate::on_both), for functions that are not async: `fn NAME(backend: Backend)`.
#[macro_export]
macro_rules! on_both_blocking {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::backends::Backend;

            #[test]
            fn sqlite() {
                super::$name(Backend::Sqlite);
            }

            #[test]
            fn postgres() {
                super::$name(Backend::Postgres);
            }
        }
    )+};
}
