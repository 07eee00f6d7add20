//! Asking the processor to load a line that will be needed soon.
//!
//! Contract: a prefetch is a hint. It reads nothing that the program sees, faults on no address, and so may be given
//! any place at all; outside the items it is merely wasted.
#![allow(unsafe_code)]

/// Begins to load the line that holds the beginning of the item at `at`.
#[inline(always)]
pub(crate) fn prefetch<T>(items: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = items.as_ptr().wrapping_add(at);
        // SAFETY: SSE is part of x86-64, and the instruction does not access the address that it is given.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, at);
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_place_will_do() {
        for at in [0, 1, 63, 4096, usize::MAX / 2, usize::MAX] {
            super::prefetch::<u64>(&[], at);
            super::prefetch(&[1u8, 2, 3], at);
        }
    }
}
