//! Keras's classes of optimizers: their options, and what they accumulate.

use modelark_artifact::OptimizerLayout;
use serde_json::{Value, json};

use super::Optimizer;

/// What an option is by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    Number(f64),
    Flag(bool),
    Null,
}

impl Start {
    pub(crate) fn value(self) -> Value {
        match self {
            Number(n) => json!(n),
            Flag(b) => json!(b),
            Null => Value::Null,
        }
    }
}

use Start::{Flag, Null, Number};

/// A class of optimizers.
#[derive(Debug, PartialEq)]
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// The name of an optimizer that has none.
    pub(crate) snake: &'static str,
    pub(crate) learning_rate: f64,
    pub(crate) weight_decay: Option<f64>,
    /// The options that the class alone has, with their defaults.
    pub(crate) options: &'static [(&'static str, Start)],
    /// What is accumulated for every weight; `None` where the order is Keras 3's alone to know.
    groups: Option<&'static [Group]>,
    /// Whether Keras 2 has the class.
    pub(crate) in_keras2: bool,
}

/// Accumulators that stand weight by weight, one group after the other.
#[derive(Debug, PartialEq)]
struct Group {
    accumulators: &'static [Accumulator],
    /// The option without which there is no such group.
    needs: Option<&'static str>,
    /// Whether Keras 2's later optimizers have the group in any case.
    always_in_keras2: bool,
}

/// An accumulator that an optimizer keeps for every weight: what each generation calls it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Accumulator {
    pub(crate) keras3: &'static str,
    pub(crate) keras2: &'static str,
    pub(crate) legacy: &'static str,
    extent: Extent,
}

/// How large an accumulator is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Extent {
    /// As the weight.
    Whole,
    /// A mean over the last axis of the weight, or over the last but one.
    Rows,
    Columns,
}

impl Accumulator {
    /// The shape for a weight of this shape; `None` where this layout has no such accumulator.
    ///
    /// For a weight that has no rows and columns, Keras 3 keeps a scalar that isn't used.
    pub(crate) fn shape(&self, weight: &[usize], layout: OptimizerLayout) -> Option<Vec<usize>> {
        match (self.extent, weight) {
            (Extent::Whole, _) => Some(weight.to_vec()),
            (Extent::Rows, [rest @ .., _, _]) => {
                let rows = weight.get(rest.len()).copied();
                Some(rest.iter().copied().chain(rows).collect())
            }
            (Extent::Columns, [rest @ .., _, last]) => Some(rest.iter().copied().chain([*last]).collect()),
            _ => (layout == OptimizerLayout::Keras3).then(Vec::new),
        }
    }

    /// What a layout calls it.
    pub(crate) fn name(&self, layout: OptimizerLayout) -> &'static str {
        match layout {
            OptimizerLayout::Keras3 => self.keras3,
            OptimizerLayout::Keras2 => self.keras2,
            OptimizerLayout::Legacy => self.legacy,
        }
    }
}

const fn slot(keras3: &'static str, keras2: &'static str, legacy: &'static str) -> Accumulator {
    Accumulator { keras3, keras2, legacy, extent: Extent::Whole }
}

const fn group(accumulators: &'static [Accumulator]) -> Group {
    Group { accumulators, needs: None, always_in_keras2: false }
}

const fn group_for(option: &'static str, accumulators: &'static [Accumulator]) -> Group {
    Group { needs: Some(option), ..group(accumulators) }
}

const AVERAGE: Group = group_for("use_ema", &[slot("average", "average", "average")]);
/// What Keras 3 gathers where it applies gradients of several steps at once.
const GRADIENTS: Group = group_for(
    "gradient_accumulation_steps",
    &[slot("gradient_accumulator", "gradient_accumulator", "gradient_accumulator")],
);
const MOMENTUM: Accumulator = slot("momentum", "m", "m");
const VELOCITY: Accumulator = slot("velocity", "v", "v");
const ADAM: &[Group] =
    &[group(&[MOMENTUM, VELOCITY]), group_for("amsgrad", &[slot("velocity_hat", "vhat", "vhat")])];
const BETAS: [(&str, Start); 3] =
    [("beta_1", Number(0.9)), ("beta_2", Number(0.999)), ("epsilon", Number(1e-7))];
const ADAM_OPTIONS: &[(&str, Start)] = &[BETAS[0], BETAS[1], BETAS[2], ("amsgrad", Flag(false))];

const fn class(
    name: &'static str,
    snake: &'static str,
    options: &'static [(&'static str, Start)],
    groups: &'static [Group],
) -> Class {
    Class {
        name,
        snake,
        learning_rate: 0.001,
        weight_decay: None,
        options,
        groups: Some(groups),
        in_keras2: true,
    }
}

/// A class of Keras 3 alone.
const fn young(name: &'static str, snake: &'static str, options: &'static [(&'static str, Start)]) -> Class {
    Class { groups: None, in_keras2: false, ..class(name, snake, options, &[]) }
}

const CLASSES: &[Class] = &[
    class("Adam", "adam", ADAM_OPTIONS, ADAM),
    Class { weight_decay: Some(0.004), ..class("AdamW", "adamw", ADAM_OPTIONS, ADAM) },
    Class {
        learning_rate: 0.01,
        ..class(
            "SGD",
            "SGD",
            &[("momentum", Number(0.0)), ("nesterov", Flag(false))],
            &[Group {
                always_in_keras2: true,
                ..group_for("momentum", &[slot("momentum", "m", "momentum")])
            }],
        )
    },
    class(
        "RMSprop",
        "rmsprop",
        &[
            ("rho", Number(0.9)),
            ("momentum", Number(0.0)),
            ("epsilon", Number(1e-7)),
            ("centered", Flag(false)),
        ],
        &[
            group(&[slot("velocity", "velocity", "rms")]),
            group_for("momentum", &[slot("momentum", "momentum", "momentum")]),
            group_for("centered", &[slot("average_gradient", "average_gradient", "mg")]),
        ],
    ),
    class("Adamax", "adamax", &BETAS, &[group(&[MOMENTUM, slot("norm", "u", "v")])]),
    class("Nadam", "nadam", &BETAS, &[group(&[MOMENTUM, VELOCITY])]),
    class(
        "Adagrad",
        "adagrad",
        &[("initial_accumulator_value", Number(0.1)), ("epsilon", Number(1e-7))],
        &[group(&[slot("accumulator", "accumulator", "accumulator")])],
    ),
    class(
        "Adadelta",
        "adadelta",
        &[("rho", Number(0.95)), ("epsilon", Number(1e-7))],
        &[group(&[
            slot("accumulated_grad", "accumulated_grad", "accum_grad"),
            slot("accumulated_delta_var", "accumulated_delta_var", "accum_var"),
        ])],
    ),
    class(
        "Ftrl",
        "ftrl",
        &[
            ("learning_rate_power", Number(-0.5)),
            ("initial_accumulator_value", Number(0.1)),
            ("l1_regularization_strength", Number(0.0)),
            ("l2_regularization_strength", Number(0.0)),
            ("l2_shrinkage_regularization_strength", Number(0.0)),
            ("beta", Number(0.0)),
        ],
        &[group(&[slot("accumulator", "accumulator", "accumulator"), slot("linear", "linear", "linear")])],
    ),
    Class {
        learning_rate: 1e-4,
        ..class("Lion", "lion", &[("beta_1", Number(0.9)), ("beta_2", Number(0.99))], &[group(&[MOMENTUM])])
    },
    class(
        "Adafactor",
        "adafactor",
        &[
            ("beta_2_decay", Number(-0.8)),
            ("epsilon_1", Number(1e-30)),
            ("epsilon_2", Number(1e-3)),
            ("clip_threshold", Number(1.0)),
            ("relative_step", Flag(true)),
        ],
        &[group(&[
            Accumulator { extent: Extent::Rows, ..slot("r", "r", "r") },
            Accumulator { extent: Extent::Columns, ..slot("c", "c", "c") },
            slot("velocity", "v", "v"),
        ])],
    ),
    young("Lamb", "lamb", &BETAS),
    young(
        "Muon",
        "muon",
        &[
            ("adam_beta_1", Number(0.9)),
            ("adam_beta_2", Number(0.999)),
            ("epsilon", Number(1e-7)),
            ("adam_weight_decay", Number(0.004)),
            ("exclude_layers", Null),
            ("exclude_embeddings", Flag(true)),
            ("muon_a", Number(3.4445)),
            ("muon_b", Number(-4.7750)),
            ("muon_c", Number(2.0315)),
            ("adam_lr_ratio", Number(0.1)),
            ("momentum", Number(0.95)),
            ("ns_steps", Number(6.0)),
            ("nesterov", Flag(true)),
        ],
    ),
    young(
        "ScheduleFreeAdamW",
        "schedule_free_adamw",
        &[
            ("beta_1", Number(0.9)),
            ("beta_2", Number(0.999)),
            ("epsilon", Number(1e-8)),
            ("warmup_steps", Number(0.0)),
        ],
    ),
];

/// The class of this name, whatever its case.
pub(crate) fn find(name: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|c| c.name.eq_ignore_ascii_case(name))
}

/// The class of a name that is in the list; the list's first stands in for any other.
pub(super) fn known(name: &str) -> &'static Class {
    find(name).unwrap_or(&CLASSES[0])
}

impl Optimizer {
    /// What is accumulated for every weight, in groups: each group's accumulators stand weight by weight, one group
    /// after the other. `None` where the order isn't known.
    pub(crate) fn groups(&self, layout: OptimizerLayout) -> Option<Vec<Vec<Accumulator>>> {
        use OptimizerLayout::{Keras2, Keras3, Legacy};
        let common = [(&AVERAGE, layout != Legacy), (&GRADIENTS, layout == Keras3)];
        let common = common.into_iter().filter(|(_, there)| *there).map(|(group, _)| group);
        let groups = common.chain(self.class().groups?);
        let there = |g: &&Group| {
            g.needs.is_none_or(|option| self.has(option)) || (g.always_in_keras2 && layout == Keras2)
        };
        Some(
            groups
                .filter(there)
                .flat_map(|group| match layout {
                    // The old ones go slot by slot over all weights, but for Ftrl.
                    Legacy if self.class_name() != "Ftrl" => {
                        group.accumulators.iter().map(|a| vec![*a]).collect()
                    }
                    _ => vec![group.accumulators.to_vec()],
                })
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Dialect;

    use super::*;

    #[test]
    fn classes_are_found_by_any_spelling() {
        for (name, class) in [("adam", "Adam"), ("RMSprop", "RMSprop"), ("SGD", "SGD"), ("nadam", "Nadam")] {
            assert_eq!(find(name).map(|c| c.name), Some(class));
            assert_eq!(known(class).name, class);
        }
        assert!(find("Mine").is_none());
    }

    #[test]
    fn groups_follow_the_options() {
        let read = |node: Value| Optimizer::read(&node, Dialect::Keras2).expect("known").expect("reads");
        let names = |o: &Optimizer, layout| -> Vec<Vec<&str>> {
            let groups = o.groups(layout).expect("groups");
            groups.iter().map(|g| g.iter().map(|a| a.name(layout)).collect()).collect()
        };
        let adam = read(json!({"class_name": "Adam", "config": {"amsgrad": true, "use_ema": true}}));
        assert_eq!(
            names(&adam, OptimizerLayout::Keras3),
            [vec!["average"], vec!["momentum", "velocity"], vec!["velocity_hat"]]
        );
        assert_eq!(names(&adam, OptimizerLayout::Legacy), [["m"], ["v"], ["vhat"]]);
        let ftrl = read(json!("ftrl"));
        assert_eq!(names(&ftrl, OptimizerLayout::Legacy), [["accumulator", "linear"]]);
        let sgd = read(json!("sgd"));
        assert!(names(&sgd, OptimizerLayout::Keras3).is_empty());
        assert_eq!(names(&sgd, OptimizerLayout::Keras2), [["m"]]);
        assert!(read(json!("lamb")).groups(OptimizerLayout::Keras3).is_none());
    }

    #[test]
    fn factored_accumulators_have_their_own_shapes() {
        let adafactor = Optimizer::read(&json!("adafactor"), Dialect::Keras3).expect("known").expect("reads");
        let groups = adafactor.groups(OptimizerLayout::Keras3).expect("groups");
        let shapes = |weight: &[usize], layout| -> Vec<Option<Vec<usize>>> {
            groups[0].iter().map(|a| a.shape(weight, layout)).collect()
        };
        let whole = vec![2, 3, 4];
        assert_eq!(
            shapes(&whole, OptimizerLayout::Keras2),
            [Some(vec![2, 3]), Some(vec![2, 4]), Some(whole.clone())]
        );
        assert_eq!(shapes(&[4], OptimizerLayout::Keras3), [Some(vec![]), Some(vec![]), Some(vec![4])]);
        assert_eq!(shapes(&[4], OptimizerLayout::Keras2), [None, None, Some(vec![4])]);
    }
}
