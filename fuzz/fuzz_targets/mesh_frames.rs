//! Any bytes in the place of what a peer sends over the mesh: frames, greetings, join messages, tokens, certificates.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mesh::links::fuzz_frames(bytes));
