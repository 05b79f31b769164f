//! libFuzzer's entry to the target `duration`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::duration(data));
