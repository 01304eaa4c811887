#![no_main]

modelark_fuzz::target!("keras_archive");
