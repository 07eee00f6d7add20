#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| icecore_batcher::fuzz::group_of_random_shape(data));
