//! Putting the values of a file into the variables of a model.

use modelark_artifact::tensor::{DType, kernels};
use modelark_artifact::{Error, ObjectId, Objects, Result, Variable};

/// A value of the file for a weight of the model.
pub(crate) struct Pair<'a> {
    pub weight: ObjectId,
    /// What the weight belongs to: `layer "dense"`.
    pub owner: String,
    pub value: &'a Variable,
    /// Where the value lies.
    pub path: String,
}

/// Whether a value fits a weight: the shapes are equal.
pub(crate) fn fits(objects: &Objects, pair: &Pair<'_>) -> bool {
    objects.variable(pair.weight).is_some_and(|w| w.shape == pair.value.shape)
}

/// Gives every weight its value, or none of them when one doesn't fit.
///
/// A value of another dtype is converted when it is read, as Keras does when it assigns one.
pub(crate) fn assign(objects: &mut Objects, pairs: Vec<Pair<'_>>) -> Result<()> {
    for pair in &pairs {
        let Some(weight) = objects.variable(pair.weight) else { continue };
        let place = || format!("{}, weight {:?}", pair.owner, weight.name);
        if weight.shape != pair.value.shape {
            return Err(Error::mismatch(format!(
                "it has the shape {:?}, but HDF5 path {:?} holds {:?}",
                weight.shape, pair.path, pair.value.shape
            ))
            .at(place())
            .help("the file was saved from another architecture; build the model as it was then"));
        }
        if weight.dtype != pair.value.dtype && !(converts(weight.dtype) && converts(pair.value.dtype)) {
            return Err(Error::mismatch(format!(
                "it is {}, but HDF5 path {:?} holds {}",
                weight.dtype, pair.path, pair.value.dtype
            ))
            .at(place()));
        }
    }
    for pair in pairs {
        let Some(weight) = objects.variable_mut(pair.weight) else { continue };
        if weight.dtype == pair.value.dtype {
            weight.value = pair.value.value.clone();
            continue;
        }
        let (dtype, value) = (weight.dtype, pair.value.clone());
        let converted = Variable::lazy(weight.name.clone(), dtype, weight.shape.clone(), move || {
            Ok(kernels::array::cast(&value.load()?, dtype)?)
        });
        weight.value = converted.value;
    }
    Ok(())
}

fn converts(dtype: DType) -> bool {
    dtype.is_float() || dtype.is_integer() || dtype == DType::Bool
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Kind;
    use modelark_artifact::tensor::Tensor;

    use super::*;

    #[test]
    fn values_are_converted_and_shapes_checked() {
        let mut objects = Objects::default();
        let weight = Variable { value: Default::default(), ..Variable::new("kernel", Tensor::scalar(0f32)) };
        let id = objects.add(Objects::ROOT, "kernel", Kind::Variable(weight));
        let pair = |value| Pair {
            weight: id,
            owner: "layer \"d\"".to_owned(),
            value,
            path: "d/kernel:0".to_owned(),
        };
        let wide = Variable::new("x", Tensor::scalar(2.5f64));
        assign(&mut objects, vec![pair(&wide)]).expect("fits");
        let value = objects.variable(id).expect("weight").load().expect("loads");
        assert_eq!(value.item::<f32>().expect("f32"), 2.5);
        let long = Variable::new("x", Tensor::from_vec(vec![1f32, 2.0], [2]).expect("two"));
        let error = assign(&mut objects, vec![pair(&long)]).expect_err("shape").to_string();
        assert!(
            error.contains("layer \"d\"") && error.contains("d/kernel:0") && error.contains("[2]"),
            "{error}"
        );
    }
}
