//! Bundles out of bundles: several made one, and sections taken away.

use crate::SiteError;
use crate::build::Progress;
use crate::reuse::make_over;
use shirube_encoder::Model;
use shirube_format::FormatError;
use shirube_format::bundle::{Bundle, Section};
use shirube_lexical::{BM25_B, BM25_K1, LexicalBuilder};

/// One bundle of the documents of all, in order, under the name of the first.
///
/// Bundles over the same centroids are put together as they are. Of others, the first's centroids are kept and the sections of the rest are encoded
/// again, which needs the model: codes over one set of centroids say nothing over another.
///
/// # Errors
/// [`FormatError::Mismatch`] for bundles of different models or pooling, [`SiteError::ModelNeeded`] for different centroids without a model,
/// [`SiteError::NoSections`] for no bundle at all, and as [`make_bundle`](crate::make_bundle).
pub fn merge(
    bundles: Vec<Bundle>,
    model: Option<&Model>,
    progress: impl FnMut(Progress),
) -> Result<Bundle, SiteError> {
    let Some((first, rest)) = bundles.split_first() else {
        return Err(SiteError::NoSections { path: "the list of bundles".to_owned() });
    };
    for other in rest {
        first.model.check(&other.model)?;
        if other.pool_factor != first.pool_factor {
            return Err(FormatError::Mismatch {
                what: "pooling of the bundles".to_owned(),
                expected: first.pool_factor.to_string(),
                found: other.pool_factor.to_string(),
                cure: "build them with the same --pool".to_owned(),
            }
            .into());
        }
    }
    if rest.iter().any(|other| other.tables != first.tables) {
        let model = model.ok_or(SiteError::ModelNeeded)?;
        let sections: Vec<Section> = bundles.iter().flat_map(|b| b.sections.iter().cloned()).collect();
        let same: Vec<&Bundle> = bundles.iter().filter(|b| b.tables == first.tables).collect();
        first.model.check(&shirube_format::bundle::ModelRef::of(model.manifest()))?;
        let (bundle, ..) = make_over(
            first.name.clone(),
            sections,
            &first.tables,
            &same,
            model,
            first.pool_factor as usize,
            progress,
        )?;
        return Ok(bundle);
    }
    let mut bundles = bundles.into_iter();
    let mut whole = bundles.next().ok_or(SiteError::ModelNeeded)?;
    for other in bundles {
        whole.lengths.extend(other.lengths);
        whole.codes.extend(other.codes);
        whole.residuals.extend(other.residuals);
        whole.sections.extend(other.sections);
        whole.token_maps.extend(other.token_maps);
        whole.tokens_before_pooling += other.tokens_before_pooling;
    }
    words(&mut whole)?;
    Ok(whole)
}

/// Takes away the sections for which `gone` holds, without encoding anything; how many. Later passages go with their section.
///
/// # Errors
/// [`SiteError::NoSections`] if nothing would be left.
pub fn remove(bundle: &mut Bundle, mut gone: impl FnMut(&Section) -> bool) -> Result<usize, SiteError> {
    let row_bytes = bundle.tables.row_bytes();
    let mut left = Bundle {
        lengths: Vec::new(),
        codes: Vec::new(),
        residuals: Vec::new(),
        sections: Vec::new(),
        token_maps: Vec::new(),
        tokens_before_pooling: 0,
        ..bundle.clone()
    };
    let (mut token, mut is_gone) = (0, false);
    for (i, section) in bundle.sections.iter().enumerate() {
        let tokens = token..token + usize::from(bundle.lengths[i]);
        token = tokens.end;
        if section.passage == 0 || i == 0 {
            is_gone = gone(section);
        }
        if is_gone {
            continue;
        }
        left.lengths.push(bundle.lengths[i]);
        left.tokens_before_pooling += bundle.token_maps[i].as_ref().map_or(tokens.len(), Vec::len) as u64;
        left.codes.extend_from_slice(&bundle.codes[tokens.clone()]);
        left.residuals.extend_from_slice(&bundle.residuals[tokens.start * row_bytes..tokens.end * row_bytes]);
        left.sections.push(section.clone());
        left.token_maps.push(bundle.token_maps[i].clone());
    }
    if left.sections.is_empty() || left.codes.is_empty() {
        return Err(SiteError::NoSections { path: "what would be left of the bundle".to_owned() });
    }
    let n = bundle.sections.len() - left.sections.len();
    words(&mut left)?;
    *bundle = left;
    Ok(n)
}

/// Builds the words anew: lengths, rarities and numbers of documents are of the whole.
fn words(bundle: &mut Bundle) -> Result<(), SiteError> {
    let mut builder = LexicalBuilder::new(BM25_K1, BM25_B)?;
    for section in &bundle.sections {
        builder.push(&section.document().text)?;
    }
    bundle.lexical = builder.finish();
    Ok(())
}
