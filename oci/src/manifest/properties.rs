//! Properties of the parser over generated manifests, generated near misses, and noise.

use std::collections::HashSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::Algorithm;

/// A digest of one of few contents, so that repeats happen; its size follows from the content.
fn any_content() -> impl Strategy<Value = (Digest, u64)> {
    (prop::sample::select(&Algorithm::ALL[..]), 0_u8..40)
        .prop_map(|(algorithm, content)| (Digest::of(algorithm, &[content]), u64::from(content) << 57))
}

fn any_media_type() -> impl Strategy<Value = MediaType> {
    prop_oneof![
        Just(MediaType::OCI_MANIFEST),
        Just(MediaType::OCI_LAYER_ZSTD),
        Just(MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP),
        Just(MediaType::DOCKER_FOREIGN_LAYER_GZIP),
        "[a-z]{1,4}/[a-z0-9]{1,4}".prop_map(|text| text.parse().unwrap()),
    ]
}

fn any_descriptor() -> impl Strategy<Value = Descriptor> {
    (
        any_media_type(),
        any_content(),
        prop::option::of("[a-z]/[a-z]"),
        btree_map(".{0,4}", ".{0,4}", 0..3),
        vec("https://[a-z]{1,4}", 0..2),
    )
        .prop_map(|(media_type, (digest, size), artifact_type, annotations, urls)| Descriptor {
            media_type,
            digest,
            size,
            artifact_type,
            annotations,
            urls,
        })
}

/// Fields that no spec knows, with values of any shape.
fn unknown_fields() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("x-[a-zA-Z]{1,5}", any_json(), 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("(mediaType|Layers|[a-z]{0,3})", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A manifest of one of the three kinds, without media type, and at times with fields of another.
fn near_manifest() -> impl Strategy<Value = Value> {
    const INTRUDERS: [&str; 8] =
        ["config", "layers", "blobs", "manifests", "subject", "annotations", "fsLayers", "Layers"];
    let base = prop_oneof![
        (any_descriptor(), vec(any_descriptor(), 0..3))
            .prop_map(|(config, layers)| json!({"schemaVersion": 2, "config": config, "layers": layers})),
        vec(any_descriptor(), 0..3).prop_map(|entries| json!({"schemaVersion": 2, "manifests": entries})),
        vec(any_descriptor(), 0..3).prop_map(|blobs| json!({"blobs": blobs})),
    ];
    let intruder = prop_oneof![
        any_descriptor().prop_map(|descriptor| json!(descriptor)),
        vec(any_descriptor(), 0..3).prop_map(|descriptors| json!(descriptors)),
        Just(Value::Null),
        any_json(),
    ];
    (base, btree_map(prop::sample::select(&INTRUDERS[..]), intruder, 0..3), unknown_fields()).prop_map(
        |(mut body, intruders, unknown)| {
            let fields = body.as_object_mut().unwrap();
            for (field, value) in intruders {
                fields.insert(field.to_owned(), value);
            }
            fields.extend(unknown);
            body
        },
    )
}

const CONTENT_TYPES: [Option<&str>; 6] = [
    None,
    Some("application/vnd.oci.image.manifest.v1+json"),
    Some("application/vnd.oci.image.index.v1+json"),
    Some("application/vnd.docker.distribution.manifest.v2+json"),
    Some("application/vnd.docker.distribution.manifest.list.v2+json"),
    Some("application/vnd.oci.artifact.manifest.v1+json"),
];

/// The first descriptor of each digest.
fn unique(descriptors: impl IntoIterator<Item = Descriptor>) -> Vec<Descriptor> {
    let mut unique: Vec<Descriptor> = Vec::new();
    for descriptor in descriptors {
        if unique.iter().all(|other| other.digest != descriptor.digest) {
            unique.push(descriptor);
        }
    }
    unique
}

fn parse(body: &Value, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::parse(body.to_string().as_bytes(), content_type, &ManifestLimits::default())
}

proptest! {
    #[test]
    fn an_image_gives_back_its_descriptors(
        config in any_descriptor(),
        layers in vec(any_descriptor(), 0..8),
        subject in prop::option::of(any_descriptor()),
        annotations in btree_map(".{0,4}", ".{0,4}", 0..4),
        unknown in unknown_fields(),
    ) {
        let mut body = json!({"schemaVersion": 2, "config": config, "layers": layers, "subject": subject});
        body["annotations"] = json!(annotations);
        body.as_object_mut().unwrap().extend(unknown);
        let manifest = parse(&body, None).unwrap();
        let config_type = config.media_type.to_string();
        prop_assert_eq!(manifest.config_media_type, Some(config_type));
        prop_assert_eq!(manifest.subject, subject);
        prop_assert_eq!(manifest.annotations, annotations);
        let all: Vec<Descriptor> = std::iter::once(config).chain(layers).collect();
        let expected = unique(all.clone());
        prop_assert_eq!(manifest.blobs.len(), expected.len());
        for (blob, descriptor) in manifest.blobs.iter().zip(expected) {
            prop_assert_eq!((blob.digest, blob.size), (descriptor.digest, descriptor.size));
            prop_assert_eq!(&blob.media_type, &descriptor.media_type);
            let mut same_digest = all.iter().filter(|other| other.digest == blob.digest);
            let required = same_digest.any(|other| other.urls.is_empty() || !other.media_type.is_nondistributable());
            prop_assert_eq!(blob.required, required);
        }
    }

    #[test]
    fn an_index_gives_back_its_descriptors(
        entries in vec(any_descriptor(), 0..8),
        subject in prop::option::of(any_descriptor()),
        unknown in unknown_fields(),
    ) {
        let mut body = json!({"schemaVersion": 2, "manifests": entries, "subject": subject});
        body.as_object_mut().unwrap().extend(unknown);
        let manifest = parse(&body, None).unwrap();
        prop_assert_eq!(manifest.subject, subject);
        prop_assert_eq!(manifest.children, unique(entries));
    }

    #[test]
    fn no_body_is_a_manifest_of_two_kinds(body in near_manifest()) {
        let mut kinds = HashSet::new();
        for content_type in CONTENT_TYPES {
            if let Ok(manifest) = parse(&body, content_type) {
                kinds.insert(manifest.kind);
            }
        }
        prop_assert!(kinds.len() <= 1, "{:?}", kinds);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_whatever_it_is(body in near_manifest(), key in "[a-zA-Z]{1,8}") {
        let text = body.to_string().replacen('{', &format!("{{\"{key}\":0,\"{key}\":0,"), 1).replace(",}", "}");
        let refusal = Manifest::parse(text.as_bytes(), None, &ManifestLimits::default());
        prop_assert!(matches!(refusal, Err(ManifestError::Json(_))), "{:?}", refusal);
    }

    #[test]
    fn json_never_panics(body in any_json(), content_type in prop::sample::select(&CONTENT_TYPES[..])) {
        let _ = parse(&body, content_type);
    }

    #[test]
    fn bytes_never_panic(body in any::<Vec<u8>>(), content_type in prop::option::of(".{0,20}")) {
        let _ = Manifest::parse(&body, content_type.as_deref(), &ManifestLimits::default());
    }

    #[test]
    fn a_broken_manifest_never_panics(
        body in near_manifest(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut text = body.to_string().into_bytes();
        let position = position.index(text.len());
        text[position] = byte;
        let _ = Manifest::parse(&text, None, &ManifestLimits::default());
        let _ = Manifest::parse(&text[..position], None, &ManifestLimits::default());
    }
}
