//! The fuzzer of [`tapgate_fuzz::sessions`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapgate_fuzz::sessions::run(input));
