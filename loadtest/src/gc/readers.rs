//! Owns the clients that read without a pause while something else happens, and how long each of their requests took.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::body::splitmix64;
use crate::client::{Connection, Method, Request, expect_length};
use crate::measure::Histogram;
use crate::target::Target;

/// Whatever happens meanwhile has come to its end after so long.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

/// Something that is there, and stays.
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) headers: &'static str,
    pub(super) length: u64,
}

/// What readers ask for.
pub(super) trait Corpus: Sync {
    /// What belongs together, chosen by this number: a manifest with its blobs.
    fn choose(&self, random: u64) -> Vec<Wanted>;
}

/// What happens now, of some things that happen one after the other.
#[derive(Default)]
pub(super) struct Phase {
    number: AtomicUsize,
    is_over: AtomicBool,
}

impl Phase {
    /// Requests that begin from now on are counted for this phase.
    pub(super) fn begin(&self, number: usize) {
        self.number.store(number, Ordering::SeqCst);
    }
}

/// Does some work while so many clients read. Answers how long requests took that began in each of its phases.
pub(super) fn while_reading<T>(
    target: &Target,
    corpus: &dyn Corpus,
    (readers, phases): (u16, usize),
    work: impl FnOnce(&Phase) -> Result<T>,
) -> Result<(T, Vec<Histogram>)> {
    let phase = &Phase::default();
    thread::scope(|scope| {
        let reading: Vec<_> = (0..readers)
            .map(|number| scope.spawn(move || read(target, corpus, phase, phases, u64::from(number))))
            .collect();
        let done = work(phase);
        phase.is_over.store(true, Ordering::SeqCst);
        let read: Vec<_> = reading
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        let done = done?;
        let mut all = vec![Histogram::new(); phases];
        for histograms in read {
            for (sum, histogram) in all.iter_mut().zip(&histograms.context("a reader failed")?) {
                sum.merge(histogram);
            }
        }
        Ok((done, all))
    })
}

fn read(target: &Target, corpus: &dyn Corpus, phase: &Phase, phases: usize, seed: u64) -> Result<Vec<Histogram>> {
    let mut histograms = vec![Histogram::new(); phases];
    let mut connection = Connection::new(target, Instant::now() + LIMIT);
    let mut state = seed;
    connection.open()?;
    while !phase.is_over.load(Ordering::SeqCst) {
        for Wanted { path, headers, length } in corpus.choose(splitmix64(&mut state)) {
            let (now, began) = (phase.number.load(Ordering::SeqCst), Instant::now());
            let request = Request { method: Method::Get, path: &path, headers, expected_status: 200 };
            let answer = connection.ask(&request)?;
            histograms[now].record(began.elapsed());
            expect_length(&answer, length, &path)?;
        }
    }
    Ok(histograms)
}
