//! Arrays in NumPy's `.npy` format, version 1.0: a notebook reads them with `numpy.load`, and the data begin at a
//! multiple of 64 bytes, so that they can be memory-mapped.

use bytemuck::Pod;

use crate::math::Array;

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
const ALIGNMENT: usize = 64;

/// Numbers that bundles hold.
pub trait Element: Pod {
    /// NumPy's name of the type: little-endian, kind, bytes.
    const DESCR: &'static str;
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";
}

impl Element for u8 {
    const DESCR: &'static str = "|u1";
}

impl Element for u32 {
    const DESCR: &'static str = "<u4";
}

impl Element for u64 {
    const DESCR: &'static str = "<u8";
}

/// The bytes of an `.npy` file of `values` with `shape`.
pub fn encode_array<T: Element>(shape: &[usize], values: &[T]) -> Vec<u8> {
    debug_assert_eq!(shape.iter().product::<usize>(), values.len());
    let dimensions: Vec<String> = shape.iter().map(usize::to_string).collect();
    let trailing = if shape.len() == 1 { "," } else { "" };
    let mut header = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}{trailing}), }}",
        T::DESCR,
        dimensions.join(", ")
    );
    let unpadded = MAGIC.len() + 2 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    let mut bytes = Vec::with_capacity(MAGIC.len() + 2 + header.len() + std::mem::size_of_val(values));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(bytemuck::cast_slice(values));
    bytes
}

/// Reads an `.npy` file of numbers of type `T`.
///
/// # Errors
///
/// Says in words what is not as expected.
pub fn decode_array<T: Element>(bytes: &[u8]) -> Result<Array<T>, String> {
    let (shape, start) = decode_header::<T>(bytes)?;
    // The file's bytes are not aligned for T; collecting copies them to where they are.
    Ok(Array { shape, values: bytemuck::allocation::pod_collect_to_vec(&bytes[start..]) })
}

/// The shape of an `.npy` file of numbers of type `T`, and where its values begin: they go to the end.
pub(super) fn decode_header<T: Element>(bytes: &[u8]) -> Result<(Vec<usize>, usize), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("not an .npy file of version 1.0")?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or("the header is truncated")?;
    let (header, data) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or("the header is truncated")?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is not text")?;
    let after = |name: &str| {
        header.split_once(name).map(|(_, rest)| rest.trim_start()).ok_or(format!("no {name} in the header"))
    };
    if !after("'descr':")?.starts_with(&format!("'{}'", T::DESCR)) {
        return Err(format!("the values are not of type {}", T::DESCR));
    }
    if !after("'fortran_order':")?.starts_with("False") {
        return Err("the values are not in row-major order".to_owned());
    }
    let shape = after("'shape':")?.trim_start_matches('(').split(')').next().unwrap_or_default();
    let shape: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|length| !length.is_empty())
        .map(|length| length.parse().map_err(|_| format!("{length:?} is not a length")))
        .collect::<Result<_, _>>()?;
    let expected = shape
        .iter()
        .try_fold(size_of::<T>(), |product, &length| product.checked_mul(length))
        .ok_or("the shape is too large")?;
    if data.len() != expected {
        return Err(format!("{} bytes of values, but the shape {shape:?} needs {expected}", data.len()));
    }
    Ok((shape, bytes.len() - data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_reads_back_as_written_and_its_data_are_aligned() {
        for shape in [vec![6], vec![2, 3], vec![3, 2, 1], vec![0, 5]] {
            let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|value| value as f32 / 3.0).collect();
            let bytes = encode_array(&shape, &values);
            assert_eq!((bytes.len() - 4 * values.len()) % ALIGNMENT, 0);
            assert_eq!(decode_array(&bytes), Ok(Array { shape, values }));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let bytes = encode_array(&[3], &[1u32, 2, 3]);
        assert!(decode_array::<f32>(&bytes).expect_err("other type").contains("<f4"));
        assert!(decode_array::<u32>(&bytes[..bytes.len() - 1]).expect_err("short").contains("needs 12"));
        assert!(decode_array::<u32>(b"{}").expect_err("no magic").contains(".npy"));
    }
}
