//! Owns `longshore-loadtest trace generate`: a trace in the schema of the published ones, for those who cannot fetch
//! them, and for tests. It is written as it is made, so that its length costs no memory.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};

use super::entry::Entry;
use super::images::{self, Image};
use super::random::{Random, Zipf};
use super::timestamp::Timestamp;

/// A Tuesday.
const FIRST_MICROS: i64 = 1_497_916_800_000_000;
const MICROS: f64 = 1e6;
const SECONDS_PER_DAY: f64 = 86_400.0;
/// The day's busiest hour, and how far above and below its mean the load goes.
const BUSIEST_HOUR: f64 = 14.0;
const SWING: f64 = 0.6;
/// How many pulls find no layer at the client: those of machines that are new, as build machines are each time. The
/// others look whether the manifest is still the same.
const FRESH: f64 = 0.7;
/// Between two requests of a client's burst.
const GAP_SECONDS: f64 = 0.05;
const BYTES_PER_SECOND: f64 = 50e6;

/// What is to be generated.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) seed: u64,
    pub(super) requests: u64,
    pub(super) images: usize,
    pub(super) clients: usize,
    /// Of the popularity of images, and so of layers.
    pub(super) zipf: f64,
    /// How many of a hundred requests push.
    pub(super) push_percent: f64,
    pub(super) hours: f64,
    pub(super) largest_layer: u64,
}

/// Writes the trace: one array, one entry a line.
pub(super) fn write(recipe: &Recipe, out: &mut dyn Write) -> Result<()> {
    let mut trace = Trace::new(recipe);
    let mut separator = "[\n";
    for _ in 0..recipe.requests {
        let entry = trace.next_entry();
        let line = serde_json::to_string(&entry).context("an entry cannot be written as JSON")?;
        write!(out, "{separator}{line}").context("cannot write the trace")?;
        separator = ",\n";
    }
    let opening = if recipe.requests == 0 { "[" } else { "" };
    write!(out, "{opening}\n]\n").context("cannot write the trace")?;
    out.flush().context("cannot write the trace")
}

/// A registry's day, as far as it has come.
struct Trace {
    recipe: Recipe,
    random: Random,
    images: Vec<Image>,
    popularity: Zipf,
    clients: Vec<String>,
    /// How probable it is that a burst is a push.
    push: f64,
    /// Between two bursts, at the day's mean load.
    mean_seconds: f64,
    /// When the next burst begins, in seconds.
    next_burst: f64,
    /// Requests of bursts that have begun, by their time. Bursts overlap.
    waiting: BTreeMap<(i64, u64), Entry>,
    next_number: u64,
}

impl Trace {
    fn new(recipe: &Recipe) -> Self {
        let mut random = Random::new(recipe.seed);
        let images = images::make(recipe.images, recipe.zipf, recipe.largest_layer, &mut random);
        let popularity = Zipf::new(images.len(), recipe.zipf);
        let mut clients = Vec::with_capacity(recipe.clients);
        clients.extend((0..recipe.clients).map(|_| images::name(&mut random)[..8].to_owned()));
        let layers: Vec<f64> = images
            .iter()
            .enumerate()
            .map(|(rank, image)| popularity.probability(rank) * image.layers.len() as f64)
            .collect();
        let of_pull = 1.0 + FRESH * layers.iter().sum::<f64>();
        let (of_push, share) = (images::requests_of_push(), recipe.push_percent / 100.0);
        // So that the share is one of requests, though a pull has more of them than a push.
        let push = share * of_pull / (of_push * (1.0 - share) + share * of_pull);
        let bursts = recipe.requests as f64 / (push * of_push + (1.0 - push) * of_pull);
        Self {
            recipe: recipe.clone(),
            random,
            images,
            popularity,
            clients,
            push,
            mean_seconds: recipe.hours * 3600.0 / bursts,
            next_burst: 0.0,
            waiting: BTreeMap::new(),
            next_number: 0,
        }
    }

    fn next_entry(&mut self) -> Entry {
        loop {
            let is_due = |(at, _): &(i64, u64)| *at <= micros(self.next_burst);
            if self.waiting.first_key_value().is_some_and(|(key, _)| is_due(key))
                && let Some((_, entry)) = self.waiting.pop_first()
            {
                return entry;
            }
            self.burst();
        }
    }

    /// One client's visit.
    fn burst(&mut self) {
        let client = self.clients[self.random.between(0, self.clients.len() as u64 - 1) as usize].clone();
        let image = self.popularity.choose(&mut self.random);
        let mut at = self.next_burst;
        if self.random.happens(self.push) {
            let pushed = self.images[image].push(&mut self.random, self.recipe.largest_layer);
            let image = self.images[image].clone();
            for layer in &image.layers[image.layers.len() - pushed..] {
                self.request(&mut at, "PUT", &client, &image, ("blobs", &layer.id, layer.bytes));
            }
            self.request(&mut at, "PUT", &client, &image, ("manifests", &image.manifest, image.manifest_bytes()));
        } else {
            let image = self.images[image].clone();
            self.request(&mut at, "GET", &client, &image, ("manifests", &image.manifest, image.manifest_bytes()));
            if self.random.happens(FRESH) {
                for layer in &image.layers {
                    self.request(&mut at, "GET", &client, &image, ("blobs", &layer.id, layer.bytes));
                }
            }
        }
        let rate = rate(self.next_burst);
        self.next_burst += self.random.exponential(self.mean_seconds / rate);
    }

    fn request(&mut self, at: &mut f64, method: &str, client: &str, image: &Image, what: (&str, &str, u64)) {
        let (kind, id, bytes) = what;
        let duration = 0.002 + bytes as f64 / BYTES_PER_SECOND;
        let entry = Entry {
            host: "generated".to_owned(),
            duration: (duration * MICROS).round() / MICROS,
            method: method.to_owned(),
            client: client.to_owned(),
            uri: format!("v2/{}/{kind}/{id}", image.repository),
            user_agent: "longshore-loadtest".to_owned(),
            status: if method == "GET" { 200 } else { 201 },
            written: bytes,
            id: images::name(&mut self.random),
            timestamp: Timestamp(FIRST_MICROS + micros(*at)).to_string(),
        };
        self.waiting.insert((micros(*at), self.next_number), entry);
        self.next_number += 1;
        *at += self.random.exponential(GAP_SECONDS) + if method == "PUT" { duration } else { 0.0 };
    }
}

fn micros(seconds: f64) -> i64 {
    (seconds * MICROS) as i64
}

/// The load at a time of the day, 1 on average.
fn rate(seconds: f64) -> f64 {
    let of_day = (seconds / SECONDS_PER_DAY).fract() - BUSIEST_HOUR / 24.0;
    1.0 + SWING * (std::f64::consts::TAU * of_day).cos()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::trace::entry::{Action, Kind, Request};

    fn recipe() -> Recipe {
        Recipe {
            seed: 1,
            requests: 40_000,
            images: 500,
            clients: 50,
            zipf: 1.0,
            push_percent: 7.0,
            hours: 24.0,
            largest_layer: 1 << 30,
        }
    }

    fn requests(recipe: &Recipe) -> Vec<Request> {
        let mut trace = Trace::new(recipe);
        (0..recipe.requests).map(|_| trace.next_entry().request().unwrap()).collect()
    }

    fn text(recipe: &Recipe) -> String {
        let mut out = Vec::new();
        write(recipe, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_short_trace_is_as_it_was() {
        let short = Recipe { requests: 16, images: 3, clients: 2, hours: 0.01, push_percent: 60.0, ..recipe() };

        assert_eq!(text(&short), include_str!("../../golden/trace.json"));
        assert_eq!(text(&Recipe { requests: 0, ..recipe() }), "[\n]\n");
    }

    #[test]
    fn a_seed_makes_one_trace() {
        let short = Recipe { requests: 500, ..recipe() };
        assert_eq!(text(&short), text(&short));
        assert_ne!(text(&short), text(&Recipe { seed: 2, ..short.clone() }));
    }

    #[test]
    fn the_shares_are_those_that_were_asked_for() {
        let all = requests(&recipe());
        let pushes = all.iter().filter(|request| request.action == Action::Put).count() as f64 / all.len() as f64;
        assert!((pushes - 0.07).abs() < 0.01, "{pushes}");
        let hours = all[all.len() - 1].at.micros_since(all[0].at) as f64 / 3.6e9;
        assert!((hours - 24.0).abs() < 2.0, "{hours}");
        assert!(all.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn nights_are_quiet() {
        let in_hour = |hour: u64| {
            let is_then = |request: &&Request| request.at.micros_since(Timestamp(FIRST_MICROS)) / 3_600_000_000 == hour;
            requests(&recipe()).iter().filter(is_then).count()
        };
        assert!(in_hour(14) > 2 * in_hour(2));
    }

    #[test]
    fn layers_are_as_unequal_as_a_zipf_distribution() {
        for zipf in [0.9, 1.1] {
            let mut counts: HashMap<String, u32> = HashMap::new();
            let gets = requests(&Recipe { zipf, push_percent: 0.0, requests: 100_000, ..recipe() });
            for request in gets.into_iter().filter(|request| request.kind == Kind::Blob) {
                *counts.entry(request.id).or_default() += 1;
            }
            let mut counts: Vec<u32> = counts.into_values().collect();
            counts.sort_unstable_by(|one, other| other.cmp(one));
            // The slope between two ranks that are neither the few shared bases nor single requests.
            let slope = (f64::from(counts[30]) / f64::from(counts[600])).ln() / (601.0f64 / 31.0).ln();
            assert!((slope - zipf).abs() < 0.25, "{slope} for {zipf}");
        }
    }

    #[test]
    fn a_manifest_comes_before_its_layers() {
        let short = Recipe { push_percent: 0.0, requests: 200, ..recipe() };
        let all = requests(&short);
        let visits: Vec<(&str, &str)> = all
            .iter()
            .filter(|request| request.kind == Kind::Manifest)
            .map(|request| (request.client.as_str(), request.repository.as_str()))
            .collect();
        for blob in all.iter().filter(|request| request.kind == Kind::Blob) {
            assert!(visits.contains(&(blob.client.as_str(), blob.repository.as_str())));
        }
    }
}
