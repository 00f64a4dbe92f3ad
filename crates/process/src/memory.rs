//! Limits of the C allocator.

/// Makes the allocator return large pieces of memory as they are freed. Otherwise
/// one file of 32 MiB teaches it to keep as much for ever, in each of its arenas.
pub fn limit_allocator() {
    const THRESHOLD: i32 = 256 << 10;
    // SAFETY: mallopt has no preconditions; it only sets allocator parameters.
    #[allow(unsafe_code)]
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
