//! One test for each rule of the parser.

use serde_json::{Value, json};

use super::*;
use crate::{Algorithm, JsonError};

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn digest(content: &str) -> Digest {
    Digest::of(Algorithm::Sha256, content.as_bytes())
}

/// A descriptor of this content.
fn descriptor(media_type: &str, content: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest(content).to_string(), "size": content.len()})
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": descriptor("application/vnd.oci.image.config.v1+json", "config"),
        "layers": [descriptor(LAYER, "layer one"), descriptor(LAYER, "layer two")],
    })
}

fn index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(OCI_IMAGE, "image one"), descriptor(OCI_IMAGE, "image two")],
    })
}

/// The body with one field set.
fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// The body without one field.
fn without(mut body: Value, field: &str) -> Value {
    body.as_object_mut().unwrap().remove(field).unwrap();
    body
}

fn parse_as(body: &Value, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::parse(body.to_string().as_bytes(), content_type, &ManifestLimits::default())
}

fn parse(body: &Value) -> Result<Manifest, ManifestError> {
    parse_as(body, None)
}

fn error_text(body: &Value) -> String {
    parse(body).unwrap_err().to_string()
}

fn digests_of_blobs(manifest: &Manifest) -> Vec<Digest> {
    manifest.blobs.iter().map(|blob| blob.digest).collect()
}

#[test]
fn an_image_lists_config_and_layers() {
    let manifest = parse(&image()).unwrap();
    assert_eq!(manifest.kind, ManifestKind::Image);
    assert_eq!(manifest.media_type, MediaType::OCI_MANIFEST);
    assert_eq!(manifest.config_media_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
    assert_eq!(digests_of_blobs(&manifest), [digest("config"), digest("layer one"), digest("layer two")]);
    assert_eq!(manifest.blobs[1].media_type, MediaType::OCI_LAYER_GZIP);
    assert_eq!(manifest.blobs[1].size, 9);
    assert!(manifest.blobs.iter().all(|blob| blob.required));
    assert_eq!((manifest.subject, manifest.children), (None, Vec::new()));
}

#[test]
fn an_index_lists_children() {
    let manifest = parse(&index()).unwrap();
    assert_eq!(manifest.kind, ManifestKind::Index);
    let children: Vec<Digest> = manifest.children.iter().map(|child| child.digest).collect();
    assert_eq!(children, [digest("image one"), digest("image two")]);
    assert_eq!(manifest.blobs, []);
    assert_eq!(manifest.config_media_type, None);
}

#[test]
fn an_artifact_lists_blobs_and_needs_no_schema_version() {
    let body = json!({"mediaType": OCI_ARTIFACT, "artifactType": "a/b", "blobs": [descriptor("c/d", "blob")]});
    let manifest = parse(&body).unwrap();
    assert_eq!(manifest.kind, ManifestKind::Artifact);
    assert_eq!(digests_of_blobs(&manifest), [digest("blob")]);
    assert_eq!(manifest.referrer_artifact_type(), Some("a/b"));
    assert_eq!(parse(&without(body, "blobs")).unwrap().blobs, []);
}

#[test]
fn docker_types_are_kept() {
    for (content_type, body) in [(DOCKER_IMAGE, image()), (DOCKER_LIST, index())] {
        let manifest = parse_as(&with(body, "mediaType", json!(content_type)), Some(content_type)).unwrap();
        assert_eq!(manifest.media_type.as_str(), content_type);
    }
}

#[test]
fn parameters_of_the_header_are_ignored() {
    for header in ["; charset=utf-8", ";charset=utf-8", " ; a=b; c=d"] {
        let manifest = parse_as(&image(), Some(&format!("{OCI_IMAGE}{header}"))).unwrap();
        assert_eq!(manifest.media_type, MediaType::OCI_MANIFEST);
    }
}

#[test]
fn without_a_telling_header_the_body_decides() {
    let body = with(image(), "mediaType", json!(DOCKER_IMAGE));
    for header in [None, Some(""), Some(" "), Some("application/json"), Some("application/octet-stream; x=y")] {
        assert_eq!(parse_as(&body, header).unwrap().media_type, MediaType::DOCKER_MANIFEST, "{header:?}");
    }
}

#[test]
fn without_any_type_the_fields_decide_if_they_can() {
    assert_eq!(parse(&without(image(), "mediaType")).unwrap().media_type, MediaType::OCI_MANIFEST);
    assert_eq!(parse(&without(index(), "mediaType")).unwrap().media_type, MediaType::OCI_INDEX);
    assert_eq!(parse(&with(index(), "mediaType", json!(""))).unwrap().media_type, MediaType::OCI_INDEX);
    let neither = [
        json!({"schemaVersion": 2}),
        json!({"schemaVersion": 2, "blobs": []}),
        without(without(image(), "mediaType"), "layers"),
        without(without(image(), "mediaType"), "config"),
    ];
    for body in neither {
        assert_eq!(parse(&body), Err(ManifestError::NoMediaType), "{body}");
    }
}

#[test]
fn header_and_body_have_to_agree() {
    let error = parse_as(&image(), Some(OCI_INDEX)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "header `Content-Type` says `{OCI_INDEX}` and the manifest's mediaType says `{OCI_IMAGE}`: make them equal"
        )
    );
    let with_parameter = with(image(), "mediaType", json!(format!("{OCI_IMAGE};a=b")));
    assert!(matches!(parse_as(&with_parameter, Some(OCI_IMAGE)), Err(ManifestError::MediaTypeMismatch { .. })));
}

#[test]
fn unknown_types_are_refused_with_the_known_ones() {
    let error = parse_as(&without(image(), "mediaType"), Some("text/plain")).unwrap_err().to_string();
    assert!(
        error.starts_with("manifests of type `text/plain` are not supported: send one of `application/vnd.oci."),
        "{error}"
    );
    assert!(error.contains(DOCKER_LIST), "{error}");
    let in_body = with(image(), "mediaType", json!(LAYER));
    assert!(matches!(parse(&in_body), Err(ManifestError::UnknownMediaType { .. })));
    assert!(matches!(parse_as(&in_body, Some(LAYER)), Err(ManifestError::UnknownMediaType { .. })));
    let other_case = OCI_IMAGE.to_uppercase();
    assert!(matches!(
        parse_as(&without(image(), "mediaType"), Some(&other_case)),
        Err(ManifestError::UnknownMediaType { .. })
    ));
    for header in ["nonsense", "a/b, c/d", "*/*"] {
        assert!(
            matches!(parse_as(&image(), Some(header)), Err(ManifestError::MalformedContentType { .. })),
            "{header}"
        );
    }
}

#[test]
fn schema_1_has_a_refusal_of_its_own() {
    let body = json!({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": [], "signatures": []});
    assert_eq!(parse(&body), Err(ManifestError::Schema1));
    for media_type in [MediaType::DOCKER_SCHEMA1, MediaType::DOCKER_SCHEMA1_SIGNED] {
        assert_eq!(parse_as(&body, Some(media_type.as_str())), Err(ManifestError::Schema1));
        assert_eq!(parse_as(&image(), Some(media_type.as_str())), Err(ManifestError::Schema1));
        assert_eq!(parse(&with(image(), "mediaType", json!(media_type))), Err(ManifestError::Schema1));
    }
    assert_eq!(parse_as(&with(image(), "schemaVersion", json!(1)), Some(OCI_IMAGE)), Err(ManifestError::Schema1));
}

#[test]
fn the_schema_version_is_2() {
    for version in [json!(0), json!(3), json!(2.0), json!(-2), Value::Null] {
        assert_eq!(
            parse(&with(image(), "schemaVersion", version.clone())),
            Err(ManifestError::SchemaVersion),
            "{version}"
        );
    }
    assert_eq!(parse(&without(index(), "schemaVersion")), Err(ManifestError::SchemaVersion));
    assert_eq!(
        error_text(&with(image(), "schemaVersion", json!("2"))),
        "`schemaVersion` has to be a number, not a string"
    );
}

#[test]
fn fields_of_two_kinds_are_refused() {
    for field in ["manifests", "blobs", "fsLayers"] {
        for value in [json!([]), Value::Null, json!([descriptor(OCI_IMAGE, "x")])] {
            let error = parse(&with(image(), field, value.clone())).unwrap_err();
            assert_eq!(error, ManifestError::AmbiguousKind { kind: ManifestKind::Image, field }, "{value}");
        }
    }
    for field in ["config", "layers", "blobs", "fsLayers"] {
        let error = parse(&with(index(), field, json!([]))).unwrap_err();
        assert_eq!(error, ManifestError::AmbiguousKind { kind: ManifestKind::Index, field });
    }
    let untyped = without(with(image(), "manifests", json!([])), "mediaType");
    assert!(matches!(parse(&untyped), Err(ManifestError::AmbiguousKind { .. })));
    assert_eq!(
        error_text(&with(index(), "layers", json!([]))),
        "an image index must not have the field `layers`, which makes it ambiguous: \
         remove the field or send the right media type"
    );
}

#[test]
fn lists_may_be_empty_or_null_but_not_absent() {
    for empty in [json!([]), Value::Null] {
        assert_eq!(parse(&with(image(), "layers", empty.clone())).unwrap().blobs.len(), 1);
        assert_eq!(parse(&with(index(), "manifests", empty)).unwrap().children, []);
    }
    assert_eq!(error_text(&without(image(), "layers")), "`layers` is missing: add it");
    assert_eq!(error_text(&without(index(), "manifests")), "`manifests` is missing: add it");
}

#[test]
fn an_image_needs_a_config() {
    assert_eq!(error_text(&without(image(), "config")), "`config` is missing: add it");
    assert_eq!(error_text(&with(image(), "config", Value::Null)), "`config` is missing: add it");
    assert_eq!(error_text(&with(image(), "config", json!([]))), "`config` has to be an object, not a list");
}

#[test]
fn duplicate_keys_are_refused_at_any_depth() {
    let text = image().to_string();
    let twice = [
        text.replacen('{', "{\"layers\":[],", 1),
        text.replacen("\"size\":", "\"size\":1,\"size\":", 1),
        text.replacen('{', "{\"unknown\":[{\"a\":1,\"a\":1}],", 1),
    ];
    for body in twice {
        let error = Manifest::parse(body.as_bytes(), None, &ManifestLimits::default()).unwrap_err();
        assert!(matches!(error, ManifestError::Json(JsonError::DuplicateKey { .. })), "{error}");
    }
}

#[test]
fn look_alikes_of_fields_are_refused_where_they_confuse() {
    for key in ["Layers", "MediaType", "SUBJECT", "manifestS", "layerſ", "fslayers"] {
        let error = parse(&with(image(), key, json!(null))).unwrap_err();
        assert!(matches!(error, ManifestError::LookAlikeField { .. }), "{key}: {error}");
    }
    let mut body = image();
    body["layers"][1]["Digest"] = json!("x");
    assert_eq!(
        error_text(&body),
        "`layers[1].Digest` is read as `digest` by some clients and ignored by others: spell it `digest` or rename it"
    );
    let mut body = with(image(), "subject", descriptor(OCI_IMAGE, "subject"));
    body["subject"]["SIZE"] = json!(1);
    assert!(error_text(&body).starts_with("`subject.SIZE`"));
}

#[test]
fn what_is_unknown_is_accepted() {
    let mut body = with(image(), "org.example.field", json!({"Layers": [1, {"mediaType": 7}]}));
    body["config"]["data"] = json!("e30=");
    body["layers"][0]["platform"] = json!("any shape");
    body["layers"][1]["Annotation"] = json!(null);
    body["annotations"] = json!({"Layers": "two", "digest": "x", "Digest": "y"});
    assert_eq!(parse(&body).unwrap().annotations.len(), 3);
    let mut body = index();
    body["manifests"][0]["platform"] =
        json!({"OS": "linux", "os": "linux", "architecture": ["amd64"], "os.features": null});
    body["manifests"][1]["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    assert_eq!(parse(&body).unwrap().children.len(), 2);
}

#[test]
fn an_index_may_list_blobs_as_the_cache_of_buildkit_does() {
    let entries = json!([descriptor(LAYER, "layer"), descriptor("application/vnd.buildkit.cacheconfig.v0", "cache")]);
    let manifest = parse(&with(index(), "manifests", entries)).unwrap();
    assert_eq!(manifest.children[1].media_type.as_str(), "application/vnd.buildkit.cacheconfig.v0");
    assert_eq!(manifest.config_media_type.as_deref(), Some("application/vnd.buildkit.cacheconfig.v0"));
}

#[test]
fn an_artifact_as_an_image_with_an_empty_config() {
    let empty = "application/vnd.oci.empty.v1+json";
    let mut body = image();
    body["artifactType"] = json!("application/vnd.example");
    body["config"] = descriptor(empty, "{}");
    body["layers"] = json!([descriptor(empty, "{}")]);
    let manifest = parse(&body).unwrap();
    assert_eq!(digests_of_blobs(&manifest), [digest("{}")]);
    assert_eq!(manifest.referrer_artifact_type(), Some("application/vnd.example"));
}

#[test]
fn the_type_of_a_referrer() {
    let config_type = "application/vnd.oci.image.config.v1+json";
    assert_eq!(parse(&image()).unwrap().referrer_artifact_type(), Some(config_type));
    for absent in [json!(""), Value::Null] {
        let manifest = parse(&with(image(), "artifactType", absent)).unwrap();
        assert_eq!(manifest.artifact_type, None);
        assert_eq!(manifest.referrer_artifact_type(), Some(config_type));
    }
    assert_eq!(parse(&index()).unwrap().referrer_artifact_type(), None);
    let typed = parse(&with(index(), "artifactType", json!("a/b"))).unwrap();
    assert_eq!(typed.referrer_artifact_type(), Some("a/b"));
}

#[test]
fn a_subject_is_a_descriptor() {
    let manifest = parse(&with(index(), "subject", descriptor(OCI_IMAGE, "subject"))).unwrap();
    assert_eq!(manifest.subject.unwrap().digest, digest("subject"));
    assert_eq!(parse(&with(image(), "subject", Value::Null)).unwrap().subject, None);
    assert_eq!(error_text(&with(image(), "subject", json!({}))), "`subject.mediaType` is missing: add it");
    assert_eq!(error_text(&with(image(), "subject", json!("x"))), "`subject` has to be an object, not a string");
}

#[test]
fn digests_name_their_path() {
    let mut body = image();
    body["layers"][1]["digest"] = json!("sha256:beef");
    assert_eq!(
        error_text(&body),
        "`layers[1].digest`: the hash of a sha256 digest has 64 hexadecimal digits, not 4: send the whole hash"
    );
    body["layers"][1]["digest"] = json!("blake3:beef");
    assert!(matches!(
        parse(&body),
        Err(ManifestError::InvalidDigest { problem: crate::DigestError::UnsupportedAlgorithm { .. }, .. })
    ));
    body["layers"][1]["digest"] = Digest::of(Algorithm::Sha512, b"x").to_string().into();
    assert_eq!(parse(&body).unwrap().blobs[2].digest.algorithm(), Algorithm::Sha512);
}

#[test]
fn media_types_of_descriptors_name_their_path() {
    let mut body = index();
    body["manifests"][0]["mediaType"] = json!("tarball");
    assert!(error_text(&body).starts_with("`manifests[0].mediaType`: `tarball` is no media type"));
    body["manifests"][0]["mediaType"] = json!("");
    assert_eq!(error_text(&body), "`manifests[0].mediaType` is missing: add it");
}

#[test]
fn sizes_are_integers_of_63_bits() {
    let mut body = image();
    for size in [json!(0), json!(i64::MAX)] {
        body["config"]["size"] = size;
        assert!(parse(&body).is_ok());
    }
    for size in [json!(-1), json!(1.0), json!(i64::MAX as u64 + 1), json!(u64::MAX)] {
        body["config"]["size"] = size.clone();
        assert_eq!(parse(&body), Err(ManifestError::InvalidSize { path: "config.size".to_owned() }), "{size}");
    }
    body["config"]["size"] = json!("7");
    assert_eq!(error_text(&body), "`config.size` has to be a number, not a string");
    body["config"]["size"] = Value::Null;
    assert_eq!(error_text(&body), "`config.size` is missing: add it");
}

#[test]
fn one_digest_has_one_size() {
    let mut body = image();
    body["layers"] = json!([descriptor(LAYER, "layer"), descriptor(LAYER, "layer")]);
    assert_eq!(digests_of_blobs(&parse(&body).unwrap()), [digest("config"), digest("layer")]);
    body["layers"][1]["size"] = json!(77);
    assert_eq!(
        parse(&body),
        Err(ManifestError::SizeConflict {
            path: "layers[1].size".to_owned(),
            digest: digest("layer"),
            size: 77,
            other_size: 5
        })
    );
    let mut body = with(index(), "subject", descriptor(OCI_IMAGE, "image one"));
    assert!(parse(&body).is_ok());
    body["subject"]["size"] = json!(1);
    assert!(matches!(parse(&body), Err(ManifestError::SizeConflict { .. })));
}

#[test]
fn the_same_child_on_two_platforms_is_one_child() {
    let mut body = index();
    body["manifests"] = json!([descriptor(OCI_IMAGE, "a"), descriptor(OCI_IMAGE, "b"), descriptor(OCI_IMAGE, "a")]);
    body["manifests"][2]["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let children: Vec<Digest> = parse(&body).unwrap().children.iter().map(|child| child.digest).collect();
    assert_eq!(children, [digest("a"), digest("b")]);
}

#[test]
fn only_nondistributable_layers_with_urls_may_be_absent() {
    let elsewhere = |media_type: &str, urls: Value| with(descriptor(media_type, media_type), "urls", urls);
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let nondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let urls = json!(["https://example.com/layer"]);
    let layers =
        json!([elsewhere(foreign, urls.clone()), elsewhere(nondistributable, Value::Null), elsewhere(LAYER, urls)]);
    let manifest = parse(&with(image(), "layers", layers)).unwrap();
    let required: Vec<bool> = manifest.blobs.iter().map(|blob| blob.required).collect();
    assert_eq!(required, [true, false, true, true]);
}

#[test]
fn a_layer_that_is_required_once_is_required() {
    let foreign = with(
        descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "layer"),
        "urls",
        json!(["https://example.com/layer"]),
    );
    let manifest = parse(&with(image(), "layers", json!([foreign, descriptor(LAYER, "layer")]))).unwrap();
    assert_eq!(manifest.blobs.len(), 2);
    assert!(manifest.blobs[1].required);
}

#[test]
fn urls_are_strings() {
    let mut body = image();
    body["layers"][0]["urls"] = json!(["https://example.com", 7]);
    assert_eq!(error_text(&body), "`layers[0].urls[1]` has to be a string, not a number");
}

#[test]
fn annotations_are_strings() {
    let annotated = with(index(), "annotations", json!({"a": "b", "": ""}));
    assert_eq!(parse(&annotated).unwrap().annotations["a"], "b");
    assert!(parse(&with(index(), "annotations", Value::Null)).unwrap().annotations.is_empty());
    assert_eq!(
        error_text(&with(index(), "annotations", json!({"a": 1}))),
        "`annotations[\"a\"]` has to be a string, not a number"
    );
    assert_eq!(error_text(&with(index(), "annotations", json!([]))), "`annotations` has to be an object, not a list");
    let mut body = image();
    body["config"]["annotations"] = json!({"k": null});
    assert_eq!(error_text(&body), "`config.annotations[\"k\"]` has to be a string, not null");
}

#[test]
fn descriptors_of_children_keep_what_a_registry_shows() {
    let mut body = index();
    body["manifests"][0]["annotations"] = json!({"a": "b"});
    body["manifests"][0]["artifactType"] = json!("c/d");
    let child = &parse(&body).unwrap().children[0];
    assert_eq!(child.annotations["a"], "b");
    assert_eq!(child.artifact_type.as_deref(), Some("c/d"));
}

#[test]
fn only_objects_are_manifests() {
    for (body, found) in
        [("[]", "a list"), ("null", "null"), ("\"x\"", "a string"), ("7", "a number"), ("true", "a boolean")]
    {
        let error = Manifest::parse(body.as_bytes(), None, &ManifestLimits::default()).unwrap_err();
        assert_eq!(error, ManifestError::NotAnObject { found });
    }
}

#[test]
fn the_body_ends_where_the_manifest_ends() {
    let text = image().to_string();
    let limits = ManifestLimits::default();
    assert!(Manifest::parse(format!("\n {text}\r\n\t").as_bytes(), None, &limits).is_ok());
    for body in [format!("{text}x"), format!("{text}{text}"), format!("\u{feff}{text}"), format!("{text}\0")] {
        assert!(matches!(Manifest::parse(body.as_bytes(), None, &limits), Err(ManifestError::Json(_))), "{body}");
    }
}

#[test]
fn limits_hold_exactly() {
    let descriptors = |max_descriptors| ManifestLimits { max_descriptors, ..ManifestLimits::default() };
    let annotations = |max_annotations| ManifestLimits { max_annotations, ..ManifestLimits::default() };
    let depth = |max_depth| ManifestLimits { max_depth, ..ManifestLimits::default() };
    let mut body = with(image(), "annotations", json!({"a": "b"}));
    body["layers"][0]["annotations"] = json!({"c": "d", "e": "f"});
    let text = body.to_string();
    let parse = |limits: ManifestLimits| Manifest::parse(text.as_bytes(), None, &limits);
    assert!(parse(descriptors(3)).is_ok());
    assert_eq!(parse(descriptors(2)), Err(ManifestError::TooManyDescriptors { limit: 2 }));
    assert!(parse(annotations(3)).is_ok());
    assert_eq!(parse(annotations(2)), Err(ManifestError::TooManyAnnotations { limit: 2 }));
    assert!(parse(depth(4)).is_ok());
    assert_eq!(parse(depth(3)), Err(ManifestError::Json(JsonError::TooDeep { limit: 3 })));
}

#[test]
fn the_default_limits_take_the_largest_manifest_of_the_conformance_program() {
    let mut annotations = serde_json::Map::new();
    for number in 0..390 {
        annotations.insert(format!("large-annotation-{number}"), json!("A".repeat(10_000)));
    }
    let manifest = parse(&with(image(), "annotations", Value::Object(annotations))).unwrap();
    assert_eq!(manifest.annotations.len(), 390);
}

#[test]
fn the_default_limits_take_an_index_of_many_talkative_entries() {
    let mut entries = Vec::new();
    for number in 0..4095 {
        let mut entry = descriptor(OCI_IMAGE, &number.to_string());
        entry["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1"});
        entry["annotations"] = json!({"a": "1", "b": "2", "c": "3", "d": "4"});
        entries.push(entry);
    }
    let body = with(with(index(), "manifests", Value::Array(entries)), "subject", descriptor(OCI_IMAGE, "subject"));
    assert_eq!(parse(&body).unwrap().children.len(), 4095);
}
