//! The fuzzer of [`tapgate_fuzz::file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tapgate_fuzz::file::run(input));
