#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| icecore_streamhash::fuzz::fast_block(data));
