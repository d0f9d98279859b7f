//! What operator and gateway are told by Redis, Kubernetes and the providers of models.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stagecraft_readers::read_everything(bytes));
