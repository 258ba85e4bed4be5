//! The state of a training run under way, so that the same command continues where a stopped one was.
//!
//! A run has a hidden folder beside the versions of its kind, named after a hash of its settings and data: a run with
//! other settings or data does not continue from it. Each stage of the run has a file of arrays by name there, written
//! whole or not at all. The folder is deleted once the model is published.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tch::kind::Element;
use tch::{TchError, Tensor};
use tracing::warn;

use super::error::TrainError;
use crate::bundle::Kind;
use crate::dataset::DataFingerprint;
use crate::progress::Interrupt;
use crate::scoring::oblivious_trees::ObliviousTrees;

/// How much work a kill may cost.
pub(super) const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// How a training run computes, and how it is stopped and continued.
#[derive(Debug, Clone, Copy)]
pub struct RunContext<'a> {
    /// threads that compute
    pub threads: usize,
    /// where the run keeps its state; without one, a stopped run starts over
    checkpoint: Option<&'a Checkpoint>,
    /// stops the run
    pub interrupt: &'a Interrupt,
    /// begins the names of the files that stages keep, where a run has the same stages several times
    part: Option<&'a str>,
}

impl<'a> RunContext<'a> {
    /// A run that keeps no state.
    pub fn new(threads: usize, interrupt: &'a Interrupt) -> Self {
        Self { threads, checkpoint: None, interrupt, part: None }
    }

    /// The same run with its state in `checkpoint`.
    pub(super) fn kept_in(self, checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint: Some(checkpoint), ..self }
    }

    /// The same run for a stage that keeps no state.
    pub(super) fn without_state(self) -> Self {
        Self { checkpoint: None, ..self }
    }

    /// The same run for the stages of its part `name`.
    pub(super) fn part(self, name: &'a str) -> Self {
        Self { part: Some(name), ..self }
    }

    /// The state of a stage, if the run keeps any.
    pub(super) fn file(&self, stage: &str) -> Option<StateFile> {
        self.checkpoint.map(|checkpoint| match self.part {
            Some(part) => checkpoint.file(&format!("{part}-{stage}")),
            None => checkpoint.file(stage),
        })
    }

    /// What a stage kept, if it did.
    pub(super) fn load_kept<T: Kept>(&self, stage: &str) -> Result<Option<T>, TrainError> {
        self.file(stage).as_ref().map_or(Ok(None), T::load)
    }

    /// Keeps what a stage made, if the run keeps its state.
    pub(super) fn keep(&self, stage: &str, made: &impl Kept) -> Result<(), TrainError> {
        self.file(stage).as_ref().map_or(Ok(()), |file| made.save(file))
    }

    /// Fails once the person asked to stop.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        if self.interrupt.is_raised() { Err(TrainError::Stopped) } else { Ok(()) }
    }
}

/// The folder of a run's state.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
}

impl Checkpoint {
    /// Opens that of the run that trains a `kind` in the folder `models` with `settings` on `data`.
    pub fn open(
        models: &Path,
        kind: Kind,
        settings: &impl Serialize,
        data: &DataFingerprint,
    ) -> Result<Self, TrainError> {
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(settings).unwrap_or_default());
        hash.update(&data.sha256);
        let key = hex::encode(hash.finalize());
        Self::in_folder(models.join(kind.as_str()).join(format!(".resume-{}", &key[..16])))
    }

    /// Opens a folder that the caller names after settings and data.
    pub fn in_folder(folder: PathBuf) -> Result<Self, TrainError> {
        fs::create_dir_all(&folder).map_err(|error| TrainError::file(&folder, error))?;
        Ok(Self { folder })
    }

    /// The file of a stage.
    pub fn file(&self, stage: &str) -> StateFile {
        StateFile { path: self.folder.join(format!("{stage}.safetensors")) }
    }

    /// Deletes the folder: the model is published.
    pub fn delete(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An array that a state file holds.
pub trait Stored {
    /// A copy, or for a tensor the tensor itself.
    fn to_tensor(&self) -> Tensor;

    /// Takes over the values of `tensor`; false if it is of another size. An empty array takes any number of values.
    fn restore(&mut self, tensor: &Tensor) -> Result<bool, TchError>;
}

impl Stored for Tensor {
    fn to_tensor(&self) -> Tensor {
        self.shallow_clone()
    }

    fn restore(&mut self, tensor: &Tensor) -> Result<bool, TchError> {
        let fits = self.size() == tensor.size();
        if fits {
            *self = tensor.copy();
        }
        Ok(fits)
    }
}

impl<T: Element + Copy> Stored for Vec<T> {
    fn to_tensor(&self) -> Tensor {
        Tensor::from_slice(self)
    }

    fn restore(&mut self, tensor: &Tensor) -> Result<bool, TchError> {
        let fits = self.is_empty() || self.len() == tensor.numel();
        if fits {
            *self = Self::try_from(tensor)?;
        }
        Ok(fits)
    }
}

impl<T: Element + Copy, const N: usize> Stored for [T; N] {
    fn to_tensor(&self) -> Tensor {
        Tensor::from_slice(self)
    }

    fn restore(&mut self, tensor: &Tensor) -> Result<bool, TchError> {
        let values = Self::try_from(Vec::try_from(tensor)?);
        Ok(values.map(|values| *self = values).is_ok())
    }
}

/// Arrays by name.
pub type State<'a> = Vec<(String, &'a mut dyn Stored)>;

/// What a stage makes, as a file.
pub(super) trait Kept: Sized {
    /// Writes it.
    fn save(&self, file: &StateFile) -> Result<(), TrainError>;

    /// Reads it; `None` without a file, and with one that is damaged.
    fn load(file: &StateFile) -> Result<Option<Self>, TrainError>;
}

impl Kept for ObliviousTrees {
    fn save(&self, file: &StateFile) -> Result<(), TrainError> {
        let mut json = serde_json::to_vec(self).map_err(|error| TrainError::Settings(error.to_string()))?;
        file.save(vec![("trees".to_owned(), &mut json)])
    }

    fn load(file: &StateFile) -> Result<Option<Self>, TrainError> {
        let mut json: Vec<u8> = Vec::new();
        let is_there = file.load(vec![("trees".to_owned(), &mut json)])?;
        Ok(if is_there { serde_json::from_slice(&json).ok() } else { None })
    }
}

/// The file of one stage of a run.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// Writes `state`, whole or not at all.
    pub fn save(&self, state: State<'_>) -> Result<(), TrainError> {
        let failed = |error: std::io::Error| TrainError::file(&self.path, error);
        let tensors: Vec<(&str, Tensor)> =
            state.iter().map(|(name, array)| (name.as_str(), array.to_tensor())).collect();
        let unfinished = self.path.with_extension("unfinished");
        Tensor::write_safetensors(&tensors, &unfinished)?;
        let synced = fs::File::open(&unfinished).and_then(|file| file.sync_all());
        synced.and_then(|()| fs::rename(&unfinished, &self.path)).map_err(failed)
    }

    /// Reads what [`StateFile::save`] wrote into `state`, which must have the same names and sizes. False without a file,
    /// and with one that is damaged: the stage then starts over.
    pub fn load(&self, state: State<'_>) -> Result<bool, TrainError> {
        if !self.exists() {
            return Ok(false);
        }
        let stored: HashMap<String, Tensor> = match Tensor::read_safetensors(&self.path) {
            Ok(stored) => stored.into_iter().collect(),
            Err(error) => {
                warn!(%error, "the state of a stopped training is damaged; this stage starts over");
                return Ok(false);
            }
        };
        for (name, array) in state {
            let fits = stored.get(&name).map_or(Ok(false), |tensor| array.restore(tensor))?;
            if !fits {
                let reason = format!("`{name}` is missing or of another size; delete the file to start over");
                return Err(TrainError::file(&self.path, reason));
            }
        }
        Ok(true)
    }

    /// Whether there is such a file.
    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Deletes the file.
    pub fn delete(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(name: &str, array: &'a mut dyn Stored) -> (String, &'a mut dyn Stored) {
        (name.to_owned(), array)
    }

    #[test]
    fn arrays_are_read_as_they_were_written_and_others_are_rejected() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Checkpoint::in_folder(folder.path().join(".resume-x")).expect("a folder").file("stage");
        let (mut tensor, mut rates, mut counters) =
            (Tensor::from_slice(&[1.0f32, 2.0]).view([2, 1]), vec![0.1f64], [1e15f64]);
        file.save(vec![named("tensor", &mut tensor), named("rates", &mut rates), named("counters", &mut counters)])
            .expect("saved");
        let (mut of_tensor, mut of_rates, mut of_counters) = (tensor.zeros_like(), Vec::<f64>::new(), [0.0f64]);
        let state =
            vec![named("tensor", &mut of_tensor), named("rates", &mut of_rates), named("counters", &mut of_counters)];
        assert!(file.load(state).expect("loaded"));
        assert_eq!((of_tensor, of_rates, of_counters), (tensor, rates, counters));
        let error = file.load(vec![named("rates", &mut vec![0.0f64; 3])]).expect_err("another size");
        assert!(error.to_string().contains("stage.safetensors: `rates`"), "{error}");
        fs::write(&file.path, "no tensors").expect("written");
        assert!(!file.load(vec![named("counters", &mut of_counters)]).expect("damaged"));
    }
}
