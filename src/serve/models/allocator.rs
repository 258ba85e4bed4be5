//! The memory of this process.

/// Bytes in use, from Linux.
pub fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kilobytes| kilobytes * 1_024)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod gnu {
    /// Arrays of so many bytes, those of models above all, are kept apart from the rest.
    const LARGE: i32 = 512 << 10;
    /// So much freed memory is kept for the next request.
    const SPARE: i32 = 64 << 20;

    /// Has large arrays go back to the operating system whole when they are freed. By itself the C library learns from the
    /// first model that goes to keep the room of arrays of up to 32 MiB, and what comes later is strewn over it.
    #[expect(unsafe_code, reason = "a function of the C library")]
    pub fn keep_large_arrays_apart() {
        // SAFETY: settings of the allocator, which may be changed at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, SPARE);
        }
    }

    /// Gives the operating system back what was freed between things that are still in use.
    #[expect(unsafe_code, reason = "a function of the C library")]
    pub fn give_back() {
        // SAFETY: it takes the allocator's own locks and changes nothing that is in use.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod other {
    //! Other C libraries are left to themselves.

    pub fn keep_large_arrays_apart() {}

    pub fn give_back() {}
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use gnu::{give_back, keep_large_arrays_apart};
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub use other::{give_back, keep_large_arrays_apart};
