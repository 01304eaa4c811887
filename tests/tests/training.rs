//! SavedModels that train themselves: losses and variables must go where TensorFlow's went.

use modelark::{Inputs, Tensor};
use modelark_tests::Outcome;
use modelark_tests::compare::{self, Tolerance};
use modelark_tests::fixtures;

#[test]
fn training_goes_as_under_tensorflow() {
    let trained = |environment: &str| -> Outcome<()> {
        let case = fixtures::case(&format!("{environment}/training"))?;
        let model = modelark::load(case.path("export")).map_err(|e| e.to_string())?;
        let expected = case.arrays("expected.npz")?;
        let inputs: Vec<(String, Tensor)> = case.arrays("inputs.npz")?.into_iter().collect();
        for step in ["adam"] {
            let losses = expected.get(&format!("{step}_losses")).ok_or("no losses")?;
            let losses = losses.elements::<f32>().map_err(|e| e.to_string())?;
            for (i, want) in losses.iter().enumerate() {
                let out = model.call(step, Inputs::from(inputs.clone())).map_err(|e| e.to_string())?;
                let loss = out.get("loss").ok_or("no loss")?;
                let want = Tensor::scalar(*want);
                compare::close(loss, &want, Tolerance { absolute: 1e-5, relative: 1e-3 })
                    .map_err(|e| format!("{step}, step {i}: the loss: {e}"))?;
            }
            let weights = (0..).map_while(|i| Some((i, expected.get(&format!("{step}_weights_{i}"))?)));
            for (i, want) in weights {
                let got = model.variable(&format!("weights/{i}")).map_err(|e| e.to_string())?;
                compare::close(&got, want, Tolerance { absolute: 1e-3, relative: 1e-3 })
                    .map_err(|e| format!("{step}: variable {i}: {e}"))?;
            }
        }
        Ok(())
    };
    for environment in ["tf215", "tf221"] {
        trained(environment).unwrap_or_else(|e| panic!("{environment}: {e}"));
    }
}
