//! How a model is trained: the optimizer with its state, losses and metrics, as each dialect spells them.

mod classes;
mod compile;
mod optimizer;
mod state;

use modelark_artifact::{Dialect, Objects, Report, Training};

pub use compile::{Loss, Metric};
pub use optimizer::{Adam, Optimizer, RmsProp, Sgd};

/// Training state as a dialect spells it, with what changes or is lost.
pub(crate) fn convert(training: &Training, objects: &Objects, dialect: Dialect) -> (Training, Report) {
    let mut report = Report::default();
    let compile = training.compile.as_ref().map(|c| compile::convert(c, dialect, &mut report));
    let optimizer = training
        .optimizer
        .as_ref()
        .and_then(|state| state::convert(state, training.compile.as_ref(), objects, dialect, &mut report));
    (Training { compile, optimizer }, report)
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{OptimizerLayout, Variable};
    use serde_json::{Value, json};

    use super::*;
    use crate::layers::{Dense, InputLayer};
    use crate::{Model, Sequential};

    fn compiled(optimizer: impl Into<Optimizer>) -> Model {
        let model = Sequential::new("m")
            .add(InputLayer::new([2]))
            .add(Dense::new(3))
            .add(Dense::new(1).use_bias(false));
        let mut model = model.build().unwrap();
        model.compile(optimizer, "mean_squared_error", &["mean_absolute_error"]).unwrap();
        model
    }

    fn shapes(training: &Training) -> Vec<Vec<usize>> {
        let state = training.optimizer.as_ref().unwrap();
        state.variables.iter().map(|v| v.variable.shape.clone()).collect()
    }

    #[test]
    fn states_go_from_layout_to_layout_and_back() {
        let model = compiled(Adam::new(0.5));
        let mut training = model.training().unwrap().clone();
        let state = training.optimizer.as_mut().unwrap();
        assert_eq!(state.layout, OptimizerLayout::Keras3);
        // A value of its own for every variable, so that none can stand for another.
        for (i, v) in state.variables.iter_mut().enumerate().skip(2) {
            let value = modelark_artifact::tensor::Tensor::full(i as f32, &v.variable.shape).unwrap();
            v.variable = Variable::new(v.variable.name.clone(), value);
        }
        assert_eq!(shapes(&training).len(), 2 + 3 * 2);
        let (keras2, _) = convert(&training, model.objects(), Dialect::Keras2);
        assert_eq!(shapes(&keras2).len(), 1 + 3 * 2);
        let (back, _) = convert(&keras2, model.objects(), Dialect::Keras3);
        let values = |t: &Training| -> Vec<f32> {
            let state = t.optimizer.as_ref().unwrap();
            let all = state.variables.iter().skip(1).map(|v| v.variable.load().unwrap());
            all.map(|t| t.as_slice::<f32>().unwrap()[0]).collect()
        };
        assert_eq!(values(&back), values(&training));
        assert_eq!(values(&back)[0], 0.5);
    }

    #[test]
    fn momentum_that_is_not_there_is_zero() {
        let model = compiled(Sgd::new(0.1));
        let training = model.training().unwrap();
        assert_eq!(shapes(training).len(), 2);
        let (keras2, _) = convert(training, model.objects(), Dialect::Keras2);
        assert_eq!(shapes(&keras2), [vec![], vec![2, 3], vec![3], vec![3, 1]]);
        let (back, _) = convert(&keras2, model.objects(), Dialect::Keras3);
        assert_eq!(shapes(&back).len(), 2);
    }

    #[test]
    fn compile_configs_take_each_dialects_keys() {
        let keras2 = json!({
            "optimizer_config": {"class_name": "Custom>Adam", "config": {"name": "Adam", "learning_rate": 0.25,
                "jit_compile": true, "is_legacy_optimizer": false, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7,
                "amsgrad": false, "own": 1}},
            "loss": {"class_name": "Huber", "config": {"reduction": "auto", "name": "h", "delta": 0.5, "fn": "huber"}},
            "metrics": [[{"class_name": "MeanMetricWrapper", "config": {"name": "acc", "fn": "categorical_accuracy"}}]],
            "own": 7,
        });
        let training = Training { compile: Some(keras2), optimizer: None };
        let (keras3, _) = convert(&training, &Objects::default(), Dialect::Keras3);
        let compile = keras3.compile.unwrap();
        assert_eq!(compile["optimizer"]["class_name"], "Adam");
        assert_eq!(compile["optimizer"]["module"], "keras.optimizers");
        let config = &compile["optimizer"]["config"];
        assert!(config.get("jit_compile").is_none() && config["own"] == 1 && config["learning_rate"] == 0.25);
        assert_eq!(
            compile["loss"]["config"],
            json!({"reduction": "sum_over_batch_size", "name": "h", "delta": 0.5})
        );
        assert_eq!(compile["metrics"], json!(["categorical_accuracy"]));
        assert_eq!((&compile["own"], &compile["steps_per_execution"]), (&json!(7), &json!(1)));
        assert_eq!(compile.get("optimizer_config"), None::<&Value>);
    }
}
