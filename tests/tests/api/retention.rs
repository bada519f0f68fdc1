//! Rules that say which tags stay: what the commands say of them, what the server does, and how it is undone.

use longshore_tests::backends::Backend;
use longshore_tests::client::{Client, expect};
use longshore_tests::image::Blob;
use longshore_tests::on_all;
use longshore_tests::scratch::Scratch;
use longshore_tests::server::{Options, Server};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::answers::eventually;
use crate::commands::run;
use crate::content::SmallImage;

on_all!(
    the_preview_says_which_tags_go_and_what_follows,
    the_preview_says_until_when_leases_uploads_and_rules_keep_the_rest,
    the_preview_names_so_many_to_people_and_all_to_programs,
    an_upload_that_nobody_goes_on_with_is_foreseen_to_go,
    a_blob_is_told_with_the_manifests_that_need_it,
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

    /// What the preview tells programs.
    fn foresee(&self, rules: &str) -> Vec<Value> {
        values(&self.say(&["gc", "--dry-run", "--output", "json"], rules))
    }
}

/// The values that a command said to programs, one a line.
fn values(said: &str) -> Vec<Value> {
    said.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Those of one kind.
fn of_kind<'a>(values: &'a [Value], kind: &str) -> Vec<&'a Value> {
    values.iter().filter(|value| value["kind"] == kind).collect()
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
    for blob in [&old.config, &old.layer] {
        let (digest, size) = (&blob.digest, blob.bytes.len());
        let line = format!("goes   blob {repository}@{digest}  {size} bytes  with the last manifest that needs it\n");
        assert!(said.contains(&line), "{said}");
    }
    assert!(said.contains("kept: 2 by a tag\n") && !said.contains("kept   "), "{said}");
    let told = registry.foresee(&rules);
    let tags = of_kind(&told, "tag");
    assert_eq!(tags.len(), 1, "{told:?}");
    assert_eq!((&tags[0]["tag"], &tags[0]["rule"]), (&"pr-1".into(), &"branches".into()));
    let blobs = of_kind(&told, "blob");
    let mut digests: Vec<_> = blobs.iter().filter_map(|blob| blob["digest"].as_str()).collect();
    digests.sort_unstable();
    let mut expected = [old.config.digest.as_str(), old.layer.digest.as_str()];
    expected.sort_unstable();
    assert_eq!(digests, expected);
    assert!(blobs.iter().all(|blob| blob["goes"] == true && blob["freed"] == true), "{told:?}");
    let bytes = [&old.config, &old.layer, &old.manifest].map(|blob| blob.bytes.len()).iter().sum::<usize>();
    let freed = &told.last().expect("there is a sum")["freed"];
    assert_eq!(*freed, json!({ "manifests": 1, "blobs": 2, "uploads": 0, "bytes": bytes }), "{told:?}");
    assert_eq!(of_kind(&told, "repository")[0]["loses"], *freed);
    assert!(of_kind(&told, "kept").is_empty(), "{told:?}");

    let said = registry.say(&["gc", "--dry-run", "--kept"], &rules);
    let line = format!("kept   {repository}@{}  tag pr-2\n", new.manifest.digest);
    assert!(said.contains(&line) && said.contains("kept: 2 by a tag\n"), "{said}");
    let told = values(&registry.say(&["gc", "--dry-run", "--kept", "--output", "json"], &rules));
    let kept: Vec<_> = of_kind(&told, "kept").iter().map(|kept| (kept["why"].clone(), kept["goes"].clone())).collect();
    assert_eq!(kept, [("tag pr-2".into(), false.into()), ("tag main".into(), false.into())]);
    let counts = json!({ "tag": 2, "index": 0, "subject": 0, "rest": 0 });
    assert_eq!(told.last().expect("there is a sum")["kept"], counts);

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

async fn the_preview_says_until_when_leases_uploads_and_rules_keep_the_rest(backend: Backend) {
    let registry = Registry::start(Options::on(backend), backend);
    let repository = "retention/waits";
    let old = SmallImage::pushed_to(&registry.client, repository, "latest").await;
    SmallImage::pushed_to(&registry.client, repository, "latest").await;
    let loose = Blob::random(1000);
    registry.client.push_blob(repository, &loose).await;
    let upload = registry.client.start_upload(repository).await;
    let chunk = registry.client.send_chunk(&upload, None, vec![0; 777]).await;
    expect(chunk, StatusCode::ACCEPTED, "the begin of a blob").await;

    let audited = "[{ name: audited, repositories: [retention/**], untagged_after: 90d }]";
    let said = registry.say(&["gc", "--dry-run"], audited);
    let line = |begin: &str| {
        let line = said.lines().find(|line| line.starts_with(begin));
        line.unwrap_or_else(|| panic!("no line {begin:?} in {said}")).to_owned()
    };
    let manifest = line(&format!("stays  {repository}@{}  until 2", old.manifest.digest));
    assert!(manifest.ends_with(", by untagged_after of the rule \"audited\""), "{said}");
    line(&format!("stays  blob {repository}@{}  1000 bytes  lease until 2", loose.digest));
    assert!(line("stays  upload ").contains(&format!(" to {repository}  777 bytes  until 2")), "{said}");
    for blob in [&old.config, &old.layer] {
        assert!(line(&format!("goes   blob {repository}@{}", blob.digest)).ends_with("last manifest that needs it"));
    }
    let size = old.manifest.bytes.len();
    line(&format!("freed in the end: 1 manifests, 3 blobs, 0 uploads, {} bytes", size + 100 + 200 + 1000));
    line(&format!("of these in manifests that stay for now: 1 manifests, {size} bytes"));
    line("of these held by a lease for now: 1 blobs, 1000 bytes");
    line("beside these, in uploads that have time: 1 uploads, 777 bytes");
    let said = registry.say(&["gc", "--dry-run"], "[]");
    assert!(said.contains("not long ago, by gc.undo\n"), "{said}");

    let told = registry.foresee(audited);
    let [manifest] = of_kind(&told, "manifest")[..] else { panic!("{told:?}") };
    assert_eq!((&manifest["goes"], &manifest["rule"]), (&false.into(), &"audited".into()));
    let blobs = of_kind(&told, "blob");
    let (leased, with): (Vec<&Value>, Vec<&Value>) = blobs.into_iter().partition(|blob| blob["why"] == "lease");
    let [blob] = leased[..] else { panic!("{told:?}") };
    assert_eq!((&blob["digest"], &blob["goes"]), (&loose.digest.as_str().into(), &false.into()));
    assert!(blob["lease_until"].is_string(), "{blob}");
    assert!(with.len() == 2 && with.iter().all(|blob| blob["why"] == "with its manifests"), "{told:?}");
    let [session] = of_kind(&told, "upload")[..] else { panic!("{told:?}") };
    assert_eq!((&session["goes"], &session["bytes"]), (&false.into(), &777.into()));
    let sum = told.last().expect("there is a sum");
    assert_eq!(sum["staying"], json!({ "manifests": 1, "bytes": size }));
    assert_eq!(sum["leased"], json!({ "blobs": 1, "bytes": 1000 }));
    assert_eq!(sum["open"], json!({ "uploads": 1, "bytes": 777 }));
}

async fn the_preview_names_so_many_to_people_and_all_to_programs(backend: Backend) {
    let registry = Registry::start(Options::on(backend), backend);
    for _ in 0..102 {
        registry.client.push_blob("retention/many", &Blob::random(10)).await;
    }
    let said = registry.say(&["gc", "--dry-run"], "[]");
    assert_eq!(said.lines().filter(|line| line.starts_with("stays  blob ")).count(), 100);
    assert!(said.contains("and 2 more blobs: --output json names each\n"), "{said}");
    assert!(said.contains("freed in the end: 0 manifests, 102 blobs, 0 uploads, 1020 bytes\n"), "{said}");
    assert_eq!(of_kind(&registry.foresee("[]"), "blob").len(), 102);
}

async fn an_upload_that_nobody_goes_on_with_is_foreseen_to_go(backend: Backend) {
    let options = Options::on(backend).set("gc.upload_expiry", "1s").set("gc.interval", "1h");
    let registry = Registry::start(options, backend);
    // The first pass comes at once, and the next one in an hour.
    let passed = || async { (registry.client.metric("longshore_gc_passes_total").await == 1).then_some(()) };
    eventually("past the first pass", passed).await;
    let repository = "retention/expires";
    let upload = registry.client.start_upload(repository).await;
    let chunk = registry.client.send_chunk(&upload, None, vec![0; 777]).await;
    expect(chunk, StatusCode::ACCEPTED, "the begin of a blob").await;
    let foreseen = || async {
        let told = registry.foresee("[]");
        let goes = of_kind(&told, "upload").iter().any(|upload| upload["goes"] == true);
        goes.then_some(told)
    };
    let told = eventually("expired", foreseen).await;
    let one = json!({ "manifests": 0, "blobs": 0, "uploads": 1, "bytes": 777 });
    assert_eq!(told.last().expect("there is a sum")["freed"], one);
    assert_eq!(of_kind(&told, "repository")[0]["loses"], one);
    let said = registry.say(&["gc", "--dry-run"], "[]");
    let line = said.lines().find(|line| line.starts_with("goes   upload ")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(&format!(" to {repository}  777 bytes  expired 2")), "{said}");
}

async fn a_blob_is_told_with_the_manifests_that_need_it(backend: Backend) {
    let registry = Registry::start(Options::on(backend), backend);
    let repository = "retention/why";
    let image = SmallImage::pushed_to(&registry.client, repository, "latest").await;
    let loose = Blob::random(1000);
    registry.client.push_blob(repository, &loose).await;
    let name = |blob: &Blob| format!("{repository}@{}", blob.digest);

    let said = registry.say(&["gc", "why", &name(&image.layer)], "[]");
    let needed = format!("blob {} stays: manifests need it (and its lease is until 2", name(&image.layer));
    assert!(said.starts_with(&needed), "{said}");
    let user = format!("\nneeded by {}, which stays: tag latest\n", name(&image.manifest));
    assert!(said.ends_with(&user), "{said}");
    let said = registry.say(&["gc", "why", &name(&loose)], "[]");
    assert!(said.starts_with(&format!("blob {} stays until 2", name(&loose))), "{said}");
    assert!(said.ends_with(": lease; it goes then, for no manifest needs it\n"), "{said}");

    let told = values(&registry.say(&["gc", "why", &name(&image.layer), "--output", "json"], "[]"));
    let [blob, manifest] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&blob["kind"], &blob["goes"], &blob["bytes"]), (&"blob".into(), &false.into(), &200.into()));
    assert!(blob["lease_until"].is_string(), "{blob}");
    assert_eq!(manifest["digest"], image.manifest.digest.as_str());
    let (code, _, complaint) = registry.ask(&["gc", "why", &format!("elsewhere@{}", loose.digest)], "[]");
    assert!(code == 1 && complaint.contains("is not here"), "{complaint}");
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
