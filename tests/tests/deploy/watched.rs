//! A real Prometheus with `deploy/prometheus.yml` asks two replicas, and every number that the dashboard and the alerts
//! are about is there.

use std::collections::BTreeSet;

use longshore_tests::client::{Client, body};
use longshore_tests::image::Image;
use reqwest::Url;
use serde_json::Value;

use crate::MIB;
use crate::files::{read, texts, yaml};
use crate::stack::{Stack, asked, eventually};

/// Words in an expression that are no metrics.
const FUNCTIONS: [&str; 9] = ["sum", "by", "rate", "increase", "max", "time", "vector", "histogram_quantile", "or"];

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/dashboards/longshore.json")).expect("the dashboard is JSON")
}

/// Each expression of the dashboard with its panel's title, as Grafana would ask it.
fn asked_by_panels() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().expect("a dashboard has panels") {
        for target in panel["targets"].as_array().expect("a panel asks something") {
            let expression = target["expr"].as_str().expect("an expression is text");
            let expression = expression.replace("$job", "longshore").replace("$__rate_interval", "1m");
            assert!(!expression.contains('$'), "{expression}");
            expressions.push((panel["title"].as_str().unwrap_or_default().to_owned(), expression));
        }
    }
    assert!(expressions.len() > 15, "{expressions:#?}");
    expressions
}

/// Each alert with its expression.
fn alerts() -> Vec<(String, String)> {
    let file = yaml("deploy/alerts.yml");
    let rules = file["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().expect("alerts have names and expressions").to_owned();
    rules.iter().map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
}

/// The metrics in an expression: its words outside of braces, brackets, quotes and lists of labels.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let (mut depth, mut word, mut words) = (0, String::new(), Vec::new());
    let without_labels = expression.split(" by (").enumerate().map(|(index, part)| match part.split_once(')') {
        Some((_labels, rest)) if index > 0 => rest,
        _ => part,
    });
    for character in without_labels.collect::<Vec<_>>().join(" ").chars().chain([' ']) {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (character.is_ascii_alphanumeric() || character == '_') {
            word.push(character);
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    let is_metric =
        |word: &String| !word.starts_with(|first: char| first.is_ascii_digit()) && !FUNCTIONS.contains(&word.as_str());
    words.into_iter().filter(is_metric).collect()
}

/// Asks Prometheus; the samples that it finds.
async fn query(prometheus: &Client, expression: &str) -> Vec<Value> {
    let mut url = Url::parse("http://prometheus/api/v1/query").expect("a URL");
    url.query_pairs_mut().append_pair("query", expression);
    let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    asked(prometheus, &target).await["result"].as_array().cloned().unwrap_or_default()
}

#[test]
fn metrics_are_found_in_expressions() {
    let found =
        metrics_in(r#"max(time() - a_seconds{job="x", b=~"5.."}) / sum by (le, c) (rate(d_total{}[5m])) > 0.01"#);
    assert_eq!(found, ["a_seconds", "d_total"].map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_is_asked_for_is_exported() {
    let stack = Stack::shared();
    let (client, image) = (stack.client(), Image::random(MIB));
    client.push_image("deploy/metrics", "v1", &image).await;
    client.manifest("deploy/metrics", "v1").await;
    let exported = stack.metrics(0).await + &stack.metrics(1).await;
    let names: BTreeSet<&str> = exported.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    for (place, expression) in asked_by_panels().into_iter().chain(alerts()) {
        let metrics = metrics_in(&expression);
        assert!(!metrics.is_empty(), "{place} asks for nothing: {expression}");
        for metric in metrics.iter().filter(|metric| *metric != "up") {
            assert!(names.contains(metric.as_str()), "{place}: there is no {metric}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_reaches_both_replicas_and_every_panel_has_something_to_show() {
    let stack = Stack::shared();
    let (prometheus, url) = stack.start_prometheus();
    let asker = Client::new(&url);
    let client = stack.client();
    for (panel, expression) in asked_by_panels() {
        // Each time something new happens: a rate needs a number that changes between two looks.
        eventually(&format!("{panel} shows something: {expression}"), async || {
            // More than a row of the database holds: the object store is asked as well.
            let image = Image::random(64 * 1024);
            client.push_image("deploy/watched", "v1", &image).await;
            body(client.get_manifest("deploy/watched", "v1").await).await;
            let samples = query(&asker, &expression).await;
            let is_number = |sample: &Value| sample["value"][1].as_str().is_some_and(|value| value != "NaN");
            (!samples.is_empty() && samples.iter().any(is_number)).then_some(())
        })
        .await;
    }
    let replicas = query(&asker, r#"sum(up{job="longshore"})"#).await;
    assert_eq!(replicas[0]["value"][1], "2");

    eventually("every alert is read, understood and quiet", async || {
        let rules = asked(&asker, "/api/v1/rules").await;
        let rules = rules["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        let is_quiet = |rule: &Value| rule["state"] == "inactive" && rule["health"] == "ok";
        (rules.len() == alerts().len() && rules.iter().all(is_quiet)).then_some(())
    })
    .await;
    drop(prometheus);
}

#[test]
fn grafana_finds_the_dashboard_and_prometheus() {
    let compose = crate::files::service("grafana");
    let mounted = texts(&compose["volumes"]);
    let provider = yaml("deploy/grafana/provisioning/dashboards/longshore.yml");
    let path = provider["providers"][0]["options"]["path"].as_str().expect("a provider has a path");
    assert!(mounted.contains(&format!("./deploy/grafana/dashboards:{path}:ro")), "{mounted:?}");
    let home = compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str();
    assert_eq!(home, Some(format!("{path}/longshore.json").as_str()));
    let source = &yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    let command = texts(&crate::files::service("prometheus")["command"]);
    assert!(!command.iter().any(|argument| argument.contains("listen-address")), "it listens on 9090");
    assert_eq!(source["url"], "http://prometheus:9090");
    let scraped = &yaml("deploy/prometheus.yml")["global"]["scrape_interval"];
    assert_eq!(&source["jsonData"]["timeInterval"], scraped, "rates are taken over no less than four scrapes");
}

#[test]
fn panels_have_titles_of_their_own_and_do_not_overlap() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    let titles: BTreeSet<_> = panels.iter().filter_map(|panel| panel["title"].as_str()).collect();
    assert_eq!(titles.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let number = |key: &str| panel["gridPos"][key].as_u64().expect("a place in the grid");
        for (column, row) in (0..number("w")).flat_map(|column| (0..number("h")).map(move |row| (column, row))) {
            assert!(number("x") + column < 24, "{}", panel["title"]);
            assert!(taken.insert((number("x") + column, number("y") + row)), "{} lies on another", panel["title"]);
        }
    }
}
