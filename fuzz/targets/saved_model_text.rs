#![no_main]

modelark_fuzz::target!("saved_model_text");
