#![no_main]

modelark_fuzz::target!("yaml");
