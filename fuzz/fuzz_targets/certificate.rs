//! libFuzzer's entry to the target `certificate`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::certificate(data));
