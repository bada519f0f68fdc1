//! What may happen.

use longshore_gc::Step;
use proptest::prelude::*;
use std::time::Duration;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// How many there are of each; small, so that histories meet.
pub(crate) const REPOSITORIES: usize = 3;
pub(crate) const BLOBS: usize = 8;
pub(crate) const MANIFESTS: usize = 10;
pub(crate) const TAGS: usize = 3;
pub(crate) const REPLICAS: usize = 3;

/// Something that a client, the collector, time or bad luck does. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// A blob in one request.
    PushBlob {
        replica: usize,
        repository: usize,
        blob: usize,
    },
    /// A blob in several requests, each to another replica; it may be left before its end.
    PushInParts {
        replica: usize,
        repository: usize,
        blob: usize,
        ends: bool,
    },
    /// A client looks whether it must push.
    Head {
        replica: usize,
        repository: usize,
        blob: usize,
    },
    Mount {
        replica: usize,
        from: usize,
        target: usize,
        blob: usize,
    },
    DeleteBlob {
        replica: usize,
        repository: usize,
        blob: usize,
    },
    /// One of the manifests, under a tag or its digest.
    PushManifest {
        replica: usize,
        repository: usize,
        manifest: usize,
        tag: Option<usize>,
    },
    DeleteTag {
        replica: usize,
        repository: usize,
        tag: usize,
    },
    DeleteManifest {
        replica: usize,
        repository: usize,
        manifest: usize,
    },
    Pull {
        replica: usize,
        repository: usize,
        tag: usize,
    },
    /// The collector of a replica reads and decides.
    Look {
        replica: usize,
        step: Step,
    },
    /// What was decided first and not done is done.
    Act,
    ExpireUploads {
        replica: usize,
    },
    DeleteObjects {
        replica: usize,
    },
    Advance(Duration),
    /// A whole pass of a replica's collector.
    Pass {
        replica: usize,
    },
    /// No process is there for so long.
    Down(Duration),
    /// The database's clock is set to another time while processes run.
    MoveClock {
        by: Duration,
        back: bool,
    },
    /// A process ends and another begins.
    Restart {
        replica: usize,
    },
    /// A process dies at one of the calls to the store that this takes, before or after the store did what it was asked.
    Crash {
        replica: usize,
        at: Unfinished,
        call: usize,
        after: bool,
    },
    BackUp {
        replica: usize,
    },
    /// The last backup takes the place of the database.
    Restore,
    /// The bytes of a blob's object become others, and somebody finds out.
    Spoil {
        replica: usize,
        blob: usize,
    },
    /// The store fails at one of the next calls, before or after it did what it was asked.
    FailStore {
        call: usize,
        after: bool,
    },
}

/// What a process is at when it dies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unfinished {
    PushBlob { repository: usize, blob: usize },
    PushInParts { repository: usize, blob: usize },
    DeleteObjects,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![Just(Step::Manifests), Just(Step::Grants), Just(Step::Blobs)]
}

fn unfinished() -> impl Strategy<Value = Unfinished> {
    let blob = || (0..REPOSITORIES, 0..BLOBS);
    prop_oneof![
        blob().prop_map(|(repository, blob)| Unfinished::PushBlob { repository, blob }),
        blob().prop_map(|(repository, blob)| Unfinished::PushInParts { repository, blob }),
        Just(Unfinished::DeleteObjects),
    ]
}

pub(crate) fn operations() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let replica = || 0..REPLICAS;
    let repository = || 0..REPOSITORIES;
    let blob = || 0..BLOBS;
    let manifest = || 0..MANIFESTS;
    let tag = || 0..TAGS;
    let long = prop_oneof![
        Just(Duration::from_secs(60)),
        Just(HOUR),
        Just(11 * HOUR),
        Just(13 * HOUR),
        Just(24 * HOUR),
        Just(25 * HOUR),
        Just(49 * HOUR)
    ];
    // What is rare takes long, or holds the collector up.
    prop_oneof![
        32 => (replica(), repository(), blob())
            .prop_map(|(replica, repository, blob)| PushBlob { replica, repository, blob }),
        16 => (replica(), repository(), blob(), any::<bool>())
            .prop_map(|(replica, repository, blob, ends)| PushInParts { replica, repository, blob, ends }),
        24 => (replica(), repository(), blob())
            .prop_map(|(replica, repository, blob)| Head { replica, repository, blob }),
        16 => (replica(), repository(), repository(), blob())
            .prop_map(|(replica, from, target, blob)| Mount { replica, from, target, blob }),
        8 => (replica(), repository(), blob())
            .prop_map(|(replica, repository, blob)| DeleteBlob { replica, repository, blob }),
        56 => (replica(), repository(), manifest(), prop::option::of(tag()))
            .prop_map(|(replica, repository, manifest, tag)| PushManifest { replica, repository, manifest, tag }),
        12 => (replica(), repository(), tag())
            .prop_map(|(replica, repository, tag)| DeleteTag { replica, repository, tag }),
        12 => (replica(), repository(), manifest())
            .prop_map(|(replica, repository, manifest)| DeleteManifest { replica, repository, manifest }),
        16 => (replica(), repository(), tag()).prop_map(|(replica, repository, tag)| Pull { replica, repository, tag }),
        48 => (replica(), step()).prop_map(|(replica, step)| Look { replica, step }),
        48 => Just(Act),
        8 => replica().prop_map(|replica| ExpireUploads { replica }),
        16 => replica().prop_map(|replica| DeleteObjects { replica }),
        32 => long.prop_map(Advance),
        4 => replica().prop_map(|replica| Restart { replica }),
        12 => (0..4_usize, any::<bool>()).prop_map(|(call, after)| FailStore { call, after }),
        6 => replica().prop_map(|replica| Pass { replica }),
        1 => prop_oneof![Just(25 * HOUR), Just(49 * HOUR)].prop_map(Down),
        1 => (prop_oneof![Just(HOUR), Just(25 * HOUR), Just(49 * HOUR)], any::<bool>())
            .prop_map(|(by, back)| MoveClock { by, back }),
        6 => (replica(), unfinished(), 0..2_usize, any::<bool>())
            .prop_map(|(replica, at, call, after)| Crash { replica, at, call, after }),
        6 => replica().prop_map(|replica| BackUp { replica }),
        3 => Just(Restore),
        3 => (replica(), blob()).prop_map(|(replica, blob)| Spoil { replica, blob }),
    ]
}
