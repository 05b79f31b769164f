//! libFuzzer's entry to the target `keys`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::keys(data));
