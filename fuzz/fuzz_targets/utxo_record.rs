#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| icecore_utxo::fuzz::record(data));
