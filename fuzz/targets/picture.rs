#![no_main]

modelark_fuzz::target!("picture");
