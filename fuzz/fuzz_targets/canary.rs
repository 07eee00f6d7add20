//! A fault that random bytes do not meet: the fuzzer must climb to it, one new branch after the other.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let &[a, b, c, d, e, ..] = data else { return };
    if a ^ 0x5A == 0x17 {
        if b.wrapping_mul(3) == 0x2B {
            if c.count_ones() == 8 {
                if d == a.wrapping_add(b) {
                    if e == 0x99 {
                        panic!("the planted fault");
                    }
                }
            }
        }
    }
});
