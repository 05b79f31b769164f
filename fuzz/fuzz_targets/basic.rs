//! libFuzzer's entry to the target `basic`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::basic(data));
