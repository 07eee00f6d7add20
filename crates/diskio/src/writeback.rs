//! Early writeback of a range, where the system has a call for it. The one unsafe call here takes a descriptor that is
//! open for as long as the borrow, and numbers; it touches no memory.
#![allow(unsafe_code)]

use std::fs::File;

/// Begins writing `offset..offset + len_bytes` to the device without waiting for it. A hint: failure is ignored, the
/// later fsync reports what matters.
#[cfg(target_os = "linux")]
pub(crate) fn start(file: &File, offset: u64, len_bytes: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len_bytes)) = (i64::try_from(offset), i64::try_from(len_bytes)) else { return };
    // SAFETY: the descriptor is open while `file` is borrowed; the call has no pointer arguments.
    let _ =
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len_bytes, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn start(_: &File, _: u64, _: u64) {}
