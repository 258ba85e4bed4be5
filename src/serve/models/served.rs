//! What the server needs of a model, and how the four models provide it.

use crate::bundle::{
    BundleError, BundleFolder, ClickBundle, CompletionBundle, Kind, Manifest, RatingsBundle, SimilarityBundle,
    Vocabulary,
};
use crate::recommend::clicks::{ClickModel, Question};
use crate::recommend::completion::CompletionModel;
use crate::recommend::ratings::{Heard, RatingsModel};
use crate::recommend::{Completion, SimilarityModel};

/// A model that is made from a bundle of one kind.
pub trait ServedModel: Send + Sync + Sized + 'static {
    /// the bundle's kind
    const KIND: Kind;

    /// Loads a bundle and verifies all of it.
    fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError>;

    /// Returns the app's ids of the tracks that it recommends; `None` for a model that only scores given tracks.
    fn track_ids(&self) -> Option<&Vocabulary>;

    /// Returns the number of tracks that it knows.
    fn tracks(&self) -> usize;

    /// Returns the number of tracks that it may recommend.
    fn candidates(&self) -> usize {
        self.tracks()
    }

    /// Returns the length of a track's vector; 0 without vectors.
    fn dimensions(&self) -> usize;

    /// Computes something, so that mapped files are in memory before the first request.
    fn warm_up(&self);
}

impl ServedModel for SimilarityModel {
    const KIND: Kind = Kind::Similarity;

    fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
        SimilarityBundle::load(folder).map(|(manifest, bundle)| (manifest, Self::new(bundle)))
    }

    fn track_ids(&self) -> Option<&Vocabulary> {
        Some(self.vocabulary())
    }

    fn tracks(&self) -> usize {
        self.vocabulary().len()
    }

    fn candidates(&self) -> usize {
        Self::candidates(self)
    }

    fn dimensions(&self) -> usize {
        Self::dimensions(self)
    }

    fn warm_up(&self) {
        if !self.vocabulary().is_empty() {
            self.similar(0, 50);
        }
    }
}

impl ServedModel for CompletionModel {
    const KIND: Kind = Kind::Completion;

    fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
        CompletionBundle::load(folder).map(|(manifest, bundle)| (manifest, Self::new(bundle)))
    }

    fn track_ids(&self) -> Option<&Vocabulary> {
        Some(self.vocabulary())
    }

    fn tracks(&self) -> usize {
        self.bundle().index.tracks()
    }

    fn candidates(&self) -> usize {
        self.bundle().index.popular.len()
    }

    fn dimensions(&self) -> usize {
        self.bundle().index.dimensions()
    }

    fn warm_up(&self) {
        let popular = &self.bundle().index.popular;
        for seeds in [&popular[..popular.len().min(5)], &popular[popular.len() / 2..][..popular.len().min(1)]] {
            let title = Some("summer hits".to_owned());
            self.complete(&Completion { title, seeds: seeds.to_vec(), limit: 100, ..Completion::default() });
        }
    }
}

impl ServedModel for RatingsModel {
    const KIND: Kind = Kind::Ratings;

    fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
        RatingsBundle::load(folder).map(|(manifest, bundle)| (manifest, Self::new(bundle)))
    }

    fn track_ids(&self) -> Option<&Vocabulary> {
        Some(self.vocabulary())
    }

    fn tracks(&self) -> usize {
        self.vocabulary().len()
    }

    fn dimensions(&self) -> usize {
        self.bundle().columns()
    }

    fn warm_up(&self) {
        if !self.vocabulary().is_empty() {
            let taste = self.taste(&[Heard { row: 0, rating: None, at: 0 }]);
            self.recommend(&taste, &[], 50);
        }
    }
}

impl ServedModel for ClickModel {
    const KIND: Kind = Kind::Clicks;

    fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
        ClickBundle::load(folder).map(|(manifest, bundle)| (manifest, Self::new(bundle)))
    }

    fn track_ids(&self) -> Option<&Vocabulary> {
        None
    }

    fn tracks(&self) -> usize {
        self.bundle().tracks.len()
    }

    fn dimensions(&self) -> usize {
        0
    }

    fn warm_up(&self) {
        let question = Question { user: String::new(), tracks: vec![String::new()], ..Question::default() };
        self.answer(&question);
    }
}
