//! The life of an index: built again after a change, in parts, merged, and with sections taken away.

use super::support::{load_model, model, served};
use shirube_format::FormatError;
use shirube_format::bundle::{Section, folder};
use shirube_index::IndexOptions;
use shirube_site::{BuildOptions, NotReused, SiteError};
use shirube_tests::{random_model, sections};
use std::path::Path;
use tempfile::tempdir;

fn options() -> BuildOptions {
    BuildOptions { name: "life".to_owned(), ..BuildOptions::default() }
}

/// Paths and content of every file of a bundle, entry included.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (entry, mut files) = folder::read(folder).unwrap();
    files.push(("shirube.json".to_owned(), entry.to_bytes()));
    files.sort();
    files
}

fn changed(mut all: Vec<Section>) -> Vec<Section> {
    all[7].text = "所有権の新しい説明です。".to_owned();
    all.remove(20);
    all.insert(
        3,
        Section {
            id: "new".to_owned(),
            title: "状態管理".to_owned(),
            text: "新しい節".to_owned(),
            ..Section::default()
        },
    );
    all
}

#[test]
fn a_build_after_a_change_encodes_only_what_changed_and_equals_a_whole_build_over_the_same_centroids() {
    let (site, whole) = (tempdir().unwrap(), tempdir().unwrap());
    let model = model();
    let first = shirube_site::build(sections(), &model, &options(), site.path(), |_| {}).unwrap();
    assert_eq!((first.n_reused, first.not_reused), (0, Some(NotReused::Absent)));
    let base = shirube_site::read_bundle(site.path()).unwrap();
    let second = shirube_site::build(changed(sections()), &model, &options(), site.path(), |_| {}).unwrap();
    assert_eq!((second.n_reused, second.not_reused), (48, None), "two of fifty are new");
    assert!(!second.removed.is_empty(), "files of the first build are gone");

    // From nothing, over the same centroids: nothing is known, everything is encoded.
    let mut nothing = base.clone();
    shirube_site::remove(&mut nothing, |section| section.id != "s-20").unwrap();
    let report =
        shirube_site::build_over(changed(sections()), &model, "life", &nothing, whole.path(), |_| {})
            .unwrap();
    assert_eq!(report.n_reused, 0);
    assert_eq!(files(site.path()), files(whole.path()));

    // And back again: the bundle of the first build, to the byte.
    let again = shirube_site::build(sections(), &model, &options(), site.path(), |_| {}).unwrap();
    assert_eq!(again.entry, first.entry);
}

#[test]
fn a_build_starts_anew_where_the_earlier_bundle_does_not_fit() {
    let site = tempdir().unwrap();
    let model = model();
    let build = |sections, options: &BuildOptions| {
        shirube_site::build(sections, &model, options, site.path(), |_| {}).unwrap().not_reused
    };
    assert_eq!(build(sections(), &options()), Some(NotReused::Absent));
    let pooled =
        BuildOptions { index: IndexOptions { pool_factor: 3, ..IndexOptions::default() }, ..options() };
    assert!(matches!(build(sections(), &pooled), Some(NotReused::Other(why)) if why.contains("pooled by 2")));
    let seeded = BuildOptions { index: IndexOptions { seed: 9, ..pooled.index }, ..options() };
    assert!(matches!(build(sections(), &seeded), Some(NotReused::Other(_))));
    let few = sections().into_iter().take(3).chain(
        changed(sections())
            .into_iter()
            .skip(3)
            .map(|s| Section { text: format!("{}別の文", s.text), ..s }),
    );
    assert!(matches!(build(few.collect(), &pooled), Some(NotReused::Changed { known: 3, of: 50 })));
    std::fs::write(site.path().join("shirube.json"), "{").unwrap();
    assert!(matches!(build(sections(), &options()), Some(NotReused::Unreadable(_))));
    let other = load_model(&served(random_model(2))).unwrap();
    let report = shirube_site::build(sections(), &other, &options(), site.path(), |_| {}).unwrap();
    assert!(matches!(report.not_reused, Some(NotReused::Other(why)) if why.contains("model")));
}

#[test]
fn parts_over_one_bundle_merge_to_the_whole_byte_for_byte() {
    let folders = ["base", "one", "two", "three", "all"].map(|_| tempdir().unwrap());
    let [base, parts @ .., whole] = &folders;
    let model = model();
    let sample = sections().into_iter().step_by(3).collect();
    shirube_site::build(sample, &model, &options(), base.path(), |_| {}).unwrap();
    let base = shirube_site::read_bundle(base.path()).unwrap();
    let mut bundles = Vec::new();
    for (i, folder) in parts.iter().enumerate() {
        let part = shirube_site::shard(sections(), i, parts.len());
        shirube_site::build_over(part, &model, "life", &base, folder.path(), |_| {}).unwrap();
        bundles.push(shirube_site::read_bundle(folder.path()).unwrap());
    }
    shirube_site::build_over(sections(), &model, "life", &base, whole.path(), |_| {}).unwrap();
    let merged = shirube_site::merge(bundles, None, |_| {}).unwrap();
    let (entry, mut found) = merged.pack();
    found.push(("shirube.json".to_owned(), entry.to_bytes()));
    found.sort();
    assert_eq!(found, files(whole.path()));
}

#[test]
fn a_shard_never_cuts_between_the_passages_of_a_section() {
    let mut all = sections();
    for (i, passage) in [(24, 1), (25, 2), (26, 3)] {
        all[i].passage = passage;
    }
    let parts: Vec<Vec<Section>> = (0..4).map(|i| shirube_site::shard(all.clone(), i, 4)).collect();
    assert!(parts.iter().all(|part| part[0].passage == 0));
    assert_eq!(parts.concat(), all);
}

#[test]
fn bundles_of_other_centroids_need_the_model_and_of_other_models_are_refused() {
    let model = model();
    let make = |sections: Vec<Section>, model, pool_factor| {
        let index = IndexOptions { pool_factor, ..IndexOptions::default() };
        shirube_site::make_bundle(sections, model, &BuildOptions { index, ..options() }, |_| {}).unwrap().0
    };
    let (a, b) = (make(sections()[..30].to_vec(), &model, 2), make(sections()[30..].to_vec(), &model, 2));
    assert!(matches!(
        shirube_site::merge(vec![a.clone(), b.clone()], None, |_| {}),
        Err(SiteError::ModelNeeded)
    ));
    let merged = shirube_site::merge(vec![a.clone(), b], Some(&model), |_| {}).unwrap();
    assert_eq!(merged.sections, sections());
    assert_eq!(merged.tables, a.tables);
    assert_eq!(merged.codes[..a.codes.len()], a.codes, "the first bundle's codes stay");
    let other = load_model(&served(random_model(2))).unwrap();
    for foreign in [make(sections(), &other, 2), make(sections(), &model, 1)] {
        let refused = shirube_site::merge(vec![a.clone(), foreign], Some(&model), |_| {});
        assert!(matches!(refused, Err(SiteError::Format(FormatError::Mismatch { .. }))), "{refused:?}");
    }
}

#[test]
fn removed_sections_are_never_found_again() {
    let mut bundle = shirube_site::make_bundle(sections(), &model(), &options(), |_| {}).unwrap().0;
    let n = shirube_site::remove(&mut bundle, |section| section.title == "所有権").unwrap();
    assert_eq!((n, bundle.sections.len(), bundle.lengths.len()), (5, 45, 45));
    assert!(bundle.lexical.terms.iter().all(|t| t.term != "所有"), "its words are gone too");
    let (entry, files) = bundle.pack();
    let mut opened = super::support::open(&(entry.to_bytes(), files), model()).unwrap();
    let hits = super::support::search(&mut opened, "所有権").unwrap().hits;
    assert!(hits.iter().all(|hit| hit.section.title != "所有権"));
    assert!(matches!(shirube_site::remove(&mut bundle, |_| true), Err(SiteError::NoSections { .. })));
}
