//! Chosen variables, no model around them: what `tf.compat.v1.train.Saver` does.
//!
//! `cargo run -p modelark --example saver -- OUT`

mod common;

use modelark::artifact::Variable;
use modelark::checkpoint::{Saver, latest_checkpoint};
use modelark::{Result, Tensor};

fn main() -> Result<()> {
    let args = common::arguments()?;
    let folder = args.folder.join("saver");
    let mut variables = [
        Variable::new("layer/weights", Tensor::from_vec(vec![0.5f32, -1.5, 2.0, 0.25, 1.0, -0.75], [2, 3])?),
        Variable::new("layer/biases", Tensor::from_vec(vec![0.1f32, 0.2, 0.3], [3])?),
        Variable::new("global_step", Tensor::scalar(0i64)).trainable(false),
    ];

    // Three steps of "training", of which the last two are kept.
    let mut saver = Saver::new().max_to_keep(2);
    for step in 1..=3i64 {
        let mut weights = variables[0].load()?;
        weights.make_mut::<f32>()?.iter_mut().for_each(|w| *w += 1.0);
        variables[0] = Variable::new("layer/weights", weights);
        variables[2] = Variable::new("global_step", Tensor::scalar(step)).trainable(false);
        let path = saver.save(&variables, folder.join("model"), Some(step))?;
        println!("saved {}", path.display());
    }

    // y = x @ weights + biases, so that whoever restores the variables can compare.
    let x = common::input(&[4, 2])?;
    let y = affine(&x, &variables[0].load()?, &variables[1].load()?)?;
    for (name, tensor) in [("x.npy", &x), ("y.npy", &y)] {
        common::write_npy(tensor, &args.folder.join(name))?;
    }

    // Everything again from the newest checkpoint, then one variable alone under another name.
    let newest = latest_checkpoint(&folder)?.unwrap_or_default();
    let mut restored = [
        Variable::new("layer/weights", Tensor::zeros(modelark::DType::F32, [2, 3])?),
        Variable::new("layer/biases", Tensor::zeros(modelark::DType::F32, [3])?),
        Variable::new("global_step", Tensor::scalar(0i64)),
    ];
    saver.restore(&mut restored, &newest)?;
    println!("restored {} at step {}", newest.display(), restored[2].load()?.item::<i64>()?);
    let mut renamed = [Variable::new("dense/kernel", Tensor::zeros(modelark::DType::F32, [2, 3])?)];
    Saver::new().names([("layer/weights", "dense/kernel")]).restore(&mut renamed, &newest)?;
    println!("restored layer/weights alone as dense/kernel: {:?}", renamed[0].load()?);
    Ok(())
}

fn affine(x: &Tensor, weights: &Tensor, biases: &Tensor) -> Result<Tensor> {
    use modelark::tensor::kernels::{elementwise, matmul};
    let product = matmul::matmul(x, matmul::Form::Plain, weights, matmul::Form::Plain)?;
    Ok(elementwise::add(product, biases.clone())?)
}
