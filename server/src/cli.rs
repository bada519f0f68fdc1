//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use longshore_config::{ByteSize, Gc, SizeError};
use std::path::PathBuf;

/// An image registry: what `docker push` and `docker pull` talk to.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    /// What to do; serves if nothing is said.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) sources: SettingsSources,
}

/// Where settings come from: defaults < file < environment (LONGSHORE_SECTION__KEY) < flags.
#[derive(Debug, Args)]
pub(crate) struct SettingsSources {
    /// The settings file (YAML). Without one, everything has its default.
    #[arg(short, long, global = true, value_name = "FILE", env = "LONGSHORE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, for example `--set http.address=127.0.0.1:5001`; may be given many times.
    #[arg(short, long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(crate) set: Vec<(String, String)>,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the registry (what `longshore` alone does too).
    Serve,
    /// Bring the database's schema up to date, or look where it stands.
    Migrate {
        #[command(subcommand)]
        action: MigrateAction,
    },
    /// Look at a tag's past, and bring it back.
    Tag(TagOptions),
    /// Collect garbage now; the server does the same in the background. Exits with 3 where something holds it up.
    Gc(GcOptions),
    /// Read every object now and compare it with its digest; the server does the same in the background. Exits with 3 where
    /// something is damaged.
    Scrub(ScrubOptions),
    /// Compare the store of the objects with the database, both ways. Exits with 3 where something is not as it should be.
    Fsck(FsckOptions),
    /// Show where the bytes are: by repository, tag or layer.
    Du(DuOptions),
    /// Write what the database holds into the store of the objects, or into a file; servers go on meanwhile.
    Backup(BackupOptions),
    /// Fill a new, empty database from a backup, of whichever kind of database that was.
    Restore(RestoreOptions),
    /// Look at the settings.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Ask the server that runs with the same settings whether it is ready; exit with 1 if it is not.
    Health,
}

/// What to do with a tag.
#[derive(Debug, Clone, Args)]
pub(crate) struct TagOptions {
    #[command(subcommand)]
    pub(crate) action: TagAction,
    /// How to say what was found.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) output: OutputFormat,
}

/// What to do with a tag.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TagAction {
    /// What it named when, and who let it.
    History {
        /// NAME:TAG.
        name: String,
        /// At most so many changes, newest first.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// What it names, or named at a time: a digest to pull. Exits with 3 where that cannot be pulled any more.
    Show {
        /// NAME:TAG.
        name: String,
        /// A time such as 2026-11-20T08:00:00Z, or how long ago: 3h, 2d.
        #[arg(long)]
        at: Option<String>,
    },
    /// Let it name again what it named before.
    Restore {
        /// NAME:TAG.
        name: String,
        /// What it named then: a time such as 2026-11-20T08:00:00Z, or how long ago: 3h, 2d.
        #[arg(long, required_unless_present = "to", conflicts_with = "to")]
        at: Option<String>,
        /// This manifest.
        #[arg(long)]
        to: Option<String>,
    },
}

/// How to collect garbage.
#[derive(Debug, Clone, Args)]
pub(crate) struct GcOptions {
    /// Delete nothing: show what would go, how much that is, and what stays until when and why. JSON is one value a line.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) dry_run: bool,
    /// With --dry-run: name every manifest that waits to be looked at and is kept, with what keeps it.
    #[arg(long, requires = "dry_run")]
    pub(crate) kept: bool,
    /// Go on although the clock was moved, or much would be deleted.
    #[arg(long)]
    pub(crate) resume: bool,
    /// How to say what was done.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) output: OutputFormat,
    /// Something else than a pass.
    #[command(subcommand)]
    pub(crate) action: Option<GcAction>,
}

/// What else to do about garbage.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum GcAction {
    /// Say why a manifest or a blob stays, or that it goes.
    Why {
        /// NAME:TAG or NAME@DIGEST.
        name: String,
    },
}

/// How to read all objects.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScrubOptions {
    /// Read nothing: show what is known to be damaged, and who holds it.
    #[arg(long, conflicts_with_all = ["rate", "anew"])]
    pub(crate) list: bool,
    /// Begin at the beginning, also where a reading is under way. Without it that one is gone on with.
    #[arg(long)]
    pub(crate) anew: bool,
    /// At most so many bytes a second, such as 100MiB; 64KiB at least.
    #[arg(long, value_name = "BYTES", value_parser = scrub_rate)]
    pub(crate) rate: Option<ByteSize>,
    /// How to say what was found.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// How to compare.
#[derive(Debug, Clone, Args)]
pub(crate) struct FsckOptions {
    /// Mend what can be mended: a blob whose object is lost can be pushed anew, an object that no row names is deleted.
    /// Refused where so much is lost or stray that this looks like the wrong store or the wrong database.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Repair however much is found.
    #[arg(long, requires = "repair")]
    pub(crate) all: bool,
    /// An object, or an upload, that no row names counts when it is older: a server that starts writes one and deletes it again.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub(crate) older_than: humantime::Duration,
    /// How to say what was found.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// Whose bytes to show.
#[derive(Debug, Clone, Args)]
pub(crate) struct DuOptions {
    /// NAME shows what each of its tags leads to, and what deleting it would free; NAME:TAG shows its layers. Without one, all
    /// repositories are shown.
    pub(crate) name: Option<String>,
    /// Show what namespaces hold, as it counts for their quotas.
    #[arg(long, conflicts_with = "name")]
    pub(crate) namespaces: bool,
    /// How to say what was found; JSON is one value a line.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// How to back up.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupOptions {
    /// Write this file, or standard output where it is `-`, and nothing into the store.
    #[arg(long, value_name = "FILE", conflicts_with = "keep")]
    pub(crate) to: Option<PathBuf>,
    /// Keep so many backups in the store, with this one, and delete the older ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// How to say what was done.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) output: OutputFormat,
    /// Something else than a backup.
    #[command(subcommand)]
    pub(crate) action: Option<BackupAction>,
}

/// What else to do with backups.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum BackupAction {
    /// Show the backups in the store, the oldest first.
    List,
}

/// What to restore.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreOptions {
    /// A backup in the store, as `longshore backup list` names it, or `latest`.
    #[arg(value_name = "NAME", required_unless_present = "from", conflicts_with = "from")]
    pub(crate) name: Option<String>,
    /// Read this file, or standard input where it is `-`.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// How to say what was done.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// How a command says what it found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What to do with the schema.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum MigrateAction {
    /// Apply what is missing.
    Up,
    /// Show what is applied and what `up` would apply.
    Plan,
    /// Exit with 3 if anything is missing, without applying it.
    Check,
}

/// What to do with the settings.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ConfigAction {
    /// Load and validate; exit with 3 if something is wrong.
    Check,
    /// Show every setting as it is in force, and where it came from; secrets are masked.
    Show,
    /// Print the annotated reference: every key with its default.
    Reference,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE, for example log.level=debug")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

fn scrub_rate(text: &str) -> Result<ByteSize, String> {
    let rate: ByteSize = text.parse().map_err(|error: SizeError| error.to_string())?;
    if rate < Gc::SLOWEST_SCRUB {
        return Err(format!("{rate} is too slow: choose at least {}", Gc::SLOWEST_SCRUB));
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrub(rate: &str) -> Result<Option<ByteSize>, String> {
        match Arguments::try_parse_from(["longshore", "scrub", "--rate", rate]) {
            Ok(Arguments { command: Some(Command::Scrub(options)), .. }) => Ok(options.rate),
            Ok(arguments) => panic!("{arguments:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_scrub_is_not_slower_than_it_can_come_to_its_end() {
        assert_eq!(scrub("64KiB"), Ok(Some(ByteSize::kib(64))));
        for (slow, complaint) in [("63KiB", "63KiB is too slow: choose at least 64KiB"), ("0", "0 is too slow")] {
            let error = scrub(slow).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
        assert!(scrub("fast").unwrap_err().contains("\"fast\" is not a size"));
    }
}
