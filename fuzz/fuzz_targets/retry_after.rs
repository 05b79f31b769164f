//! libFuzzer's entry to the target `retry_after`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::retry_after(data));
