//! Checks of settings that the command line cannot make. Each fails with the flags and what they must be.

use super::error::TrainError;

/// Each value must be above 0.
pub(super) fn above_0(flags: &[(&str, f64)]) -> Result<(), TrainError> {
    check(flags, |value| value > 0.0 && value.is_finite(), "above 0")
}

/// Each value must be 0 or above.
pub(super) fn from_0(flags: &[(&str, f64)]) -> Result<(), TrainError> {
    check(flags, |value| value >= 0.0 && value.is_finite(), "0 or above")
}

/// Each value must be a chance that leaves something.
pub(super) fn below_1(flags: &[(&str, f64)]) -> Result<(), TrainError> {
    check(flags, |value| (0.0..1.0).contains(&value), "from 0 to below 1")
}

/// Each value must be accepted by `is_valid`, or it `must` be something else.
pub(super) fn check(flags: &[(&str, f64)], is_valid: impl Fn(f64) -> bool, must: &str) -> Result<(), TrainError> {
    match flags.iter().find(|(_, value)| !is_valid(*value)) {
        Some((flag, value)) => Err(TrainError::Settings(format!("{flag} must be {must}, not {value}"))),
        None => Ok(()),
    }
}
