//! Any bytes in the place of a journal: opened, read, verified; refused with an error, never with a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| store::journal::fuzz_journal(bytes));
