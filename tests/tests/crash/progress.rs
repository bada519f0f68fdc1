//! What all clients have done so far: by this, and not by time, a test deals its blows. And which blows are over.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The counts that clients and a test share.
#[derive(Debug)]
pub(crate) struct Progress(watch::Sender<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Pieces of bodies that were sent or received.
    pieces: usize,
    /// Operations that ended well.
    done: usize,
    /// Blows, and whether the last one is just being dealt.
    dealt: usize,
    is_dealing: bool,
    /// Blows from which all has recovered.
    over: usize,
    /// Requests that failed, and how many of them before the last blow.
    failed: usize,
    failed_before: usize,
    /// How many operations are under way, by how many blows were over when they began.
    under_way: BTreeMap<usize, usize>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Counts::default()))
    }

    /// An operation begins: says how many blows are over.
    pub(crate) fn begin(&self) -> usize {
        let mut begun = 0;
        self.0.send_modify(|counts| {
            begun = counts.over;
            *counts.under_way.entry(begun).or_default() += 1;
        });
        begun
    }

    /// An operation that [began](Self::begin) when so many blows were over has ended well.
    pub(crate) fn end(&self, begun: usize) {
        self.0.send_modify(|counts| {
            counts.done += 1;
            *counts.under_way.get_mut(&begun).expect("it began") -= 1;
        });
    }

    pub(crate) fn count_piece(&self) {
        self.0.send_modify(|counts| counts.pieces += 1);
    }

    /// A request has failed, of an operation that [began](Self::begin) when so many blows were over. Says whether that
    /// were all of them.
    pub(crate) fn fail(&self, begun: usize) -> bool {
        let mut is_late = false;
        self.0.send_modify(|counts| {
            counts.failed += 1;
            is_late = begun == counts.dealt;
        });
        is_late
    }

    /// Whether a blow may have hit an operation that [began](Self::begin) when so many blows were over.
    pub(crate) fn may_have_hit(&self, begun: usize) -> bool {
        begun != self.dealt()
    }

    /// How many operations have ended well.
    pub(crate) fn done(&self) -> usize {
        self.0.borrow().done
    }

    /// How many blows were dealt.
    pub(crate) fn dealt(&self) -> usize {
        self.0.borrow().dealt
    }

    /// Waits until so many operations have ended well, since the beginning.
    pub(crate) async fn reach(&self, operations: usize) {
        self.wait_for(|counts| counts.done >= operations).await;
    }

    /// Waits for so many more pieces.
    pub(crate) async fn pass_pieces(&self, pieces: usize) {
        let from = self.0.borrow().pieces;
        self.wait_for(|counts| counts.pieces >= from + pieces).await;
    }

    /// Waits for so many more operations.
    pub(crate) async fn pass(&self, operations: usize) {
        self.reach(self.done() + operations).await;
    }

    /// Deals a blow: from its beginning on, operations may fail.
    pub(crate) fn strike(&self, blow: impl FnOnce()) {
        self.0.send_modify(|counts| {
            counts.dealt += 1;
            counts.is_dealing = true;
            counts.failed_before = counts.failed;
        });
        blow();
        self.0.send_modify(|counts| counts.is_dealing = false);
    }

    /// Brings back what was struck: operations that begin from now on are not hit by it.
    pub(crate) fn recover(&self, recovery: impl FnOnce()) {
        recovery();
        self.0.send_modify(|counts| {
            counts.over = counts.dealt;
        });
    }

    /// Waits until a client has felt the last blow.
    pub(crate) async fn told(&self) {
        self.wait_for(|counts| counts.failed > counts.failed_before).await;
    }

    /// Waits while a blow is being dealt.
    pub(crate) async fn struck(&self) {
        self.wait_for(|counts| !counts.is_dealing).await;
    }

    /// Waits until all has recovered.
    pub(crate) async fn recovered(&self) {
        self.wait_for(|counts| counts.over == counts.dealt).await;
    }

    /// Waits until every operation that the blows so far can have hit has ended: so none is hit by two.
    pub(crate) async fn spared(&self) {
        self.wait_for(|counts| counts.under_way.range(..counts.over).all(|(_, count)| *count == 0)).await;
    }

    async fn wait_for(&self, condition: impl FnMut(&Counts) -> bool) {
        self.0.subscribe().wait_for(condition).await.expect("the sender is here");
    }
}
