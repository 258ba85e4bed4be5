//! Fuzz targets: each reads bytes as one of Segue's readers does, and asserts what must hold whatever they are.
//!
//! A target is a function `run` of a module here, and a program of the same name in `fuzz_targets/`. `seeds/<target>/` has
//! inputs to begin with, `dictionaries/<target>` words that inputs consist of.

pub mod bundles;
pub mod configuration;
pub mod kkbox;
pub mod lines;
pub mod numpy;
pub mod requests;
pub mod rows;
pub mod slices;
pub mod sources;
pub mod tables;
pub mod yes_radio;

/// Returns a folder for the files of one process, in memory if there is such a place.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder to write in")
}
