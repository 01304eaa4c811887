//! Probe.
use std::io::Write;
fn main() {
    for path in std::env::args().skip(1) {
        let r = std::panic::catch_unwind(|| modelark::load(&path).and_then(|m| { let e = m.default_endpoint()?; 
            let ins: Vec<modelark::Tensor> = e.inputs.iter().map(|p| { let shape: Vec<usize> = p.shape.dims().unwrap_or(&[]).iter().map(|d| d.unwrap_or(2)).collect(); modelark::Tensor::zeros(p.dtype, shape).unwrap() }).collect();
            let o = m.predict(ins)?; Ok(format!("{:?}", o.iter().map(|(n,t)| (n.to_owned(), t.shape().to_vec())).collect::<Vec<_>>())) }));
        match r { Ok(Ok(s)) => println!("ok   {path}: {s}"), Ok(Err(e)) => println!("FAIL {path}: {e}"), Err(_) => println!("PANIC {path}") }
        std::io::stdout().flush().unwrap();
    }
}
