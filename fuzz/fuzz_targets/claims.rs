//! libFuzzer's entry to the target `claims`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::claims(data));
