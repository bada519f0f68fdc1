//! Who listens, and who of them need not be waited for: a replica whose host has died stays connected until the server's
//! TCP notices, and answers nothing.
//!
//! # Why nobody is left out who may answer from memory
//!
//! A replica answers from memory for [`OPEN`] after a heartbeat. Its heartbeats follow each other in less than that, or it
//! gives up its connection, and comes back as another one (`notifications.rs`). What the connection brings it takes in order, and a
//! question that has come with one heartbeat is answered before the next one.
//!
//! So the first heartbeat after a question is sent within `OPEN` of it, or never. While the question is not answered no
//! other follows, and memory is closed for good after twice `OPEN`: this connection will not open it again. Whoever takes
//! its place counts at once.
//!
//! A question from before it began to listen does not come at all. So none counts against a connection as long as the
//! beginning may take.

use super::notifications::{BEGINNING, OPEN};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// Clocks do not run alike, and what is sent takes a moment.
const MARGIN: Duration = Duration::from_secs(2);
/// After so long with a question that is not answered, a connection does not count.
pub(super) const SILENT: Duration = OPEN.saturating_mul(2).saturating_add(MARGIN);
/// For so long from when it is first seen, no question counts against a connection.
pub(super) const SETTLING: Duration = BEGINNING.saturating_add(MARGIN);

/// A connection that listens, as the server names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) pid: u32,
    /// When it connected, by the server's clock: numbers of processes come again.
    pub(super) since: i64,
}

/// All that listen, as far as we have asked.
#[derive(Debug, Default)]
pub(super) struct Roll(HashMap<u32, Entry>);

#[derive(Debug)]
struct Entry {
    since: i64,
    seen: Instant,
    /// The first question that counts and that it has not answered.
    owes: Option<Instant>,
    is_left_out: bool,
}

impl Roll {
    /// These listen, and were asked just before `now`. Answers whom to wait for.
    pub(super) fn call(&mut self, listening: &[Listening], now: Instant) -> HashSet<u32> {
        let old = std::mem::take(&mut self.0);
        let known = |listening: &Listening| old.get(&listening.pid).filter(|entry| entry.since == listening.since);
        for one in listening {
            let seen = known(one).map_or(now, |entry| entry.seen);
            let owes = known(one).and_then(|entry| entry.owes);
            let owes = owes.or_else(|| (now >= seen + SETTLING).then_some(now));
            let is_left_out = known(one).is_some_and(|entry| entry.is_left_out);
            self.0.insert(one.pid, Entry { since: one.since, seen, owes, is_left_out });
        }
        self.0.iter().filter(|(_, entry)| !entry.is_left_out).map(|(pid, _)| *pid).collect()
    }

    /// Whoever says anything is alive, and counts.
    pub(super) fn hear(&mut self, pid: u32) {
        let Some(entry) = self.0.get_mut(&pid) else { return };
        entry.owes = None;
        if std::mem::take(&mut entry.is_left_out) {
            tracing::info!(pid, "a replica that answered nothing has answered: writes wait for it again");
        }
    }

    /// Leaves out who has been silent for too long. All that was said before `until` has been heard.
    pub(super) fn leave_out(&mut self, until: Instant) {
        for (pid, entry) in &mut self.0 {
            let is_silent = entry.owes.is_some_and(|since| until >= since + SILENT);
            if is_silent && !std::mem::replace(&mut entry.is_left_out, true) {
                tracing::warn!(
                    pid,
                    "a replica is connected and answers nothing, so it answers nothing from memory either: writes no \
                     longer wait until it has heard of them"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    fn listening(pid: u32) -> Listening {
        Listening { pid, since: 0 }
    }

    /// A roll on which 1 and 2 have settled, and the moment of it.
    fn settled() -> (Roll, Instant) {
        let (mut roll, begin) = (Roll::default(), Instant::now());
        roll.call(&[listening(1), listening(2)], begin);
        (roll, begin + SETTLING)
    }

    fn called(roll: &mut Roll, pids: &[u32], now: Instant) -> Vec<u32> {
        let listening: Vec<Listening> = pids.iter().map(|pid| listening(*pid)).collect();
        let mut called: Vec<u32> = roll.call(&listening, now).into_iter().collect();
        called.sort_unstable();
        called
    }

    #[test]
    fn who_answers_nothing_is_left_out_and_who_answers_is_not() {
        let (mut roll, asked) = settled();
        assert_eq!(called(&mut roll, &[1, 2], asked), [1, 2]);
        // Later questions make the first one no younger.
        assert_eq!(called(&mut roll, &[1, 2], asked + SILENT / 2), [1, 2]);
        roll.hear(1);
        roll.leave_out(asked + SILENT - TICK);
        assert_eq!(called(&mut roll, &[1, 2], asked + SILENT - TICK), [1, 2]);
        roll.leave_out(asked + SILENT);
        assert_eq!(called(&mut roll, &[1, 2], asked + SILENT), [1]);
        // It is not forgotten while it stays connected.
        assert_eq!(called(&mut roll, &[1, 2], asked + SILENT * 9), [1]);
    }

    #[test]
    fn nobody_is_left_out_who_was_not_asked() {
        let (mut roll, begin) = settled();
        roll.leave_out(begin + SILENT * 9);
        assert_eq!(called(&mut roll, &[1, 2], begin + SILENT * 9), [1, 2]);
    }

    #[test]
    fn who_has_just_connected_counts_and_owes_nothing_yet() {
        let (mut roll, begin) = (Roll::default(), Instant::now());
        for passed in [Duration::ZERO, SETTLING - TICK] {
            assert_eq!(called(&mut roll, &[1], begin + passed), [1]);
        }
        roll.leave_out(begin + SILENT * 9);
        assert_eq!(called(&mut roll, &[1], begin + SETTLING), [1], "this question is the first that counts");
        roll.leave_out(begin + SETTLING + SILENT - TICK);
        assert_eq!(called(&mut roll, &[1], begin + SETTLING + SILENT - TICK), [1]);
        roll.leave_out(begin + SETTLING + SILENT);
        assert_eq!(called(&mut roll, &[1], begin + SETTLING + SILENT), [] as [u32; 0]);
    }

    #[test]
    fn who_answers_again_counts_again() {
        let (mut roll, asked) = settled();
        called(&mut roll, &[1, 2], asked);
        roll.leave_out(asked + SILENT);
        assert_eq!(called(&mut roll, &[1, 2], asked + SILENT), [] as [u32; 0]);
        roll.hear(2);
        assert_eq!(called(&mut roll, &[1, 2], asked + SILENT), [2]);
        roll.leave_out(asked + SILENT * 2 - TICK);
        assert_eq!(called(&mut roll, &[1, 2], asked + SILENT * 2 - TICK), [2]);
    }

    #[test]
    fn another_connection_of_the_same_number_counts_at_once() {
        let (mut roll, asked) = settled();
        called(&mut roll, &[1, 2], asked);
        roll.leave_out(asked + SILENT);
        assert_eq!(called(&mut roll, &[2], asked + SILENT), [] as [u32; 0]);
        let another = Listening { since: 1, ..listening(2) };
        assert_eq!(roll.call(&[another], asked + SILENT), HashSet::from([2]));
        // Who was gone meanwhile is a new one too.
        assert_eq!(called(&mut roll, &[1], asked + SILENT), [1]);
    }
}
