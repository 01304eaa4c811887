#![no_main]

modelark_fuzz::target!("stablehlo");
