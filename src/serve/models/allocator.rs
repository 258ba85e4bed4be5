//! The memory of this process.

/// Returns the bytes in use, from Linux.
pub fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kilobytes| kilobytes * 1_024)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod gnu {
    /// Arrays of this many bytes, above all those of models, get pages of their own.
    const LARGE: i32 = 512 << 10;
    /// Freed memory that stays with the process for the next requests, in bytes.
    const SPARE: i32 = 64 << 20;

    /// Returns large arrays to the operating system as soon as they are freed. By default, once the first model is freed,
    /// the C library keeps the space of arrays of up to 32 MiB for itself, and later allocations scatter over it.
    #[expect(unsafe_code, reason = "a function of the C library")]
    pub fn map_large_arrays() {
        // SAFETY: settings of the allocator, which may be changed at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, SPARE);
        }
    }

    /// Returns freed memory between live allocations to the operating system.
    #[expect(unsafe_code, reason = "a function of the C library")]
    pub fn release_freed_memory() {
        // SAFETY: it takes the allocator's own locks and changes nothing that is in use.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod other {
    //! Other C libraries keep their defaults.

    pub fn map_large_arrays() {}

    pub fn release_freed_memory() {}
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use gnu::{map_large_arrays, release_freed_memory};
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub use other::{map_large_arrays, release_freed_memory};
