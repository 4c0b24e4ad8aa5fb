//! What an earlier bundle saves: the codes of sections whose text did not change, and the centroids that make them comparable.
//!
//! A document's codes depend on its text, the model, the pooling and the codec's tables, and on nothing else: so a build over given tables may copy
//! them, and a build from nothing over the same tables gives the same bytes.

use crate::SiteError;
use crate::build::Progress;
use crate::passages::may_be_truncated;
use half::f16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use shirube_core::{DocId, Role};
use shirube_encoder::Model;
use shirube_format::bundle::{Bundle, CodecTables, LexicalPart, ModelRef, Section};
use shirube_index::{
    BucketRule, BuildStage, CodecKind, IndexError, IndexOptions, MAX_POOL_FACTOR, Packed, Packer,
    ResidualCodec, n_centroids_for, pool,
};
use shirube_lexical::{BM25_B, BM25_K1, LexicalBuilder};
use std::collections::HashMap;

/// Sections encoded between two reports of progress, and held as floats at one time.
const BATCH: usize = 64;

/// Share of documents that must be known for the earlier centroids to be kept: above that a few new sections hardly move them.
const LEAST_KNOWN: f64 = 0.5;

/// The codes of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coded {
    packed: Packed,
    map: Option<Vec<u16>>,
    /// Token embeddings before pooling.
    n_before: usize,
    truncated: bool,
}

/// Why an earlier bundle was not built upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NotReused {
    /// There was none.
    Absent,
    /// It could not be read.
    Unreadable(String),
    /// It was made with another model, pooling or number of centroids.
    Other(String),
    /// Too little of it is left, or the site grew too much: new centroids serve better.
    Changed {
        /// Sections that it knows.
        known: usize,
        /// Sections now.
        of: usize,
    },
    /// The caller asked for a build from nothing.
    Asked,
}

/// `base`, if a build of `sections` with `model` and `options` may go on from it: [`build`](crate::build) asks this of the bundle it finds.
///
/// # Errors
/// Why not.
pub(crate) fn usable(
    base: Bundle,
    sections: &[Section],
    model: &Model,
    options: &IndexOptions,
) -> Result<Bundle, NotReused> {
    let known = IndexOptions {
        pool_factor: options.pool_factor,
        n_centroids: options.n_centroids,
        codec: options.codec,
        ..IndexOptions::default()
    };
    if *options != known {
        return Err(NotReused::Other("settings of the codec were given".to_owned()));
    }
    comparable(&base, model, options)?;
    enough_known(&base, sections)?;
    Ok(base)
}

/// Checks that the codes of `earlier` may stand beside codes made now with `model` and `options`.
///
/// # Errors
/// A message that names the difference.
fn comparable(earlier: &Bundle, model: &Model, options: &IndexOptions) -> Result<(), NotReused> {
    earlier.model.check(&ModelRef::of(model.manifest())).map_err(|e| NotReused::Other(e.to_string()))?;
    if earlier.pool_factor as usize != options.pool_factor {
        return Err(NotReused::Other(format!(
            "pooled by {}, now by {}",
            earlier.pool_factor, options.pool_factor
        )));
    }
    // The rule that chose the buckets stands nowhere in a bundle; the rest of the codec does.
    let (tables, codec) = (&earlier.tables, options.codec);
    let same = tables.packing == codec.kind.packing(tables.dim)
        && tables.add_centroid == (codec.kind != CodecKind::Sign)
        && tables.centroid_form == codec.centroid_form;
    if !same || codec.buckets != BucketRule::default() {
        return Err(NotReused::Other("another codec".to_owned()));
    }
    match options.n_centroids {
        Some(n) if n != earlier.tables.n_centroids() => {
            Err(NotReused::Other(format!("{} centroids, now {n}", earlier.tables.n_centroids())))
        }
        _ => Ok(()),
    }
}

/// Checks that enough of `earlier` is left for its centroids to fit `sections` too.
fn enough_known(earlier: &Bundle, sections: &[Section]) -> Result<(), NotReused> {
    let known = by_text(earlier);
    let n_known = sections.iter().filter(|s| known.contains_key(&s.document().text)).count();
    let tokens = earlier.codes.len() as f64 / earlier.lengths.len().max(1) as f64 * sections.len() as f64;
    let fit = n_centroids_for(tokens as usize);
    let n = earlier.tables.n_centroids();
    if (n_known as f64) < LEAST_KNOWN * sections.len() as f64 || fit > 2 * n {
        return Err(NotReused::Changed { known: n_known, of: sections.len() });
    }
    Ok(())
}

/// The documents of a bundle by their text; equal texts have equal codes, so any of them will do.
pub(crate) fn by_text(bundle: &Bundle) -> HashMap<String, usize> {
    bundle.sections.iter().enumerate().map(|(i, s)| (s.document().text, i)).collect()
}

/// A bundle over given tables in the making: documents in order, their codes copied or made now.
#[derive(Debug)]
pub(crate) struct Over {
    bundle: Bundle,
    words: LexicalBuilder,
    pub(crate) n_copied: usize,
    pub(crate) n_truncated: usize,
}

impl Over {
    /// # Errors
    /// [`IndexError::Setting`] for a pooling factor out of range.
    pub(crate) fn new(
        name: String,
        tables: &CodecTables,
        model: &Model,
        pool_factor: usize,
    ) -> Result<Self, SiteError> {
        if !(1..=MAX_POOL_FACTOR).contains(&pool_factor) {
            return Err(IndexError::Setting {
                name: "pool_factor",
                found: pool_factor,
                low: 1,
                high: MAX_POOL_FACTOR,
            }
            .into());
        }
        let bundle = Bundle {
            name,
            model: ModelRef::of(model.manifest()),
            pool_factor: pool_factor as u32,
            tokens_before_pooling: 0,
            tables: tables.clone(),
            lengths: Vec::new(),
            codes: Vec::new(),
            residuals: Vec::new(),
            sections: Vec::new(),
            token_maps: Vec::new(),
            lexical: Default::default(),
        };
        Ok(Self { bundle, words: LexicalBuilder::new(BM25_K1, BM25_B)?, n_copied: 0, n_truncated: 0 })
    }

    /// `copied` is where the codes are from: the bundle's number among those of [`Self::finish`], the bundle, its document.
    pub(crate) fn push(
        &mut self,
        section: Section,
        coded: Coded,
        copied: Option<(usize, &Bundle, usize)>,
    ) -> Result<(), SiteError> {
        // An index without words has none to take over.
        let n_terms = copied.and_then(|(_, bundle, document)| bundle.lexical.lengths.get(document));
        match (copied, n_terms) {
            (Some((part, _, document)), Some(&n)) => self.words.push_known(part, document as u32, n)?,
            _ => self.words.push(&section.document().text)?,
        }
        let bundle = &mut self.bundle;
        bundle.lengths.push(coded.packed.codes.len() as u16);
        bundle.codes.extend(coded.packed.codes);
        bundle.residuals.extend(coded.packed.residuals);
        bundle.token_maps.push(coded.map);
        bundle.tokens_before_pooling += coded.n_before as u64;
        bundle.sections.push(section);
        self.n_copied += usize::from(copied.is_some());
        self.n_truncated += usize::from(coded.truncated);
        Ok(())
    }

    /// `parts` are the bundles that documents were copied from.
    ///
    /// # Errors
    /// [`SiteError::NoSections`], [`IndexError::Empty`].
    pub(crate) fn finish(mut self, parts: &[&Bundle]) -> Result<Bundle, SiteError> {
        if self.bundle.sections.is_empty() {
            return Err(SiteError::NoSections { path: "the list of sections".to_owned() });
        }
        if self.bundle.codes.is_empty() {
            return Err(IndexError::Empty.into());
        }
        let parts: Vec<&LexicalPart> = parts.iter().map(|bundle| &bundle.lexical).collect();
        self.bundle.lexical = self.words.finish_over(&parts);
        Ok(self.bundle)
    }
}

/// The bundle of `sections` over the given tables: known documents are copied from `known`, others encoded. Also returns how many were copied and how
/// many cut.
///
/// # Errors
/// As [`make_bundle`](crate::make_bundle).
pub(crate) fn make_over(
    name: String,
    sections: Vec<Section>,
    tables: &CodecTables,
    known: &[&Bundle],
    model: &Model,
    pool_factor: usize,
    mut progress: impl FnMut(Progress),
) -> Result<(Bundle, usize, usize), SiteError> {
    let mut over = Over::new(name, tables, model, pool_factor)?;
    let codec = ResidualCodec::new(tables.clone());
    let texts: Vec<HashMap<String, usize>> = known.iter().map(|b| by_text(b)).collect();
    let starts: Vec<Vec<usize>> = known.iter().map(|b| token_starts(b)).collect();
    let packer = Packer::new(&codec);
    let row_bytes = codec.row_bytes();
    let of = sections.len();
    let mut sections = sections.into_iter();
    loop {
        let batch: Vec<Section> = sections.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let coded: Vec<(Coded, Option<(usize, usize)>)> = batch
            .par_iter()
            .map_init(
                || model.clone(),
                |model, section| {
                    let text = section.document().text;
                    let found = texts.iter().enumerate().find_map(|(b, texts)| Some((b, *texts.get(&text)?)));
                    match found {
                        Some((b, document)) => {
                            let truncated = may_be_truncated(section, model)
                                && model.prepare(&text, Role::Document).truncated;
                            let coded = copy(known[b], &starts[b], document, row_bytes, truncated);
                            Ok((coded, Some((b, document))))
                        }
                        None => {
                            let input = model.prepare(&text, Role::Document);
                            let embeddings = model
                                .encode(&input)
                                .map_err(|source| SiteError::Encode { id: section.id.clone(), source })?;
                            let coded = code(&packer, codec.dim(), embeddings, input.truncated, pool_factor)?;
                            Ok((coded, None))
                        }
                    }
                },
            )
            .collect::<Result<_, SiteError>>()?;
        for (section, (coded, copied)) in batch.into_iter().zip(coded) {
            over.push(section, coded, copied.map(|(b, document)| (b, known[b], document)))?;
        }
        progress(Progress::Encode { sections: of - sections.len(), of });
    }
    let n = over.bundle.codes.len();
    progress(Progress::Index(BuildStage::Pack { tokens: n, of: n }));
    let (n_copied, n_truncated) = (over.n_copied, over.n_truncated);
    Ok((over.finish(known)?, n_copied, n_truncated))
}

pub(crate) fn token_starts(bundle: &Bundle) -> Vec<usize> {
    let mut at = 0;
    bundle
        .lengths
        .iter()
        .map(|&n| {
            at += usize::from(n);
            at - usize::from(n)
        })
        .collect()
}

/// The codes of a known document. `truncated` says whether the model read only a part of it, which stands nowhere in a bundle.
pub(crate) fn copy(
    bundle: &Bundle,
    starts: &[usize],
    document: usize,
    row_bytes: usize,
    truncated: bool,
) -> Coded {
    let tokens = starts[document]..starts[document] + usize::from(bundle.lengths[document]);
    let map = bundle.token_maps[document].clone();
    Coded {
        packed: Packed {
            codes: bundle.codes[tokens.clone()].to_vec(),
            residuals: bundle.residuals[tokens.start * row_bytes..tokens.end * row_bytes].to_vec(),
        },
        n_before: map.as_ref().map_or(tokens.len(), Vec::len),
        map,
        truncated,
    }
}

/// The codes of a document's `embeddings [n_tokens, dim]`.
pub(crate) fn code(
    packer: &Packer<'_>,
    dim: usize,
    embeddings: Vec<f32>,
    truncated: bool,
    pool_factor: usize,
) -> Result<Coded, SiteError> {
    let n_before = embeddings.len() / dim;
    let (rows, map) = if pool_factor == 1 {
        (embeddings, None)
    } else {
        let pooled = pool(&embeddings, dim, pool_factor);
        (pooled.embeddings, Some(pooled.map))
    };
    let most = usize::from(u16::MAX);
    if rows.len() / dim > most {
        return Err(IndexError::TooLong { document: DocId(0), found: rows.len() / dim, most }.into());
    }
    // Through f16, as the builder holds tokens while it waits for centroids: both ways give the same codes.
    let rows: Vec<f32> = rows.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
    Ok(Coded { packed: packer.pack(&rows)?, map, n_before, truncated })
}
