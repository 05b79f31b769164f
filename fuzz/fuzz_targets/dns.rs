//! libFuzzer's entry to the target `dns`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::dns(data));
