#![no_main]

modelark_fuzz::target!("weights_hdf5");
