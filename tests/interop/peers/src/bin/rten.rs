//! Runs models in rten.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use modelark_peers::{Input, serve, threads};
use rten::{ModelOptions, RunOptions, ThreadPool, Value};
use rten_tensor::prelude::*;
use rten_tensor::Tensor;

fn main() -> Result<()> {
    let pool = Arc::new(ThreadPool::with_num_threads(threads()?));
    serve(|model, input| {
        let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(model)?;
        let given = match input {
            Input::Floats(shape, elements) => Value::from(Tensor::from_data(&shape, elements)),
            Input::Integers(shape, elements) => Value::from(Tensor::from_data(&shape, elements)),
        };
        Ok(move || {
            let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
            let output: Tensor<f32> =
                model.run_one((&given).into(), Some(options))?.try_into().map_err(|_| anyhow!("not float32"))?;
            Ok((output.shape().to_vec(), output.to_vec()))
        })
    })
}
