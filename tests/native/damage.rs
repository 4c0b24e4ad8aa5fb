//! Files that were cut, changed, replaced or mixed up: a typed error that names the file, never a panic, never a wrong answer.

use super::support::{Files, bundle, load_model, model, open, search, served};
use shirube_format::FormatError;
use shirube_retriever::{BundleLoader, Kernels, ModelLoader, RetrieverError};
use shirube_tests::{random_model, random_model_with_another_tokenizer};

const PAGE: &[u8] = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not Found</body></html>";

/// What `change` makes of each file in turn is refused with an error that `expected` accepts and that names the file.
fn each_file(
    (first, files): &(Vec<u8>, Files),
    load: impl Fn(&(Vec<u8>, Files)) -> Result<(), RetrieverError>,
    change: impl Fn(&mut Vec<u8>),
    expected: impl Fn(&FormatError) -> bool,
) {
    for i in 0..files.len() {
        let mut files = files.clone();
        change(&mut files[i].1);
        let name = files[i].0.clone();
        match load(&(first.clone(), files)) {
            Err(RetrieverError::Format(e)) if expected(&e) => assert!(e.to_string().contains(&name), "{e}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

type Load = fn(&(Vec<u8>, Files)) -> Result<(), RetrieverError>;

fn load_both() -> Vec<((Vec<u8>, Files), Load)> {
    vec![
        (served(random_model(1)), |files| load_model(files).map(drop)),
        (bundle(2), |files| open(files, model())?.provide_all()),
    ]
}

#[test]
fn truncated_files_are_refused_by_length() {
    for (files, load) in load_both() {
        assert!(load(&files).is_ok());
        for keep in [0, 1, 2] {
            let cut = move |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() * keep / 3);
            each_file(&files, load, cut, |e| matches!(e, FormatError::Length { .. }));
        }
    }
}

#[test]
fn changed_files_are_refused_by_digest() {
    for (files, load) in load_both() {
        for at in [0, 40, 97] {
            let flip = move |bytes: &mut Vec<u8>| {
                let i = bytes.len() * at / 100;
                bytes[i] ^= 4;
            };
            each_file(&files, load, flip, |e| matches!(e, FormatError::Digest { .. }));
        }
    }
}

#[test]
fn a_page_in_place_of_a_file_is_called_a_page() {
    for (files, load) in load_both() {
        each_file(&files, load, |bytes| *bytes = PAGE.to_vec(), |e| matches!(e, FormatError::Html { .. }));
    }
    assert!(matches!(ModelLoader::new(PAGE), Err(RetrieverError::Format(FormatError::Html { .. }))));
    assert!(matches!(BundleLoader::new(PAGE), Err(RetrieverError::Format(FormatError::Html { .. }))));
}

#[test]
fn missing_and_unknown_files_are_named() {
    let (entry, files) = bundle(2);
    let mut loader = BundleLoader::new(&entry).unwrap();
    let needed = loader.missing().count();
    assert!(needed > 3 && needed < files.len(), "shards are fetched as they are asked for");
    for (path, bytes) in &files[1..needed] {
        loader.provide(path, bytes.clone()).unwrap();
    }
    assert_eq!(loader.missing().map(|f| f.path.as_str()).collect::<Vec<_>>(), [files[0].0.as_str()]);
    assert!(matches!(loader.provide("codes/other.bin", Vec::new()), Err(RetrieverError::UnknownFile { .. })));
    // A refused file may come again.
    assert!(loader.provide(&files[0].0, PAGE.to_vec()).is_err());
    assert!(matches!(loader.open(), Err(RetrieverError::Format(FormatError::Missing { .. }))));
    match loader.index(Kernels::detect()) {
        Err(RetrieverError::Format(FormatError::Missing { path })) => {
            assert!(path.starts_with("codes/"), "{path}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bundle_of_another_tokenizer_or_model_is_refused_with_the_cure() {
    let files = bundle(2);
    for (other, word) in [(random_model_with_another_tokenizer(1), "tokenizer"), (random_model(2), "model")] {
        let other = load_model(&served(other)).unwrap();
        match open(&files, other) {
            Err(RetrieverError::Format(e @ FormatError::Mismatch { .. })) => {
                let message = e.to_string();
                assert!(message.contains(word) && message.contains("build the bundle again"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn newer_versions_are_refused_by_their_version() {
    let newer = |json: &[u8]| {
        let mut value: serde_json::Value = serde_json::from_slice(json).unwrap();
        value["format"] = 99.into();
        value.as_object_mut().unwrap().remove("files");
        serde_json::to_vec(&value).unwrap()
    };
    let (manifest, _) = served(random_model(1));
    let (entry, _) = bundle(2);
    for found in [ModelLoader::new(&newer(&manifest)).map(drop), BundleLoader::new(&newer(&entry)).map(drop)]
    {
        assert!(
            matches!(found, Err(RetrieverError::Format(FormatError::Newer { found: 99, .. }))),
            "{found:?}"
        );
    }
}

#[test]
fn truncated_manifests_and_entries_are_refused() {
    let (manifest, _) = served(random_model(1));
    let (entry, _) = bundle(2);
    for n in (0..manifest.len()).step_by(64) {
        assert!(ModelLoader::new(&manifest[..n]).is_err(), "manifest cut at {n}");
    }
    for n in (0..entry.len() - 2).step_by(64) {
        assert!(BundleLoader::new(&entry[..n]).is_err(), "entry cut at {n}");
    }
}

#[test]
fn an_entry_that_lies_about_its_codec_is_refused() {
    let (entry, files) = bundle(2);
    let mut lies = Vec::new();
    for (pointer, value) in [
        ("/codec/n_centroids", 1.into()),
        ("/codec/dim", 18.into()),
        ("/codec/nbits", 2.into()),
        ("/codec/pool_factor", 9.into()),
        ("/counts/tokens", 1.into()),
        ("/counts/documents", 51.into()),
        ("/files/0/path", serde_json::Value::from("../../etc/passwd")),
        ("/files/3/kind", serde_json::Value::from("lexical")),
    ] {
        let mut json: serde_json::Value = serde_json::from_slice(&entry).unwrap();
        *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} exists")) = value;
        lies.push((pointer, serde_json::to_vec(&json).unwrap()));
    }
    for (pointer, entry) in lies {
        match open(&(entry, files.clone()), model()) {
            Err(RetrieverError::Format(FormatError::Invalid { .. } | FormatError::Mismatch { .. })) => {}
            other => panic!("{pointer}: {other:?}"),
        }
    }
    // The honest one still answers.
    assert!(search(&mut open(&(entry, files), model()).unwrap(), "所有権").is_ok());
}
