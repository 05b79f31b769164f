//! libFuzzer's entry to the target `format`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::format(data));
