//! Values while a module is lowered, and nodes made of them.

use modelark_tensor::kernels::array;
use modelark_tensor::{DType, Shape, Tensor};

use crate::engine::plan::fold;
use crate::{Attr, Attrs, Builder, Error, Result, Sym, ops};

/// What a node gives, or what is known before anything runs.
#[derive(Clone)]
pub(super) enum Raw {
    Sym(Sym),
    Known(Tensor),
}

/// A tensor of the module. Its shape is always known: modules are lowered for the shapes that a call gives.
#[derive(Clone)]
pub(super) struct Val {
    pub(super) dtype: DType,
    pub(super) shape: Shape,
    /// The shape of what is held: of the same rank, and one where the value repeats along a dimension. So a bias that is
    /// broadcast before it is added stays a row, as TensorFlow's own graphs have it.
    thin: Shape,
    raw: Raw,
}

/// Results of no more elements are computed while lowering.
const MOST_KNOWN: usize = 1 << 12;
/// Nodes of one call of a module: a module whose functions call each other over and over would make more without end.
const MOST_NODES: usize = 1 << 17;

impl Val {
    pub(super) fn known(tensor: Tensor) -> Val {
        let shape = Shape::from(tensor.shape());
        Val { dtype: tensor.dtype(), thin: shape.clone(), shape, raw: Raw::Known(tensor) }
    }

    pub(super) fn new(raw: Raw, dtype: DType, shape: &[usize]) -> Val {
        Val { dtype, shape: shape.into(), thin: shape.into(), raw }
    }

    pub(super) fn sym(sym: Sym, dtype: DType, shape: &[usize]) -> Val {
        Val::new(Raw::Sym(sym), dtype, shape)
    }

    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(super) fn len(&self) -> Result<usize> {
        Ok(modelark_tensor::checked_elements(&self.shape)?)
    }

    /// Whether what it holds is known.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.raw, Raw::Known(_))
    }

    /// The tensor, if it is known and small.
    pub(super) fn tensor(&self) -> Option<Tensor> {
        let Raw::Known(t) = &self.raw else { return None };
        if self.thin == self.shape {
            return Some(t.clone());
        }
        if self.len().ok()? > MOST_KNOWN {
            return None;
        }
        array::broadcast_to(t, &self.shape).ok()
    }

    /// The integers, if they are known.
    pub(super) fn ints(&self) -> Option<Vec<i64>> {
        self.tensor()?.to_i64_vec().ok()
    }

    /// The only element, if all are the same and known.
    pub(super) fn splat(&self) -> Option<Tensor> {
        let Raw::Known(t) = &self.raw else { return None };
        if t.len() != 1 { None } else { t.clone().reshape([]).ok() }
    }

    /// Whether every element is this number.
    pub(super) fn is_all(&self, number: f64) -> bool {
        let wide = self.splat().and_then(|t| array::cast(&t, DType::F64).ok());
        wide.and_then(|t| t.item::<f64>().ok()) == Some(number)
    }

    /// The same value, repeated along new or single dimensions: `dims[i]` is where dimension `i` goes.
    pub(super) fn broadcast(&self, e: &mut Emit, shape: &[usize], dims: &[usize]) -> Result<Val> {
        let wrong =
            || Error::graph(format!("shape {:?} doesn't broadcast to {shape:?} along {dims:?}", self.shape));
        if dims.len() != self.rank() {
            return Err(wrong());
        }
        let mut thin: Shape = shape.iter().map(|_| 1).collect();
        for (i, &d) in dims.iter().enumerate() {
            let (n, to) = (self.shape[i], *shape.get(d).ok_or_else(wrong)?);
            if n != 1 && n != to {
                return Err(wrong());
            }
            thin[d] = if n == 1 { 1 } else { self.thin[i] };
        }
        modelark_tensor::checked_elements(shape)?;
        // In another order than before, what is held has to be moved as well.
        let held = Val { shape: self.thin.clone(), ..self.clone() };
        let held = if dims.is_sorted() {
            held
        } else {
            let mut order: Vec<usize> = (0..dims.len()).collect();
            order.sort_by_key(|&i| dims[i]);
            e.transpose(&held, &order)?
        };
        let held = e.reshape(&held, &thin)?;
        Ok(Val { dtype: self.dtype, shape: shape.into(), thin, raw: held.raw })
    }
}

/// Makes nodes of a function.
pub(super) struct Emit {
    pub(super) b: Builder,
    nodes: usize,
}

impl Emit {
    pub(super) fn new(name: &str) -> Emit {
        Emit { b: Builder::new(name), nodes: 0 }
    }

    fn raw_sym(&mut self, raw: &Raw) -> Result<Sym> {
        match raw {
            Raw::Sym(sym) => Ok(*sym),
            Raw::Known(t) => self.b.constant(t.clone()),
        }
    }

    /// The value as it is, repeated where it repeats.
    pub(super) fn full(&mut self, v: &Val) -> Result<Val> {
        if v.thin == v.shape {
            return Ok(v.clone());
        }
        if let Some(t) = v.tensor() {
            return Ok(Val::known(t));
        }
        let held = Val { shape: v.thin.clone(), ..v.clone() };
        let shape = ints(&v.shape)?;
        let [raw] = self.node("BroadcastTo", &[&held, &shape], &[])?;
        Ok(Val::new(raw, v.dtype, &v.shape))
    }

    /// The node's output that gives the whole value.
    pub(super) fn whole(&mut self, v: &Val) -> Result<Sym> {
        let v = self.full(v)?;
        self.raw_sym(&v.raw)
    }

    /// One op on values as they are held. What is small and known is computed at once.
    pub(super) fn node<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[&Val],
        attrs: &[(&str, Attr)],
    ) -> Result<[Raw; N]> {
        let all = self.nodes(op, inputs, attrs)?;
        let count = all.len();
        all.try_into().map_err(|_| Error::graph(format!("{op} gives {count} values, not {N}")))
    }

    /// As [`Emit::node`], of an op with any number of outputs.
    pub(super) fn nodes(&mut self, op: &str, inputs: &[&Val], attrs: &[(&str, Attr)]) -> Result<Vec<Raw>> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(Error::new(
                crate::ErrorKind::Limit,
                format!("the module unrolls to more than {MOST_NODES} nodes"),
            ));
        }
        let mut all: Attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let known: Option<Vec<Tensor>> = inputs
            .iter()
            .map(|v| match &v.raw {
                Raw::Known(t) if t.len() <= MOST_KNOWN => Some(t.clone()),
                _ => None,
            })
            .collect();
        if let Some(known) = known.filter(|k| !k.is_empty()) {
            let signature = ops::signature(op)?;
            let dtypes: Vec<DType> = known.iter().map(Tensor::dtype).collect();
            signature.infer_attrs(&dtypes, &mut all)?;
            if let Some(made) = fold(op, &all, known, MOST_KNOWN) {
                return Ok(made.into_iter().map(Raw::Known).collect());
            }
        }
        let syms = inputs.iter().map(|v| self.raw_sym(&v.raw)).collect::<Result<Vec<_>>>()?;
        let mut call = self.b.op(op).inputs(&syms);
        for (name, value) in attrs {
            call = call.attr(name, value.clone());
        }
        Ok(call.all()?.into_iter().map(Raw::Sym).collect())
    }

    /// An op that computes each element from those at the same place, and broadcasts.
    pub(super) fn elementwise(
        &mut self,
        op: &str,
        inputs: &[&Val],
        dtype: DType,
        attrs: &[(&str, Attr)],
    ) -> Result<Val> {
        let first = inputs.first().ok_or_else(|| Error::graph("an operation has no operands"))?;
        if let Some(other) = inputs.iter().find(|v| v.shape != first.shape) {
            return Err(Error::graph(format!("shapes {:?} and {:?} differ", first.shape, other.shape)));
        }
        let thin: Shape =
            (0..first.rank()).map(|d| inputs.iter().map(|v| v.thin[d]).max().unwrap_or(1)).collect();
        // An empty dimension that something repeats along stays empty.
        let thin = if first.shape.contains(&0) { first.shape.clone() } else { thin };
        let full;
        let inputs = if first.shape.contains(&0) {
            full = inputs.iter().map(|v| self.full(v)).collect::<Result<Vec<_>>>()?;
            &full.iter().collect::<Vec<_>>()
        } else {
            inputs
        };
        let [raw] = self.node(op, inputs, attrs)?;
        Ok(Val { dtype, shape: first.shape.clone(), thin, raw })
    }

    /// As [`Emit::elementwise`], of an op whose result has the operands' dtype.
    pub(super) fn map(&mut self, op: &str, inputs: &[&Val]) -> Result<Val> {
        let dtype = inputs.first().map_or(DType::F32, |v| v.dtype);
        self.elementwise(op, inputs, dtype, &[])
    }

    /// One op on whole values, whose result has this dtype and shape.
    pub(super) fn whole_op(
        &mut self,
        op: &str,
        inputs: &[&Val],
        attrs: &[(&str, Attr)],
        dtype: DType,
        shape: &[usize],
    ) -> Result<Val> {
        modelark_tensor::checked_elements(shape)?;
        let full = inputs.iter().map(|v| self.full(v)).collect::<Result<Vec<_>>>()?;
        let [raw] = self.node(op, &full.iter().collect::<Vec<_>>(), attrs)?;
        Ok(Val::new(raw, dtype, shape))
    }

    pub(super) fn reshape(&mut self, v: &Val, shape: &[usize]) -> Result<Val> {
        if &v.shape[..] == shape {
            return Ok(v.clone());
        }
        if let Some(value) = v.splat() {
            let thin: Shape = shape.iter().map(|_| 1).collect();
            if modelark_tensor::checked_elements(shape)? != v.len()? {
                return Err(Error::graph(format!("shape {:?} can't become {shape:?}", v.shape)));
            }
            let raw = Raw::Known(value.reshape(&thin)?);
            return Ok(Val { dtype: v.dtype, shape: shape.into(), thin, raw });
        }
        if modelark_tensor::checked_elements(shape)? != v.len()? {
            return Err(Error::graph(format!("shape {:?} can't become {shape:?}", v.shape)));
        }
        // Dimensions of one come and go without a copy of what repeats along others.
        let plain = |s: &[usize]| s.iter().copied().filter(|n| *n != 1).collect::<Shape>();
        if v.thin != v.shape && plain(&v.shape) == plain(shape) {
            let mut kept = v.thin.iter().zip(&v.shape).filter(|(_, n)| **n != 1).map(|(t, _)| *t);
            let thin: Shape =
                shape.iter().map(|&n| if n == 1 { 1 } else { kept.next().unwrap_or(1) }).collect();
            let held = Val { shape: v.thin.clone(), ..v.clone() };
            let held = self.reshape(&held, &thin)?;
            return Ok(Val { dtype: v.dtype, shape: shape.into(), thin, raw: held.raw });
        }
        self.whole_op("Reshape", &[v, &ints(shape)?], &[], v.dtype, shape)
    }

    pub(super) fn transpose(&mut self, v: &Val, order: &[usize]) -> Result<Val> {
        let mut seen: Vec<usize> = order.to_vec();
        seen.sort_unstable();
        if seen.iter().copied().ne(0..v.rank()) {
            return Err(Error::graph(format!("{order:?} is no permutation of {} dimensions", v.rank())));
        }
        if order.is_sorted() {
            return Ok(v.clone());
        }
        let held = Val { shape: v.thin.clone(), ..v.clone() };
        let moved = |s: &Shape| order.iter().map(|&d| s[d]).collect::<Shape>();
        let (shape, thin) = (moved(&v.shape), moved(&v.thin));
        // Dimensions of one move without their elements.
        let large = order.iter().filter(|&&d| v.thin[d] != 1);
        if large.is_sorted() {
            let held = self.reshape(&held, &thin)?;
            return Ok(Val { dtype: v.dtype, shape, thin, raw: held.raw });
        }
        let [raw] = self.node("Transpose", &[&held, &ints(order)?], &[])?;
        Ok(Val { dtype: v.dtype, shape, thin, raw })
    }

    pub(super) fn cast(&mut self, v: &Val, dtype: DType) -> Result<Val> {
        if v.dtype == dtype {
            return Ok(v.clone());
        }
        self.elementwise("Cast", &[v], dtype, &[("DstT", dtype.into())])
    }

    /// A number of this dtype, repeated over a shape.
    pub(super) fn number(&mut self, number: f64, dtype: DType, shape: &[usize]) -> Result<Val> {
        let scalar = array::cast(&Tensor::scalar(number), dtype)?;
        Val::known(scalar).broadcast(self, shape, &[])
    }

    /// The elements from `begin`, so many, every `stride`-th.
    pub(super) fn slice(
        &mut self,
        v: &Val,
        begin: &[usize],
        size: &[usize],
        stride: &[usize],
    ) -> Result<Val> {
        if begin.iter().all(|b| *b == 0) && size == &v.shape[..] {
            return Ok(v.clone());
        }
        for d in 0..v.rank() {
            let last = match size[d] {
                0 => Some(begin[d]),
                n => stride[d].checked_mul(n - 1).and_then(|l| l.checked_add(begin[d])?.checked_add(1)),
            };
            if stride[d] == 0 || last.is_none_or(|l| l > v.shape[d]) {
                return Err(Error::graph(format!(
                    "a slice of {size:?} from {begin:?} by {stride:?} leaves shape {:?}",
                    v.shape
                )));
            }
        }
        // Along what repeats, any element will do.
        let pick = |what: &[usize], one: usize| -> Vec<usize> {
            (0..v.rank()).map(|d| if v.thin[d] == 1 { one } else { what[d] }).collect()
        };
        let thin: Shape =
            (0..v.rank()).map(|d| if v.thin[d] == 1 { size[d].min(1) } else { size[d] }).collect();
        let held = Val { shape: v.thin.clone(), ..v.clone() };
        let begin = pick(begin, 0);
        // Of one element, the step may be anything.
        let stride: Vec<usize> = (0..v.rank()).map(|d| if thin[d] <= 1 { 1 } else { stride[d] }).collect();
        let raw = if stride.iter().all(|s| *s == 1) {
            let [raw] = self.node("Slice", &[&held, &ints(&begin)?, &ints(&thin)?], &[])?;
            raw
        } else {
            let end: Vec<usize> =
                (0..v.rank()).map(|d| begin[d] + stride[d] * thin[d].max(1) - (stride[d] - 1)).collect();
            let [raw] =
                self.node("StridedSlice", &[&held, &ints(&begin)?, &ints(&end)?, &ints(&stride)?], &[])?;
            raw
        };
        Ok(Val { dtype: v.dtype, shape: size.into(), thin, raw })
    }

    pub(super) fn concat(&mut self, parts: &[Val], axis: usize) -> Result<Val> {
        let first = parts.first().ok_or_else(|| Error::graph("nothing to join"))?;
        if axis >= first.rank() {
            return Err(Error::graph(format!("there is no dimension {axis} of shape {:?}", first.shape)));
        }
        let mut shape = first.shape.clone();
        shape[axis] = 0;
        for p in parts {
            let fits =
                p.rank() == shape.len() && (0..shape.len()).all(|d| d == axis || p.shape[d] == shape[d]);
            if !fits {
                return Err(Error::graph(format!(
                    "shapes {:?} and {:?} don't join along {axis}",
                    first.shape, p.shape
                )));
            }
            shape[axis] = shape[axis].checked_add(p.shape[axis]).ok_or_else(|| Error::graph("too large"))?;
        }
        if let [one] = parts {
            return Ok(one.clone());
        }
        let along = Val::known(Tensor::scalar(axis as i32));
        let inputs: Vec<&Val> = parts.iter().chain([&along]).collect();
        let count = Attr::Int(parts.len() as i64);
        self.whole_op("ConcatV2", &inputs, &[("N", count)], first.dtype, &shape)
    }
}

/// Extents or axes as a constant.
pub(super) fn ints(values: &[usize]) -> Result<Val> {
    let values: Vec<i64> = values.iter().map(|v| *v as i64).collect();
    let count = values.len();
    Ok(Val::known(Tensor::from_vec(values, [count])?))
}
