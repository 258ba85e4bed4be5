//! The memory of this process.

/// Bytes in use, from Linux.
pub fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kilobytes| kilobytes * 1_024)
}

/// Gives the operating system back what was freed. The C library keeps freed memory between what is still in use; after
/// a model is gone that is as much again as a model takes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library")]
pub fn give_back() {
    // SAFETY: it takes the allocator's own locks and changes nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries are left to do so themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
