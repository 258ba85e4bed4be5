//! Numbers that are either held in memory or read straight from a mapped file.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;

/// A slice of numbers that owns what it lies in. Cheap to clone when mapped.
#[derive(Clone)]
pub struct Values<T> {
    place: Place<T>,
}

#[derive(Clone)]
enum Place<T> {
    Owned(Vec<T>),
    Mapped { file: Arc<Mmap>, bytes: Range<usize>, kind: PhantomData<T> },
}

impl<T: Pod> Values<T> {
    /// The values at `bytes` of a mapped file.
    ///
    /// # Errors
    ///
    /// When the range is not inside the file, not aligned for `T`, or not a whole number of values.
    pub fn mapped(file: Arc<Mmap>, bytes: Range<usize>) -> Result<Self, String> {
        let slice = file.get(bytes.clone()).ok_or("the values end behind the end of the file")?;
        bytemuck::try_cast_slice::<u8, T>(slice).map_err(|error| error.to_string())?;
        Ok(Self { place: Place::Mapped { file, bytes, kind: PhantomData } })
    }
}

impl<T: Pod> Deref for Values<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.place {
            Place::Owned(values) => values,
            Place::Mapped { file, bytes, .. } => bytemuck::cast_slice(&file[bytes.clone()]),
        }
    }
}

impl<T> From<Vec<T>> for Values<T> {
    fn from(values: Vec<T>) -> Self {
        Self { place: Place::Owned(values) }
    }
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Values<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if matches!(self.place, Place::Owned(_)) { "owned" } else { "mapped" };
        write!(formatter, "{} {place} values", self.len())
    }
}

impl<T: Pod + PartialEq> PartialEq for Values<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}
