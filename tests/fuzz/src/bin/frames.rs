//! The fuzzer of [`tapgate_fuzz::frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapgate_fuzz::frames::run(input));
