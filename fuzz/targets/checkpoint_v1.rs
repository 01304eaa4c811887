#![no_main]

modelark_fuzz::target!("checkpoint_v1");
