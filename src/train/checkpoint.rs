//! Where a training run is, as a file: tensors by name, and a few counters. Written whole or not at all.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use tch::Tensor;

use super::TrainError;

/// Name of the counters among the tensors.
const PROGRESS: &str = "progress";

/// Writes tensors and counters to `path`. Counters are whole numbers far below 2⁵³, which a double holds exactly, or
/// measurements.
pub(super) fn save(path: &Path, mut tensors: Vec<(String, Tensor)>, progress: &[f64]) -> Result<(), TrainError> {
    tensors.push((PROGRESS.to_owned(), Tensor::from_slice(progress)));
    let unfinished = path.with_extension("unfinished");
    Tensor::write_safetensors(&tensors, &unfinished)?;
    put_in_place(&unfinished, path)
}

/// Makes the file `unfinished`, which is written, the one at `path`.
pub(super) fn put_in_place(unfinished: &Path, path: &Path) -> Result<(), TrainError> {
    let synced = fs::File::open(unfinished).and_then(|file| file.sync_all());
    synced.and_then(|()| fs::rename(unfinished, path)).map_err(|error| file_error(path, &error))
}

/// What went wrong with a file.
pub(super) fn file_error(path: &Path, error: &std::io::Error) -> TrainError {
    TrainError::Settings(format!("{}: {error}", path.display()))
}

/// Reads what [`save`] wrote into `tensors`, which must be of the same names and sizes; gives the counters.
pub(super) fn load<const N: usize>(path: &Path, tensors: Vec<(String, &mut Tensor)>) -> Result<[f64; N], TrainError> {
    let refuse = |reason: String| TrainError::Settings(format!("{} {reason}; delete it to start anew", path.display()));
    let stored: HashMap<String, Tensor> = Tensor::read_safetensors(path)?.into_iter().collect();
    let take = |name: &str| stored.get(name).map(Tensor::copy).ok_or_else(|| refuse(format!("lacks {name}")));
    for (name, tensor) in tensors {
        let stored = take(&name)?;
        if stored.size() != tensor.size() {
            return Err(refuse(format!("is of another size of {name}")));
        }
        *tensor = stored;
    }
    let progress = Vec::<f64>::try_from(take(PROGRESS)?)?;
    <[f64; N]>::try_from(progress).map_err(|_| refuse("is of another version".to_owned()))
}
