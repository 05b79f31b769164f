//! libFuzzer's entry to the target `config_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dexsidecar_fuzz::config_file(data));
