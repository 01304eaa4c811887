//! Runs models in tract.

use anyhow::{Result, anyhow};
use modelark_peers::{Input, serve, threads};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

fn main() -> Result<()> {
    let threads = threads()?;
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    serve(|model, input| {
        let given = match input {
            Input::Floats(shape, elements) => Tensor::from_shape(&shape, &elements)?,
            Input::Integers(shape, elements) => Tensor::from_shape(&shape, &elements)?,
        };
        let fact = InferenceFact::dt_shape(given.datum_type(), given.shape());
        let plan = tract_onnx::onnx()
            .model_for_path(model)?
            .with_input_fact(0, fact)?
            .into_optimized()?
            .into_runnable()?;
        let given: TValue = given.into();
        Ok(move || {
            let outputs = plan.run(tvec![given.clone()])?;
            let output = outputs.first().ok_or_else(|| anyhow!("no output"))?;
            let view = output.to_plain_array_view::<f32>()?;
            Ok((output.shape().to_vec(), view.iter().copied().collect()))
        })
    })
}
