//! Any bytes to every parser of the ledger: what parses prints the same again, nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ledger::fuzz::all(bytes));
