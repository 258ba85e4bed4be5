//! Pictures that commands draw beside what they print.

use std::path::{Path, PathBuf};

use crate::evaluate::pictures::bars;

pub(super) fn picture_file(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "png") => Ok(path),
        _ => Err("pictures are written as .svg or .png".to_owned()),
    }
}

/// Writes a picture made as SVG, as the file's name says.
pub(super) fn write_picture(path: &Path, svg: &str) -> anyhow::Result<()> {
    let is_png = path.extension().is_some_and(|extension| extension == "png");
    let picture = if is_png { bars::png(svg).map_err(anyhow::Error::msg)? } else { svg.as_bytes().to_vec() };
    Ok(std::fs::write(path, picture)?)
}
