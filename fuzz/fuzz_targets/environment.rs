//! libFuzzer's entry to the target `environment`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::environment(data));
