#![no_main]

modelark_fuzz::target!("hdf5");
