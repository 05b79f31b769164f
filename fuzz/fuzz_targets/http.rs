//! libFuzzer's entry to the target `http`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::http(data));
