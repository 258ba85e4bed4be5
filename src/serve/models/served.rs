//! What the server needs of a model, and how the four models provide it.

use crate::bundle::{
    BundleError, BundleFolder, ClickBundle, CompletionBundle, Kind, Manifest, RatingsBundle, SimilarityBundle,
    Vocabulary,
};
use crate::recommend::clicks::{ClickModel, Question};
use crate::recommend::completion::CompletionModel;
use crate::recommend::ratings::{RatingsModel, TasteEvent};
use crate::recommend::{Completion, SimilarityModel};
use crate::serve::capacity::lane::Lane;

/// A piece of work for warm-up.
pub type Trial<'a> = Box<dyn Fn() + 'a>;

/// A model that is made from a bundle of one kind.
pub trait ServedModel: Send + Sync + Sized + 'static {
    /// the bundle's kind
    const KIND: Kind;
    /// lanes of the engine in which its work waits
    const LANES: &'static [Lane];

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

    /// Returns pieces of work like those of requests: once they have run, mapped files are in memory, and the time that
    /// they take from then on is the time that requests will take.
    fn trials(&self) -> Vec<Trial<'_>>;
}

impl ServedModel for SimilarityModel {
    const KIND: Kind = Kind::Similarity;
    /// Without a completion model it completes playlists too.
    const LANES: &'static [Lane] = &Lane::ALL;

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

    fn trials(&self) -> Vec<Trial<'_>> {
        if self.vocabulary().is_empty() {
            return Vec::new();
        }
        vec![Box::new(|| drop(self.similar(0, 50)))]
    }
}

impl ServedModel for CompletionModel {
    const KIND: Kind = Kind::Completion;
    const LANES: &'static [Lane] = &[Lane::Completion, Lane::Batch];

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

    fn trials(&self) -> Vec<Trial<'_>> {
        let popular = &self.bundle().index.popular;
        let trial = |seeds: &[u32]| -> Trial<'_> {
            let (title, seeds) = (Some("summer hits".to_owned()), seeds.to_vec());
            let playlist = Completion { title, seeds, limit: 100, ..Completion::default() };
            Box::new(move || drop(self.complete(&playlist)))
        };
        vec![trial(&popular[..popular.len().min(5)]), trial(&popular[popular.len() / 2..][..popular.len().min(1)])]
    }
}

impl ServedModel for RatingsModel {
    const KIND: Kind = Kind::Ratings;
    const LANES: &'static [Lane] = &[Lane::Quick];

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

    fn trials(&self) -> Vec<Trial<'_>> {
        if self.vocabulary().is_empty() {
            return Vec::new();
        }
        vec![Box::new(|| {
            let taste = self.taste(&[TasteEvent { row: 0, rating: None, at: 0 }]);
            self.recommend(&taste, &[], 50);
        })]
    }
}

impl ServedModel for ClickModel {
    const KIND: Kind = Kind::Clicks;
    const LANES: &'static [Lane] = &[Lane::Quick];

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

    fn trials(&self) -> Vec<Trial<'_>> {
        let question = Question { user: String::new(), tracks: vec![String::new()], ..Question::default() };
        vec![Box::new(move || drop(self.answer(&question)))]
    }
}
