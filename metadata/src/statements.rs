//! How SQL is written down: as named constants, listed for the test that prepares each of them on both databases.

/// Declares SQL constants, and (for tests) the list of them all.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        $($(#[$doc])* pub(super) const $name: &str = $sql;)*

        /// Every statement of this file by its name.
        #[cfg(test)]
        pub(super) const STATEMENTS: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

/// Every statement of an engine, by its file and name: of the files that both have, and of these of its own.
#[cfg(test)]
macro_rules! every_statement {
    ($($own:ident)*) => {
        every_statement!(@of
            blobs collection contents damage finish garbage history inventory manifests old_blobs old_grants old_manifests
            parts preview pulls references repositories restore retention reviews scrub snapshot store_mark uploads usage $($own)*
        )
    };
    (@of $($file:ident)*) => {{
        let files: &[(&str, &[(&str, &'static str)])] = &[$((stringify!($file), $file::STATEMENTS)),*];
        let named = |(file, statements): &(&str, &[(&str, &'static str)])| -> Vec<(String, &'static str)> {
            statements.iter().map(|(name, sql)| (format!("{file}::{name}"), *sql)).collect()
        };
        files.iter().flat_map(named).collect::<Vec<_>>()
    }};
}
