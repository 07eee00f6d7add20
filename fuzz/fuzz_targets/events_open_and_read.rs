#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| icecore_events::fuzz::open_and_read(data));
