//! Owns the replay: a trace's requests in their order, on a bounded number of connections, each client always on the
//! same one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::cache::{EndlessCache, LruCache};
use super::entry::{Action, Kind};
use super::stream::{self, Lines};
use super::timestamp::Timestamp;
use super::warm_up::Stock;
use crate::body::Segment;
use crate::client::{Connection, Method, Request, expect_length};
use crate::measure::Histogram;
use crate::setup::ACCEPT_MANIFESTS;
use crate::target::Target;

/// Requests that wait for a connection. The reader of the file waits when a queue is full.
const QUEUE: usize = 1024;
const STACK_BYTES: usize = 256 << 10;

/// How a trace is replayed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) connections: usize,
    /// How many seconds of the trace pass in one; none: as fast as it goes.
    pub(super) speed: Option<f64>,
    /// So many requests of the trace at most.
    pub(super) limit: u64,
    /// Everything must have ended by then.
    pub(super) deadline: Instant,
    /// The cache to compare with.
    pub(super) lru_bytes: u64,
    /// Blobs up to this size count for no cache: they are in the server's database.
    pub(super) inline_max: u64,
}

/// The four kinds of requests, in the order of the report.
pub(super) const CLASSES: [(Action, Kind, &str); 4] = [
    (Action::Get, Kind::Manifest, "GET manifest"),
    (Action::Get, Kind::Blob, "GET blob"),
    (Action::Put, Kind::Blob, "push blob"),
    (Action::Put, Kind::Manifest, "PUT manifest"),
];

/// What was done of one kind of request.
#[derive(Clone)]
pub(super) struct Tally {
    pub(super) latencies: Histogram,
    pub(super) bytes: u64,
}

/// What a replay came to.
pub(super) struct Replayed {
    /// In the order of [`CLASSES`].
    pub(super) tallies: Vec<Tally>,
    /// How much later than the trace says requests began.
    pub(super) lags: Histogram,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
    pub(super) elapsed: Duration,
    pub(super) lines: Lines,
    /// GETs of blobs that count for caches, and their bytes.
    pub(super) cacheable: (u64, u64),
    pub(super) lru: LruCache,
    pub(super) endless: EndlessCache,
}

/// What one connection did.
struct Account {
    tallies: Vec<Tally>,
    cacheable: (u64, u64),
    lags: Histogram,
    failures: u64,
    first_failure: Option<String>,
}

impl Account {
    fn new() -> Self {
        let empty = Tally { latencies: Histogram::new(), bytes: 0 };
        let tallies = vec![empty; CLASSES.len()];
        Self { tallies, cacheable: (0, 0), lags: Histogram::new(), failures: 0, first_failure: None }
    }

    fn done(&mut self, class: Option<usize>, took: Duration, bytes: u64) {
        if let Some(tally) = class.and_then(|class| self.tallies.get_mut(class)) {
            tally.latencies.record(took);
            tally.bytes += bytes;
        }
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.failures += 1;
        self.first_failure.get_or_insert_with(|| format!("{error:#}"));
    }

    fn add(&mut self, other: Self) {
        for (tally, more) in self.tallies.iter_mut().zip(other.tallies) {
            tally.latencies.merge(&more.latencies);
            tally.bytes += more.bytes;
        }
        self.cacheable.0 += other.cacheable.0;
        self.cacheable.1 += other.cacheable.1;
        self.lags.merge(&other.lags);
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

/// One request on its way to a connection.
struct Task {
    place: u32,
    action: Action,
    /// Since the beginning.
    due: Option<Duration>,
    /// Whether it counts for caches.
    is_cacheable: bool,
}

/// Which places can be pulled: what one connection pushes another may pull, but not before it is there.
struct There {
    flags: Vec<AtomicBool>,
    changes: (Mutex<()>, Condvar),
}

impl There {
    fn new(stock: &Stock) -> Self {
        let places = 0..stock.catalog().places().len() as u32;
        let flags = places.map(|place| AtomicBool::new(stock.is_there_first(place))).collect();
        Self { flags, changes: (Mutex::new(()), Condvar::new()) }
    }

    /// A push has ended, well or not: nobody need wait for it any longer.
    fn set(&self, place: u32) {
        let _lock = self.changes.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.flags[place as usize].store(true, Ordering::Release);
        self.changes.1.notify_all();
    }

    /// Waits for the push. It comes before in the trace, so it is at work or further ahead in a queue: nobody waits in
    /// a circle.
    fn wait(&self, place: u32) {
        let flag = &self.flags[place as usize];
        if flag.load(Ordering::Acquire) {
            return;
        }
        let mut lock = self.changes.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !flag.load(Ordering::Acquire) {
            lock = self.changes.1.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Replays a file whose catalog the stock was made from. The caches to compare with see the same sequence.
pub(super) fn replay(file: &Path, stock: &Stock, target: &Target, pace: &Pace) -> Result<Replayed> {
    let there = There::new(stock);
    let connections = open_all(target, pace)?;
    thread::scope(|scope| {
        let began = Instant::now();
        let (mut queues, mut workers) = (Vec::new(), Vec::new());
        for connection in connections {
            let (queue, tasks) = sync_channel(QUEUE);
            let there = &there;
            let work = move || serve(connection, &tasks, stock, there, began);
            workers.push(
                thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, work)
                    .context("cannot start a thread")?,
            );
            queues.push(queue);
        }
        let mut dispatcher = Dispatcher {
            stock,
            queues,
            speed: pace.speed,
            inline_max: pace.inline_max,
            first: None,
            lru: LruCache::new(pace.lru_bytes),
            endless: EndlessCache::new(),
        };
        let lines = stream::read_file(file, pace.limit, &mut |request| dispatcher.send(&request));
        // Without their queues, the workers come to their end.
        let Dispatcher { lru, endless, queues, .. } = dispatcher;
        drop(queues);
        let mut account = Account::new();
        for worker in workers {
            account.add(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        let Account { tallies, cacheable, lags, failures, first_failure } = account;
        let elapsed = began.elapsed();
        let lines = lines?;
        Ok(Replayed { tallies, cacheable, lags, failures, first_failure, elapsed, lines, lru, endless })
    })
}

fn open_all<'t>(target: &'t Target, pace: &Pace) -> Result<Vec<Connection<'t>>> {
    let mut connections = Vec::with_capacity(pace.connections);
    for _ in 0..pace.connections {
        let mut connection = Connection::new(target, pace.deadline);
        connection.open()?;
        connections.push(connection);
    }
    Ok(connections)
}

/// Hands requests to the connections of their clients.
struct Dispatcher<'s> {
    stock: &'s Stock,
    queues: Vec<SyncSender<Task>>,
    speed: Option<f64>,
    inline_max: u64,
    first: Option<Timestamp>,
    lru: LruCache,
    endless: EndlessCache,
}

impl Dispatcher<'_> {
    fn send(&mut self, request: &super::entry::Request) -> Result<()> {
        let found = self.stock.catalog().find(request);
        let (place, client) = found.context("the file has changed since it was looked through")?;
        let first = *self.first.get_or_insert(request.at);
        let passed = Duration::from_micros(request.at.micros_since(first));
        let due = self.speed.map(|speed| passed.div_f64(speed));
        let mut is_cacheable = request.action == Action::Get && request.kind == Kind::Blob;
        if is_cacheable {
            let (content, bytes) = (self.stock.content(place), self.stock.bytes(place));
            is_cacheable = bytes > self.inline_max;
            if is_cacheable {
                self.lru.get(content, bytes);
                self.endless.get(content, bytes);
            }
        }
        let queue = &self.queues[client as usize % self.queues.len()];
        let sent = queue.send(Task { place, action: request.action, due, is_cacheable });
        ensure!(sent.is_ok(), "a connection's thread has ended");
        Ok(())
    }
}

/// Does what is in a queue, one after the other, until it is closed.
fn serve(
    mut connection: Connection<'_>,
    tasks: &Receiver<Task>,
    stock: &Stock,
    there: &There,
    began: Instant,
) -> Account {
    let (mut account, mut segment) = (Account::new(), Segment::new());
    for task in tasks {
        if let Some(due) = task.due {
            thread::sleep((began + due).saturating_duration_since(Instant::now()));
            account.lags.record(began.elapsed().saturating_sub(due));
        }
        if task.action == Action::Get {
            there.wait(task.place);
        }
        let start = Instant::now();
        let done = perform(&mut connection, &mut segment, stock, &task);
        if task.action == Action::Put {
            there.set(task.place);
        }
        match done {
            Ok(bytes) => {
                let kind = stock.kind(task.place);
                let class = CLASSES.iter().position(|(action, of, _)| *action == task.action && *of == kind);
                account.done(class, start.elapsed(), bytes);
                if task.is_cacheable {
                    account.cacheable.0 += 1;
                    account.cacheable.1 += bytes;
                }
            }
            Err(error) => account.failed(&error),
        }
    }
    account
}

fn perform(connection: &mut Connection<'_>, segment: &mut Segment, stock: &Stock, task: &Task) -> Result<u64> {
    if task.action == Action::Put {
        return stock.push(connection, segment, task.place);
    }
    let (path, bytes) = (stock.path(task.place), stock.bytes(task.place));
    let headers = if stock.kind(task.place) == Kind::Manifest { ACCEPT_MANIFESTS } else { "" };
    let answer = connection.ask(&Request { method: Method::Get, path: &path, headers, expected_status: 200 })?;
    expect_length(&answer, bytes, &path)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor_server::FloorMode;
    use crate::floor_server::in_thread::FloorInThread;
    use crate::trace::catalog::Catalog;
    use crate::trace::warm_up::Scale;

    /// `GET alice a/b blobs x 5`, a millisecond apart.
    fn trace(lines: &[&str]) -> String {
        let entry = |(number, line): (usize, &&str)| {
            let words: Vec<&str> = line.split(' ').collect();
            let [method, client, repository, kind, id, bytes] = words[..] else { panic!("{line}") };
            format!(
                r#"{{"http.request.method": "{method}", "http.request.uri": "v2/{repository}/{kind}/{id}",
                "http.request.remoteaddr": "{client}", "http.response.written": {bytes},
                "timestamp": "2017-06-20T00:00:00.{number:03}Z"}}"#
            )
        };
        format!("[{}]", lines.iter().enumerate().map(entry).collect::<Vec<_>>().join(","))
    }

    fn replayed(name: &str, lines: &[&str], pace: Pace) -> Replayed {
        let file = std::env::temp_dir().join(format!("longshore-trace-{name}-{}", std::process::id()));
        std::fs::write(&file, trace(lines)).unwrap();
        let server = FloorInThread::start(name, FloorMode::Store);
        let mut catalog = Catalog::default();
        stream::read_file(&file, pace.limit, &mut |request| {
            catalog.add(request);
            Ok(())
        })
        .unwrap();
        let stock = Stock::new(catalog, Scale { factor: 1.0, largest: 1 << 20 });
        stock.warm_up(&server.target, pace.deadline).unwrap();
        let replayed = replay(&file, &stock, &server.target, &pace).unwrap();
        std::fs::remove_file(&file).unwrap();
        replayed
    }

    fn pace() -> Pace {
        let deadline = Instant::now() + Duration::from_secs(60);
        Pace { connections: 4, speed: None, limit: u64::MAX, deadline, lru_bytes: 100_000, inline_max: 1000 }
    }

    fn counts(replayed: &Replayed) -> Vec<(u64, u64)> {
        replayed.tallies.iter().map(|tally| (tally.latencies.count(), tally.bytes)).collect()
    }

    const LINES: [&str; 8] = [
        "GET alice a/b blobs x 50000",
        "GET bob c/d blobs x 50000",
        "GET alice a/b blobs small 500",
        "PUT bob c/d blobs new 70000",
        "GET alice c/d blobs new 70000",
        "GET carol c/d blobs new 70000",
        "GET bob a/b blobs x 50000",
        "HEAD bob a/b blobs x 50000",
    ];

    #[test]
    fn what_a_trace_says_is_done() {
        let replayed = replayed("replay", &LINES, pace());
        assert_eq!((replayed.failures, &replayed.first_failure), (0, &None));
        assert_eq!(counts(&replayed), [(0, 0), (6, 290_500), (1, 70_000), (0, 0)]);
        assert_eq!(replayed.lines, Lines { requests: 7, passed_over: 1 });
        assert_eq!(replayed.cacheable, (5, 290_000));
        // x misses and hits, the new blob pushes it out, hits, and x misses again.
        assert_eq!(replayed.lru.hits.hit_bytes, 50_000 + 70_000);
        assert_eq!(replayed.endless.hits().hit_bytes, 50_000 + 70_000 + 50_000);
    }

    #[test]
    fn a_limit_is_kept_and_a_speed_is_followed() {
        let limited = replayed("limit", &LINES, Pace { limit: 2, speed: Some(1000.0), ..pace() });
        assert_eq!(counts(&limited), [(0, 0), (2, 100_000), (0, 0), (0, 0)]);
        assert_eq!(limited.lags.count(), 2);
    }
}
