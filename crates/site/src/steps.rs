//! A build in steps, for callers that encode elsewhere and at their own pace: the threads of Node.

use crate::build::Assembly;
use crate::passages::may_be_truncated;
use crate::reuse::{self, NotReused, Over};
use crate::{BuildOptions, SiteError};
use shirube_core::Role;
use shirube_encoder::Model;
use shirube_format::bundle::{Bundle, Section};
use shirube_index::{BuildStage, Packer, ResidualCodec};

/// What [`build`](crate::build) does, with the encoding left to the caller: the embeddings of every [missing](Self::missing) section in order, by
/// [`Self::push`], then [`Self::finish`]. The bundle is the same, byte for byte.
#[derive(Debug)]
pub struct Building {
    sections: std::vec::IntoIter<Section>,
    /// For each section, its number in the earlier bundle.
    known: std::vec::IntoIter<Option<usize>>,
    missing: Vec<(String, String)>,
    not_reused: Option<NotReused>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Fresh(Box<Assembly>),
    Over { base: Box<Bundle>, starts: Vec<usize>, codec: Box<ResidualCodec>, over: Box<Over> },
}

/// What the steps came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The bundle.
    pub bundle: Bundle,
    /// Sections whose end was left out because they are longer than the model reads.
    pub n_truncated: usize,
    /// Sections whose codes were taken over from the earlier bundle.
    pub n_reused: usize,
    /// Why none were, where none were.
    pub not_reused: Option<NotReused>,
}

impl Building {
    /// A build of `sections`, which [`passages`](crate::passages) has cut, over `earlier` where that can be built upon.
    ///
    /// # Errors
    /// [`SiteError::NoSections`], [`SiteError::Index`] for settings out of range.
    pub fn new(
        sections: Vec<Section>,
        model: &Model,
        options: &BuildOptions,
        earlier: Result<Bundle, NotReused>,
    ) -> Result<Self, SiteError> {
        if sections.is_empty() {
            return Err(SiteError::NoSections { path: "the list of sections".to_owned() });
        }
        let base = earlier.and_then(|base| reuse::usable(base, &sections, model, &options.index));
        let (way, known, not_reused) = match base {
            Err(why) => {
                let fresh = Way::Fresh(Box::new(Assembly::new(model, options)?));
                (fresh, vec![None; sections.len()], Some(why))
            }
            Ok(base) => {
                let texts = reuse::by_text(&base);
                let known = sections.iter().map(|s| texts.get(&s.document().text).copied()).collect();
                let over = Over::new(options.name.clone(), &base.tables, model, base.pool_factor as usize)?;
                let way = Way::Over {
                    starts: reuse::token_starts(&base),
                    codec: Box::new(ResidualCodec::new(base.tables.clone())),
                    over: Box::new(over),
                    base: Box::new(base),
                };
                (way, known, None)
            }
        };
        let missing = sections
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(section, _)| (section.id.clone(), section.document().text))
            .collect();
        let (sections, known) = (sections.into_iter(), known.into_iter());
        Ok(Self { sections, known, missing, not_reused, way })
    }

    /// Id and text of each section to encode, in order.
    pub fn missing(&self) -> &[(String, String)] {
        &self.missing
    }

    /// Takes the embeddings `[n_tokens, dim]` of the next missing sections, each with whether the model read only a part of it.
    ///
    /// # Errors
    /// As [`Assembly::push`].
    ///
    /// # Panics
    /// If there are more than missing sections: the caller's mistake.
    pub fn push(&mut self, encoded: Vec<(Vec<f32>, bool)>, model: &Model) -> Result<(), SiteError> {
        // The packer copies the centroids, which is nothing beside a batch of sections.
        let packer = match &self.way {
            Way::Over { codec, .. } => Some((codec.clone(), codec.dim())),
            Way::Fresh(_) => None,
        };
        let packer = packer.as_ref().map(|(codec, dim)| (Packer::new(codec), *dim));
        for (embeddings, truncated) in encoded {
            self.copy_known(model)?;
            self.known.next();
            let section = self.sections.next().expect("no more embeddings than missing sections");
            match &mut self.way {
                Way::Fresh(assembly) => assembly.push(section, &embeddings, truncated)?,
                Way::Over { base, over, .. } => {
                    let (packer, dim) = packer.as_ref().expect("made above for this way");
                    let coded = reuse::code(packer, *dim, embeddings, truncated, base.pool_factor as usize)?;
                    over.push(section, coded, None)?;
                }
            }
        }
        Ok(())
    }

    /// Copies the known sections that come before the next missing one.
    fn copy_known(&mut self, model: &Model) -> Result<(), SiteError> {
        let Way::Over { base, starts, codec, over } = &mut self.way else { return Ok(()) };
        while let Some(&Some(document)) = self.known.as_slice().first() {
            self.known.next();
            let section = self.sections.next().expect("one section for each of `known`");
            let truncated = may_be_truncated(&section, model)
                && model.prepare(&section.document().text, Role::Document).truncated;
            let coded = reuse::copy(base, starts, document, codec.row_bytes(), truncated);
            over.push(section, coded, Some((0, &**base, document)))?;
        }
        Ok(())
    }

    /// The bundle.
    ///
    /// # Errors
    /// As [`Assembly::finish`].
    ///
    /// # Panics
    /// If missing sections were not pushed: the caller's mistake.
    pub fn finish(mut self, model: &Model, mut progress: impl FnMut(BuildStage)) -> Result<Built, SiteError> {
        self.copy_known(model)?;
        assert!(self.sections.as_slice().is_empty(), "every missing section was pushed");
        Ok(match self.way {
            Way::Fresh(assembly) => {
                let (bundle, n_truncated) = assembly.finish(progress)?;
                Built { bundle, n_truncated, n_reused: 0, not_reused: self.not_reused }
            }
            Way::Over { over, base, .. } => {
                let (n_reused, n_truncated) = (over.n_copied, over.n_truncated);
                let bundle = over.finish(&[&*base])?;
                let tokens = bundle.codes.len();
                progress(BuildStage::Pack { tokens, of: tokens });
                Built { bundle, n_truncated, n_reused, not_reused: None }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{make_bundle, read_bundle};
    use shirube_kernels::Kernels;
    use shirube_testkit::{RandomShape, random_model};

    fn model() -> Model {
        let (manifest, files) = random_model(3, &RandomShape::default()).quantized().files();
        let files = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        Model::load(manifest, files, Kernels::detect()).unwrap()
    }

    fn sections(texts: impl IntoIterator<Item = usize>) -> Vec<Section> {
        let section = |i: usize| Section {
            id: format!("s{i}"),
            title: format!("題{i}"),
            text: format!("これは{i}番目の本文です。").repeat(1 + i % 3),
            ..Section::default()
        };
        texts.into_iter().map(section).collect()
    }

    fn in_steps(
        sections: Vec<Section>,
        model: &Model,
        options: &BuildOptions,
        earlier: Result<Bundle, NotReused>,
        batch: usize,
    ) -> Built {
        let mut building = Building::new(sections, model, options, earlier).unwrap();
        let texts: Vec<String> = building.missing().iter().map(|(_, text)| text.clone()).collect();
        let mut encoder = model.clone();
        for texts in texts.chunks(batch) {
            let encoded = texts.iter().map(|text| {
                let input = encoder.prepare(text, Role::Document);
                (encoder.encode(&input).unwrap(), input.truncated)
            });
            building.push(encoded.collect(), model).unwrap();
        }
        building.finish(model, |_| {}).unwrap()
    }

    #[test]
    fn steps_give_the_same_bundle_as_the_build_from_nothing_and_over_an_earlier_one() {
        let model = model();
        for pool_factor in [1, 2] {
            let mut options = BuildOptions { name: "名".to_owned(), ..BuildOptions::default() };
            options.index.pool_factor = pool_factor;
            let (whole, n_truncated) = make_bundle(sections(0..20), &model, &options, |_| {}).unwrap();
            let steps = in_steps(sections(0..20), &model, &options, Err(NotReused::Absent), 7);
            assert_eq!(steps.bundle, whole);
            assert_eq!((steps.n_truncated, steps.n_reused), (n_truncated, 0));
            assert_eq!(steps.not_reused, Some(NotReused::Absent));

            let temporary = tempfile::tempdir().unwrap();
            let out = temporary.path().join("bundle");
            crate::build(sections(0..20), &model, &options, &out, |_| {}).unwrap();
            let earlier = read_bundle(&out).unwrap();
            // Known ones first, in the middle and last.
            let now = || sections([3, 100, 4, 5, 101, 102, 6, 7, 8, 9]);
            let report = crate::build(now(), &model, &options, &out, |_| {}).unwrap();
            let steps = in_steps(now(), &model, &options, Ok(earlier), 2);
            assert_eq!(steps.bundle, read_bundle(&out).unwrap());
            assert_eq!((steps.n_reused, report.n_reused), (7, 7));
        }
    }

    #[test]
    fn nothing_to_build_is_an_error() {
        let model = model();
        let error = Building::new(Vec::new(), &model, &BuildOptions::default(), Err(NotReused::Absent));
        assert!(matches!(error, Err(SiteError::NoSections { .. })));
    }
}
