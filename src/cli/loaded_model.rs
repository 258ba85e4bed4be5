//! A published bundle that completes playlists: for `segue evaluate completion` and `segue submit`.

use std::path::Path;

use crate::bundle::{BundleError, CompletionBundle, Kind, Manifest, SimilarityBundle};
use crate::evaluate::Recommender;
use crate::recommend::SimilarityModel;
use crate::recommend::completion::CompletionModel;
use crate::recommend::dispatch::{Completer, CompletionMethod};

/// A loaded bundle to evaluate.
pub(super) enum LoadedModel {
    Completion(Box<CompletionModel>),
    Similarity(Box<SimilarityModel>),
}

impl LoadedModel {
    /// Loads the current bundle of the kind that `method` needs.
    pub(super) fn load(models: &Path, method: CompletionMethod) -> Result<(Manifest, Self), BundleError> {
        Ok(match method.kind() {
            Kind::Similarity => {
                let (manifest, bundle) = SimilarityBundle::load_current(models)?;
                (manifest, Self::Similarity(Box::new(SimilarityModel::new(bundle))))
            }
            _ => {
                let (manifest, bundle) = CompletionBundle::load_current(models)?;
                (manifest, Self::Completion(Box::new(CompletionModel::new(bundle))))
            }
        })
    }

    pub(super) fn completer(&self) -> Completer<'_> {
        match self {
            Self::Completion(model) => Completer::Completion(model),
            Self::Similarity(model) => Completer::Similarity(model),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Completion(_) => Kind::Completion,
            Self::Similarity(_) => Kind::Similarity,
        }
    }

    /// Checks that the bundle contains what `methods` need.
    pub(super) fn check(&self, methods: &[CompletionMethod]) -> anyhow::Result<()> {
        let mut own = methods.iter().filter(|method| method.kind() == self.kind());
        if own.any(|&method| !self.completer().supports(method)) {
            anyhow::bail!("the current completion bundle was trained without neumf; `segue train completion` trains it")
        }
        Ok(())
    }

    /// A method that needs this kind of bundle.
    pub(super) fn recommender(&self, method: CompletionMethod) -> Recommender<'_> {
        let completer = self.completer();
        Recommender::new(method.name(), move |playlists| {
            let lists = completer.complete(method, playlists).into_iter();
            lists.map(|list| list.into_iter().map(|track| track.recommended.row).collect()).collect()
        })
    }
}
