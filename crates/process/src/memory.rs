//! Limits of the C allocator.

/// Makes the allocator return large blocks to the kernel when they are freed. Otherwise
/// glibc raises its threshold after one file of 32 MiB, and each arena keeps that much
/// memory forever.
pub fn limit_allocator() {
    const THRESHOLD_BYTES: i32 = 256 << 10;
    // SAFETY: mallopt has no preconditions; it only sets allocator parameters.
    #[allow(unsafe_code)]
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
