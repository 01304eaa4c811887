#![no_main]

modelark_fuzz::target!("graph_text");
