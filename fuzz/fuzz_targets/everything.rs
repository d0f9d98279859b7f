//! Whatever comes from outside, read as everything that it could be.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stagecraft_inputs::parse_everything(bytes));
