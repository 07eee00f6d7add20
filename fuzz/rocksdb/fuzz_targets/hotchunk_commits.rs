#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| icecore_hotchunk::fuzz::commits_against_a_model(data));
