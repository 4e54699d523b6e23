#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate_fuzz::foreign_token::run(input));
