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
    /// A process ends and another begins.
    Restart {
        replica: usize,
    },
    /// The store fails at one of the next calls, before or after it did what it was asked.
    FailStore {
        call: usize,
        after: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![Just(Step::Manifests), Just(Step::Grants), Just(Step::Blobs)]
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
    prop_oneof![
        8 => (replica(), repository(), blob())
            .prop_map(|(replica, repository, blob)| PushBlob { replica, repository, blob }),
        4 => (replica(), repository(), blob(), any::<bool>())
            .prop_map(|(replica, repository, blob, ends)| PushInParts { replica, repository, blob, ends }),
        6 => (replica(), repository(), blob())
            .prop_map(|(replica, repository, blob)| Head { replica, repository, blob }),
        4 => (replica(), repository(), repository(), blob())
            .prop_map(|(replica, from, target, blob)| Mount { replica, from, target, blob }),
        2 => (replica(), repository(), blob())
            .prop_map(|(replica, repository, blob)| DeleteBlob { replica, repository, blob }),
        14 => (replica(), repository(), manifest(), prop::option::of(tag()))
            .prop_map(|(replica, repository, manifest, tag)| PushManifest { replica, repository, manifest, tag }),
        3 => (replica(), repository(), tag())
            .prop_map(|(replica, repository, tag)| DeleteTag { replica, repository, tag }),
        3 => (replica(), repository(), manifest())
            .prop_map(|(replica, repository, manifest)| DeleteManifest { replica, repository, manifest }),
        4 => (replica(), repository(), tag()).prop_map(|(replica, repository, tag)| Pull { replica, repository, tag }),
        12 => (replica(), step()).prop_map(|(replica, step)| Look { replica, step }),
        12 => Just(Act),
        2 => replica().prop_map(|replica| ExpireUploads { replica }),
        4 => replica().prop_map(|replica| DeleteObjects { replica }),
        8 => long.prop_map(Advance),
        1 => replica().prop_map(|replica| Restart { replica }),
        3 => (0..4_usize, any::<bool>()).prop_map(|(call, after)| FailStore { call, after }),
    ]
}
