#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| icecore_events::fuzz::hot_index(data));
