//! Boundaries of ranges that layers of Keras 2 learned from data: files have a summary of the data among the weights, from
//! which Keras finds the boundaries each time. They go into the layers' configs, where Keras takes them too.

use modelark_artifact::tensor::Tensor;
use modelark_artifact::{Dialect, Error, Objects, Result, Variable};
use serde_json::{Map, Value, json};

use crate::vocabulary::each_layer;

/// The variable of the summary: values in order, and how many each stands for.
const SUMMARY: &str = "summary";
const BOUNDARIES: &str = "bin_boundaries";
const COUNT: &str = "num_bins";
/// More ranges than any layer has.
const MOST: usize = 1 << 24;

/// Moves what an archive's layers learned into their configs.
///
/// # Errors
/// When a summary isn't one.
pub(crate) fn read(config: &mut Value, objects: &mut Objects, dialect: Dialect) -> Result<()> {
    each_layer(config, dialect, &mut |path, layer| {
        let Some(count) = waiting(layer) else { return Ok(()) };
        let vars = objects.find(&format!("{path}/vars"));
        let Some(vars) = vars.and_then(|id| objects.get_mut(id)) else { return Ok(()) };
        let [(_, summary)] = vars.children[..] else { return Ok(()) };
        vars.children.clear();
        let Some(variable) = objects.variable(summary) else { return Ok(()) };
        let summary = variable.load().map_err(|e| e.at(path.to_owned()))?;
        fill(layer, count, &summary, !path.starts_with("layers/")).map_err(|e| e.at(path.to_owned()))
    })
}

/// Moves what the layers of an `.h5` file learned into their configs; `layers` lists the paths of each one's weights.
///
/// # Errors
/// When a summary isn't one.
pub(crate) fn read_listed(
    config: &mut Value,
    layers: &mut [(String, Vec<String>)],
    objects: &Objects,
) -> Result<()> {
    let nodes = config.pointer_mut("/config/layers").and_then(Value::as_array_mut);
    for node in nodes.into_iter().flatten() {
        let name = node.pointer("/config/name").or(node.get("name")).and_then(Value::as_str);
        let Some((_, paths)) = layers.iter_mut().find(|(layer, _)| Some(layer.as_str()) == name) else {
            continue;
        };
        // A model's layers stand in the order of their weights, mostly without names of their own.
        let mut take = |_: &str, layer: &mut Map<String, Value>| {
            let Some(count) = waiting(layer) else { return Ok(()) };
            let last = |path: &String| {
                path.rsplit('/').next().and_then(|name| name.split(':').next()) == Some(SUMMARY)
            };
            let Some(path) = paths.iter().position(last).map(|at| paths.remove(at)) else { return Ok(()) };
            let variable = objects.find(&path).and_then(|id| objects.variable(id));
            let variable =
                variable.ok_or_else(|| Error::missing("there is no such weight").at(path.clone()))?;
            let summary = variable.load().map_err(|e| e.at(path.clone()))?;
            fill(layer, count, &summary, false).map_err(|e| e.at(path))
        };
        if node.pointer("/config/layers").is_some() {
            each_layer(node, Dialect::Keras2, &mut take)?;
        } else if let Some(layer) = node.get_mut("config").and_then(Value::as_object_mut) {
            take("", layer)?;
        }
    }
    Ok(())
}

/// Puts the boundaries of ranges that a layer learned (Keras 2: `Discretization`) into its config, which lacks them, from
/// the layer's weight `summary`. Any other layer's config stays as it is.
///
/// # Errors
/// When the summary can't be read or isn't one.
pub fn learned_ranges(config: &mut Map<String, Value>, summary: &Variable) -> Result<()> {
    let Some(count) = waiting(config) else { return Ok(()) };
    fill(config, count, &summary.load()?, false)
}

/// How many ranges a layer is to have that learns their boundaries.
fn waiting(layer: &Map<String, Value>) -> Option<usize> {
    let count = layer.get(COUNT)?.as_u64().and_then(|n| usize::try_from(n).ok())?;
    (layer.get(BOUNDARIES)?.is_null() && (1..=MOST).contains(&count)).then_some(count)
}

/// Puts boundaries into a config. Keras takes the number of ranges instead of boundaries, not beside them.
fn fill(layer: &mut Map<String, Value>, count: usize, summary: &Tensor, keeps_count: bool) -> Result<()> {
    let &[2, values] = summary.shape() else {
        return Err(Error::mismatch("a summary of data has values and their weights"));
    };
    if values == 0 {
        return Ok(());
    }
    layer.insert(BOUNDARIES.to_owned(), json!(boundaries(&summary.elements::<f32>()?, count)));
    if !keeps_count {
        layer.insert(COUNT.to_owned(), Value::Null);
    }
    Ok(())
}

/// The boundaries of so many ranges with like shares of the data (Keras: `get_bin_boundaries`).
fn boundaries(summary: &[f32], count: usize) -> Vec<f32> {
    let (values, weights) = summary.split_at(summary.len() / 2);
    let share = 1.0 / count as f64;
    let mut found: Vec<f32> = if (values.len() as f64) * share < 1.0 {
        values.to_vec()
    } else {
        let mut sum = 0.0f32;
        let sums: Vec<f32> = weights
            .iter()
            .map(|w| {
                sum += w;
                sum
            })
            .collect();
        let shares: Vec<f64> = sums.iter().map(|s| f64::from(s / sum)).collect();
        let steps = (1.0 / share).ceil() as usize;
        (0..steps).map(|i| interpolated(share + i as f64 * share, &shares, values) as f32).collect()
    };
    // Whatever is beyond the last one but this is in the last range.
    found.pop();
    found
}

/// The value at `x` of the line through points, whose first coordinates don't fall (NumPy: `interp`).
fn interpolated(x: f64, xs: &[f64], ys: &[f32]) -> f64 {
    let after = xs.partition_point(|&at| at <= x);
    let y = |i: usize| ys.get(i).copied().map(f64::from);
    let (Some(before), Some(&next)) = (after.checked_sub(1), xs.get(after)) else {
        return y(after.min(ys.len().saturating_sub(1))).unwrap_or_default();
    };
    let (Some(&last), Some(from), Some(to)) = (xs.get(before), y(before), y(after)) else {
        return 0.0;
    };
    (to - from) / (next - last) * (x - last) + from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_those_of_keras() {
        // What Keras 2.15 finds from the values 1, 5, 2, 4, each once.
        let summary = [1.0, 2.0, 4.0, 5.0, 1.0, 1.0, 1.0, 1.0];
        assert_eq!(boundaries(&summary, 3), [1.333_333_4, 3.333_333_3]);
        assert_eq!(boundaries(&summary, 5), [1.0, 2.0, 4.0]);
        let weighted = [0.0, 1.0, 2.0, 8.0, 1.0, 3.0];
        assert_eq!(boundaries(&weighted, 2), [0.0]);
    }

    #[test]
    fn a_layer_that_learned_nothing_stays_so() {
        let mut layer = Map::from_iter([(COUNT.to_owned(), json!(3)), (BOUNDARIES.to_owned(), Value::Null)]);
        let nothing = Tensor::from_vec(Vec::<f32>::new(), [2, 0]).unwrap();
        fill(&mut layer, 3, &nothing, false).unwrap();
        assert_eq!(waiting(&layer), Some(3));
        assert!(fill(&mut layer, 3, &Tensor::from_vec(vec![1.0f32], [1]).unwrap(), false).is_err());
    }
}
