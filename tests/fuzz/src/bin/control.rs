//! The fuzzer of [`tapgate_fuzz::control`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapgate_fuzz::control::run(input));
