//! Any bytes as a command: what decodes is executed, twice, on a small state.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| catalog::fuzz::command(bytes));
