//! Rules that say which tags stay: what the commands say of them, what the server does, and how it is undone.

use longshore_tests::backends::Backend;
use longshore_tests::client::Client;
use longshore_tests::on_all;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use serde_json::Value;

use crate::answers::eventually;
use crate::commands::run;
use crate::content::SmallImage;

on_all!(
    the_preview_says_which_tags_go_and_what_follows,
    tags_go_by_a_rule_and_can_be_brought_back,
    a_rule_that_only_reports_is_counted,
);

const BRANCHES: &str = "name: branches, repositories: [retention/**], tags: 'pr-.*', keep_last_pushed: 1";

/// A server without rules, and how its commands are asked with these.
struct Registry {
    server: Server,
    client: Client,
    backend: Backend,
    /// Beside the server's: its folder has one process.
    home: Scratch,
}

impl Registry {
    fn start(options: Options, backend: Backend) -> Self {
        let server = Server::start(options);
        let client = Client::new(server.url());
        let home = Scratch::new("retention");
        Self { server, client, backend, home }
    }

    fn ask(&self, arguments: &[&str], rules: &str) -> (i32, String, String) {
        let retention = format!("retention={rules}");
        let url = format!("database.url={}", self.server.database_url());
        let storage = format!("storage.path={}", self.home.join("data").display());
        let settings = ["--set", &retention, "--set", &url, "--set", &storage];
        run(self.home.path(), &[arguments, &settings].concat())
    }

    fn say(&self, arguments: &[&str], rules: &str) -> String {
        let (code, said, complaint) = self.ask(arguments, rules);
        assert_eq!((code, complaint.as_str()), (0, ""), "{arguments:?}");
        said
    }
}

async fn the_preview_says_which_tags_go_and_what_follows(backend: Backend) {
    let registry = Registry::start(Options::on(backend), backend);
    let repository = "retention/preview";
    let old = SmallImage::pushed_to(&registry.client, repository, "pr-1").await;
    let new = SmallImage::pushed_to(&registry.client, repository, "pr-2").await;
    SmallImage::pushed_to(&registry.client, repository, "main").await;
    let rules = format!("[{{ {BRANCHES} }}]");

    let said = registry.say(&["gc", "--dry-run"], &rules);
    let line = format!("goes   {repository}:pr-1  {}  by the rule \"branches\"\n", old.manifest.digest);
    assert!(said.contains(&line), "{said}");
    assert!(!said.contains(":pr-2") && !said.contains(":main"), "{said}");
    let said: Value =
        serde_json::from_str(&registry.say(&["gc", "--dry-run", "--output", "json"], &rules)).expect("JSON");
    assert_eq!(said["tags"].as_array().map(Vec::len), Some(1), "{said}");
    assert_eq!((&said["tags"][0]["tag"], &said["tags"][0]["rule"]), (&"pr-1".into(), &"branches".into()));
    let bytes = [&old.config, &old.layer, &old.manifest].map(|blob| blob.bytes.len()).iter().sum::<usize>();
    assert_eq!((said["freed"]["manifests"].as_u64(), said["freed"]["blobs"].as_u64()), (Some(1), Some(2)), "{said}");
    assert_eq!(said["freed"]["bytes"].as_u64(), Some(bytes as u64), "{said}");

    let why = |name: &str, rules: &str| registry.say(&["gc", "why", &format!("{repository}:{name}")], rules);
    assert!(why("pr-1", &rules).ends_with("pr-1 goes: nothing keeps it that the rule \"branches\" names\n"));
    let kept = why("pr-2", &rules);
    assert!(kept.ends_with("pr-2 stays: one of the last 1 pushed, by the rule \"branches\"\n"), "{kept}");
    assert!(kept.starts_with(&format!("{repository}@{} stays: tag pr-2", new.manifest.digest)), "{kept}");
    assert!(why("main", &rules).ends_with("main stays: no rule of retention is for it\n"));
    let within = "[{ name: month, keep_pushed_within: 30d }]";
    let until = why("pr-1", within);
    assert!(
        until.contains("pr-1 stays until 2") && until.contains("pushed within 30d, by the rule \"month\""),
        "{until}"
    );
    assert_eq!(registry.client.tags(repository).await, ["main", "pr-1", "pr-2"], "asking deletes nothing");

    let (code, _, complaint) = registry.ask(&["gc", "--dry-run"], "[{ name: x, tags: 'pr-.*' }]");
    assert_eq!(code, 1);
    assert!(complaint.contains("rule \"x\" keeps nothing, so that every tag would go"), "{complaint}");
}

async fn tags_go_by_a_rule_and_can_be_brought_back(backend: Backend) {
    let options = Options::on(backend)
        .set("retention", &format!("[{{ {BRANCHES} }}]"))
        .set("gc.interval", "50ms")
        .set("gc.retention_interval", "50ms");
    let mut registry = Registry::start(options, backend);
    let repository = "retention/undo";
    let old = SmallImage::pushed_to(&registry.client, repository, "pr-1").await;
    SmallImage::pushed_to(&registry.client, repository, "main").await;
    SmallImage::pushed_to(&registry.client, repository, "pr-2").await;
    let gone = || async { (registry.client.tags(repository).await == ["main", "pr-2"]).then_some(()) };
    eventually("deleted by the rule", gone).await;
    // A pass is counted when it has ended.
    let counted =
        || async { (registry.client.metric("longshore_retention_tags_deleted_total").await == 1).then_some(()) };
    eventually("counted", counted).await;
    assert_eq!(registry.client.get_manifest(repository, "pr-1").await.status(), 404);
    assert_eq!(registry.client.manifest(repository, &old.manifest.digest).await, old.manifest.bytes, "it waits");

    let name = format!("{repository}:pr-1");
    let history = registry.say(&["tag", "history", &name], "[]");
    assert!(history.lines().next().is_some_and(|line| line.ends_with("deleted  retention: branches")), "{history}");
    if registry.backend == Backend::Sqlite {
        registry.server.terminate();
    }
    let digest = &old.manifest.digest;
    let restored = registry.say(&["tag", "restore", &name, "--to", digest], "[]");
    assert_eq!(restored, format!("{name} names {digest}\n"));
}

async fn a_rule_that_only_reports_is_counted(backend: Backend) {
    let options = Options::on(backend)
        .set("retention", &format!("[{{ {BRANCHES}, dry_run: true }}]"))
        .set("gc.interval", "50ms")
        .set("gc.retention_interval", "50ms");
    let registry = Registry::start(options, backend);
    let repository = "retention/reports";
    for tag in ["pr-1", "pr-2", "pr-3"] {
        SmallImage::pushed_to(&registry.client, repository, tag).await;
    }
    let reported =
        || async { (registry.client.metric("longshore_retention_tags_reported_total").await > 0).then_some(()) };
    eventually("reported", reported).await;
    assert_eq!(registry.client.tags(repository).await, ["pr-1", "pr-2", "pr-3"]);
    assert_eq!(registry.client.metric("longshore_retention_tags_deleted_total").await, 0);
    let log = registry.server.log();
    assert!(log.contains("a retention rule that only reports would delete tags"), "{log}");
}
