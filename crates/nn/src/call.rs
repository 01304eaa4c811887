//! A layer's call while it is traced.

use std::collections::{HashMap, HashSet};

use modelark_artifact::graph::{self, Builder, OpCall, Sym};
use modelark_artifact::tensor::{Bool, Complex32, Complex64, DType, Tensor, bf16, f16};
use modelark_artifact::{Error, Kind, ObjectId, Objects, Result};

use crate::{Argument, Inputs, Spec};

/// What a layer calls while its computation is traced: TensorFlow's ops, its weights, its sublayers.
#[derive(Debug)]
pub struct Call<'a> {
    pub(crate) builder: &'a mut Builder,
    pub(crate) objects: &'a Objects,
    /// The variables' handles, or their values where they were read before, as in a loop.
    pub(crate) variables: &'a HashMap<ObjectId, Sym>,
    pub(crate) specs: HashMap<Sym, Spec>,
    pub(crate) masks: HashMap<Sym, Sym>,
    /// The masks that tell where each row ends, of tensors that TensorFlow would have as ragged ones.
    pub(crate) row_ends: HashSet<Sym>,
    pub(crate) frame: Frame,
}

/// A slice of one axis as Python says it: begin, end, stride; `None` leaves that side open.
pub type Slice = (Option<i64>, Option<i64>, i64);

/// What belongs to the layer that is being called.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The layer's object, which holds its variables.
    pub object: ObjectId,
    /// Its inputs, cast.
    pub inputs: Inputs,
    /// Its positional arguments, not cast.
    pub positional: Vec<Argument<Sym>>,
    /// Its keyword arguments; tensors among them as indexes of all tensors given.
    pub keywords: Vec<(String, Argument<Sym>)>,
    /// Its outputs, once it was called.
    pub outputs: Vec<Sym>,
}

impl Frame {
    /// No layer's yet: the object from which calls of layers begin.
    pub fn new(object: ObjectId) -> Self {
        let inputs = Inputs::new(Vec::new(), DType::F32);
        Frame { object, inputs, positional: Vec::new(), keywords: Vec::new(), outputs: Vec::new() }
    }
}

impl<'a> Call<'a> {
    /// Begins a call of a TensorFlow op.
    pub fn op(&mut self, op: &str) -> OpCall<'_> {
        self.builder.op(op)
    }

    /// Calls an op with these inputs and one output, without attributes of its own.
    ///
    /// # Errors
    /// When the inputs don't fit the op.
    pub fn apply(&mut self, op: &str, inputs: &[Sym]) -> Result<Sym> {
        Ok(self.builder.op(op).inputs(inputs).one()?)
    }

    /// Reads one of the layer's weights, cast to the dtype in which the layer computes.
    ///
    /// # Errors
    /// When the layer has no weight of this name.
    pub fn weight(&mut self, name: &str) -> Result<Sym> {
        let value = self.raw_weight(name)?;
        let compute = self.frame.inputs.compute_dtype();
        if self.dtype(value).is_float() { self.cast(value, compute) } else { Ok(value) }
    }

    /// Reads a weight of a layer that this one holds under `attribute`, cast likewise.
    ///
    /// # Errors
    /// When there is no such layer or weight.
    pub fn weight_of(&mut self, attribute: &str, name: &str) -> Result<Sym> {
        let held = attribute
            .split('/')
            .try_fold(self.frame.object, |id, name| self.objects.get(id)?.child(name))
            .ok_or_else(|| Error::missing(format!("the layer holds no layer {attribute:?}")))?;
        let own = std::mem::replace(&mut self.frame.object, held);
        let weight = self.weight(name);
        self.frame.object = own;
        weight
    }

    /// Reads one of the layer's weights as it is.
    ///
    /// # Errors
    /// When the layer has no weight of this name.
    pub fn raw_weight(&mut self, name: &str) -> Result<Sym> {
        let missing = || Error::missing(format!("the layer has no weight {name:?}"));
        let id = self.objects.get(self.frame.object).and_then(|o| o.child(name)).ok_or_else(missing)?;
        self.read_variable(id)
    }

    /// Reads what the layer kept from the call before ([`Layer::kept`](crate::Layer::kept)), cast as its weights are.
    ///
    /// # Errors
    /// When it keeps nothing of this index, since the batch's size isn't known.
    pub fn kept(&mut self, index: usize) -> Result<Sym> {
        let id = self.state(index)?;
        let value = self.read_variable(id)?;
        let compute = self.frame.inputs.compute_dtype();
        if self.dtype(value).is_float() { self.cast(value, compute) } else { Ok(value) }
    }

    /// Keeps a value for the next call.
    ///
    /// # Errors
    /// As [`Call::kept`], and within a loop, where variables have values alone.
    pub fn keep(&mut self, index: usize, value: Sym) -> Result<()> {
        let id = self.state(index)?;
        let variable = self.objects.variable(id).zip(self.variables.get(&id).copied());
        let (variable, handle) = variable.ok_or_else(|| Error::missing("a variable that isn't there"))?;
        if self.dtype(handle) != DType::Resource {
            return Err(Error::unsupported("a layer that another one runs in a loop can't be stateful"));
        }
        let value = self.cast(value, variable.dtype)?;
        Ok(self.builder.op("AssignVariableOp").inputs(&[handle, value]).run()?)
    }

    fn state(&self, index: usize) -> Result<ObjectId> {
        self.objects.state(self.frame.object, index).ok_or_else(|| {
            Error::mismatch("a stateful layer keeps states of a batch whose size isn't known")
                .help("give the model's input a shape with its batch, or make the layer not stateful")
        })
    }

    fn read_variable(&mut self, id: ObjectId) -> Result<Sym> {
        let variable = self.objects.variable(id).zip(self.variables.get(&id));
        let (variable, &held) = variable.ok_or_else(|| Error::missing("a variable that isn't there"))?;
        if self.dtype(held) != DType::Resource {
            return Ok(held);
        }
        let read = self.builder.op("ReadVariableOp").input(held).attr("dtype", variable.dtype);
        Ok(read.name(&format!("{}/Read", variable.name)).one()?)
    }

    /// A loop (`tf.while_loop`): while `condition` of the state holds, `body` makes the next state. Both also get
    /// `captures`; the body has the layer's weights and sublayers besides.
    ///
    /// # Errors
    /// What `body` returns, or when its state has other dtypes than it got.
    pub fn while_loop(
        &mut self,
        state: &[Sym],
        captures: &[Sym],
        condition: impl FnOnce(&mut Builder, &[Sym], &[Sym]) -> graph::Result<Sym>,
        body: impl FnOnce(&mut Call<'_>, &[Sym], &[Sym]) -> Result<Vec<Sym>>,
    ) -> Result<Vec<Sym>> {
        let objects = self.objects;
        let held = variables_below(objects, self.frame.object);
        let mut all = captures.to_vec();
        for &id in &held {
            all.push(self.read_variable(id)?);
        }
        let (own, frame) = (captures.len(), self.frame.clone());
        let mut failure = None;
        let done = self.builder.while_loop("while", state, &all, condition, |builder, state, all| {
            let (captures, values) = all.split_at(own);
            let variables = held.iter().copied().zip(values.iter().copied()).collect();
            let (specs, masks, row_ends) = Default::default();
            let mut call = Call { builder, objects, variables: &variables, specs, masks, row_ends, frame };
            body(&mut call, state, captures).map_err(|error| {
                let shown = graph::Error::graph(error.to_string());
                failure = Some(error);
                shown
            })
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(done?),
        }
    }

    /// The dtype of a tensor.
    pub fn dtype(&self, x: Sym) -> DType {
        self.builder.dtype(x)
    }

    /// What is known of a tensor: of inputs and of what layers gave; of other tensors only the dtype.
    pub fn spec(&self, x: Sym) -> Spec {
        self.specs.get(&x).cloned().unwrap_or_else(|| Spec::unknown(self.dtype(x)))
    }

    /// Says what is known of a tensor, for the sublayers that take it.
    pub fn describe(&mut self, x: Sym, spec: Spec) {
        self.specs.insert(x, spec);
    }

    /// What the layer was given.
    pub fn inputs(&self) -> &Inputs {
        &self.frame.inputs
    }

    /// What the layer's call gave, for [`Layer::masks`](crate::Layer::masks).
    pub fn outputs(&self) -> &[Sym] {
        &self.frame.outputs
    }

    /// The mask of a tensor: `false` where a time step is to be skipped.
    pub fn mask(&self, x: Sym) -> Option<Sym> {
        self.masks.get(&x).copied()
    }

    /// Where the rows of a tensor end that are as long as each is (TensorFlow: a ragged tensor): they are padded, and this is
    /// their mask.
    pub fn row_ends(&self, x: Sym) -> Option<Sym> {
        self.mask(x).filter(|mask| self.row_ends.contains(mask))
    }

    /// Says where each row of a tensor ends; the mask follows it through layers as any other.
    pub fn set_row_ends(&mut self, x: Sym, mask: Sym) {
        self.masks.insert(x, mask);
        self.row_ends.insert(mask);
    }

    /// A tensor whose rows end in `filler`, if it is padded.
    ///
    /// # Errors
    /// When its rank isn't known.
    pub fn filled(&mut self, x: Sym, filler: f64) -> Result<Sym> {
        let Some(mut mask) = self.row_ends(x) else { return Ok(x) };
        let last = self.int(-1)?;
        for _ in 2..self.spec(x).rank()? {
            mask = self.apply("ExpandDims", &[mask, last])?;
        }
        let filler = self.scalar(filler, x)?;
        self.apply("SelectV2", &[mask, x, filler])
    }

    /// Gives a tensor a mask.
    pub fn set_mask(&mut self, x: Sym, mask: Option<Sym>) {
        match mask {
            Some(mask) => drop(self.masks.insert(x, mask)),
            None => drop(self.masks.remove(&x)),
        }
    }

    /// The positional arguments of the call, with those that aren't tensors.
    pub fn positional(&self) -> &[Argument<Sym>] {
        &self.frame.positional
    }

    /// A keyword argument of the call.
    pub fn keyword(&self, name: &str) -> Option<&Argument<Sym>> {
        self.frame.keywords.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The tensor given as a keyword argument.
    pub fn keyword_tensor(&self, name: &str) -> Option<Sym> {
        match self.keyword(name)? {
            Argument::Tensor(x) => Some(*x),
            _ => None,
        }
    }

    /// The tensor in another dtype; itself if it has it already.
    ///
    /// # Errors
    /// When it can't be cast.
    pub fn cast(&mut self, x: Sym, dtype: DType) -> Result<Sym> {
        if self.dtype(x) == dtype {
            return Ok(x);
        }
        let y = self.builder.op("Cast").input(x).attr("DstT", dtype).one()?;
        if let Some(spec) = self.specs.get(&x) {
            self.specs.insert(y, Spec { dtype, ..spec.clone() });
        }
        if let Some(mask) = self.mask(x) {
            self.masks.insert(y, mask);
        }
        Ok(y)
    }

    /// A constant.
    ///
    /// # Errors
    /// Never for a tensor that exists.
    pub fn constant(&mut self, value: Tensor) -> Result<Sym> {
        Ok(self.builder.constant(value)?)
    }

    /// A number as a scalar of the dtype of `like`.
    ///
    /// # Errors
    /// When that dtype isn't a number's.
    pub fn scalar(&mut self, value: f64, like: Sym) -> Result<Sym> {
        let dtype = self.dtype(like);
        let tensor = match dtype {
            DType::F32 => Tensor::scalar(value as f32),
            DType::F64 => Tensor::scalar(value),
            DType::F16 => Tensor::scalar(f16::from_f64(value)),
            DType::BF16 => Tensor::scalar(bf16::from_f64(value)),
            DType::I8 => Tensor::scalar(value as i8),
            DType::I16 => Tensor::scalar(value as i16),
            DType::I32 => Tensor::scalar(value as i32),
            DType::I64 => Tensor::scalar(value as i64),
            DType::U8 => Tensor::scalar(value as u8),
            DType::U16 => Tensor::scalar(value as u16),
            DType::U32 => Tensor::scalar(value as u32),
            DType::U64 => Tensor::scalar(value as u64),
            DType::C64 => Tensor::scalar(Complex32::new(value as f32, 0.0)),
            DType::C128 => Tensor::scalar(Complex64::new(value, 0.0)),
            DType::Bool => Tensor::scalar(Bool::from(value != 0.0)),
            other => return Err(Error::unsupported(format!("there is no number of dtype {other}"))),
        };
        self.constant(tensor)
    }

    /// A vector of `int32`, as TensorFlow takes axes, shapes and permutations.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn ints(&mut self, values: &[i64]) -> Result<Sym> {
        let values = values
            .iter()
            .map(|&v| i32::try_from(v).map_err(|_| Error::limit(format!("{v} is over the range of int32"))))
            .collect::<Result<Vec<_>>>()?;
        let count = values.len();
        self.constant(Tensor::from_vec(values, [count])?)
    }

    /// An `int32` scalar.
    ///
    /// # Errors
    /// When it is out of range.
    pub fn int(&mut self, value: i64) -> Result<Sym> {
        let value =
            i32::try_from(value).map_err(|_| Error::limit(format!("{value} is over the range of int32")))?;
        self.constant(Tensor::scalar(value))
    }

    /// The tensor in another shape, in which one extent may be -1: whatever is left.
    ///
    /// # Errors
    /// When an extent is out of range.
    pub fn reshape(&mut self, x: Sym, shape: &[i64]) -> Result<Sym> {
        let shape = self.ints(shape)?;
        self.apply("Reshape", &[x, shape])
    }

    /// The tensor with its axes in another order.
    ///
    /// # Errors
    /// When an axis is out of range.
    pub fn transpose(&mut self, x: Sym, order: &[usize]) -> Result<Sym> {
        if order.iter().enumerate().all(|(i, &a)| i == a) {
            return Ok(x);
        }
        let order: Vec<i64> = order.iter().map(|&a| a as i64).collect();
        let order = self.ints(&order)?;
        self.apply("Transpose", &[x, order])
    }

    /// Tensors one after the other along an axis; one alone as it is.
    ///
    /// # Errors
    /// When there are none, or their dtypes differ.
    pub fn concat(&mut self, tensors: &[Sym], axis: i64) -> Result<Sym> {
        if let [one] = tensors {
            return Ok(*one);
        }
        let axis = self.int(axis)?;
        Ok(self.builder.op("ConcatV2").inputs(tensors).input(axis).one()?)
    }

    /// A reduction (`Mean`, `Max`, `Sum`) along these axes.
    ///
    /// # Errors
    /// When there is no such op.
    pub fn reduce(&mut self, op: &str, x: Sym, axes: &[i64], keep_dims: bool) -> Result<Sym> {
        let axes = self.ints(axes)?;
        Ok(self.builder.op(op).input(x).input(axes).attr("keep_dims", keep_dims).one()?)
    }

    /// A part of a tensor, by a slice for each of the first axes.
    ///
    /// # Errors
    /// When a bound is out of range.
    pub fn slice(&mut self, x: Sym, slices: &[Slice]) -> Result<Sym> {
        let mask = |open: fn(&Slice) -> bool| {
            slices.iter().enumerate().fold(0i64, |m, (i, s)| if open(s) { m | 1 << i } else { m })
        };
        let (begin_mask, end_mask) = (mask(|s| s.0.is_none()), mask(|s| s.1.is_none()));
        let begin = self.ints(&slices.iter().map(|s| s.0.unwrap_or(0)).collect::<Vec<_>>())?;
        let end = self.ints(&slices.iter().map(|s| s.1.unwrap_or(0)).collect::<Vec<_>>())?;
        let strides = self.ints(&slices.iter().map(|s| s.2).collect::<Vec<_>>())?;
        let slice = self.builder.op("StridedSlice").inputs(&[x, begin, end, strides]);
        Ok(slice.attr("begin_mask", begin_mask).attr("end_mask", end_mask).one()?)
    }

    /// The extent of an axis, as an `int32` scalar: a constant where it is known, computed where it isn't.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn extent(&mut self, x: Sym, axis: usize) -> Result<Sym> {
        if let Some(Some(Some(known))) = self.spec(x).shape.dims().map(|d| d.get(axis).copied()) {
            return self.int(known as i64);
        }
        let shape = self.apply("Shape", &[x])?;
        let (begin, end, stride) =
            (self.ints(&[axis as i64])?, self.ints(&[axis as i64 + 1])?, self.ints(&[1])?);
        let slice = self.builder.op("StridedSlice").inputs(&[shape, begin, end, stride]);
        Ok(slice.attr("shrink_axis_mask", 1i64).one()?)
    }

    /// A shape as an `int32` vector, from scalars such as [`Call::extent`] gives.
    ///
    /// # Errors
    /// When they aren't all `int32`.
    pub fn shape(&mut self, extents: &[Sym]) -> Result<Sym> {
        Ok(self.builder.op("Pack").inputs(extents).attr("axis", 0i64).one()?)
    }
}

/// The variables of an object and of what hangs below it.
pub(crate) fn variables_below(objects: &Objects, object: ObjectId) -> Vec<ObjectId> {
    let (mut seen, mut found, mut stack) = (HashSet::new(), Vec::new(), vec![object]);
    while let Some(id) = stack.pop() {
        let Some(o) = objects.get(id).filter(|_| seen.insert(id)) else { continue };
        if matches!(o.kind, Kind::Variable(_)) {
            found.push(id);
        }
        stack.extend(o.children.iter().rev().map(|(_, child)| *child));
    }
    found
}
