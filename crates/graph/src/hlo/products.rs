//! Products: `dot_general` and its kin, and convolutions.

use modelark_tensor::{DType, Shape};

use super::elementwise::part_of;
use super::emit::Val;
use super::{Cx, Lower};
use crate::{Attr, Error, Result};

/// Which dimensions of two operands go together.
struct Pairs<'a> {
    batch: &'a [usize],
    contracted: &'a [usize],
}

/// A factor as a stack of matrices.
struct Factor {
    val: Val,
    /// Whether rows and columns have changed places.
    turned: bool,
    free: Shape,
}

impl<'m> Lower<'m> {
    /// `None` when the operation is no product.
    pub(super) fn product(&mut self, cx: &Cx<'m>, inputs: &[Val]) -> Result<Option<Val>> {
        let made = match (cx.name(), inputs) {
            ("dot_general", [a, b]) => {
                let lists = [
                    cx.sizes("lhs_batching_dimensions")?,
                    cx.sizes("lhs_contracting_dimensions")?,
                    cx.sizes("rhs_batching_dimensions")?,
                    cx.sizes("rhs_contracting_dimensions")?,
                ];
                let left = Pairs { batch: &lists[0], contracted: &lists[1] };
                self.dot(a, &left, b, &Pairs { batch: &lists[2], contracted: &lists[3] }, cx.dtype()?)?
            }
            ("dot", [a, b]) => {
                let last = a.rank().checked_sub(1).ok_or_else(|| Error::graph("an operand is a scalar"))?;
                let left = Pairs { batch: &[], contracted: &[last] };
                self.dot(a, &left, b, &Pairs { batch: &[], contracted: &[0] }, cx.dtype()?)?
            }
            ("einsum" | "unary_einsum", all) => {
                let equation = cx
                    .attr("einsum_config")?
                    .text()
                    .ok_or_else(|| Error::graph("einsum_config must be text"))?;
                let shape = cx.declared()?;
                let attrs = [("equation", equation.into()), ("N", Attr::Int(all.len() as i64))];
                let dtype = cx.dtype()?;
                self.e.whole_op("Einsum", &all.iter().collect::<Vec<_>>(), &attrs, dtype, &shape)?
            }
            ("convolution", [x, filter]) => {
                let padding = cx.ints("padding")?;
                self.convolution(cx, x, filter, &padding)?
            }
            ("dynamic_conv", [x, filter, padding]) => {
                let padding = padding
                    .ints()
                    .ok_or_else(|| Error::unsupported("its padding depends on what only a run computes"))?;
                self.convolution(cx, x, filter, &padding)?
            }
            _ => return Ok(None),
        };
        Ok(Some(made))
    }

    fn dot(&mut self, a: &Val, left: &Pairs<'_>, b: &Val, right: &Pairs<'_>, dtype: DType) -> Result<Val> {
        let size = |v: &Val, dims: &[usize]| -> Result<Shape> {
            let one = |d: &usize| v.shape.get(*d).copied();
            dims.iter()
                .map(one)
                .collect::<Option<_>>()
                .ok_or_else(|| Error::graph("there is no such dimension"))
        };
        let batch = size(a, left.batch)?;
        let summed = size(a, left.contracted)?;
        if batch != size(b, right.batch)? || summed != size(b, right.contracted)? {
            return Err(Error::graph(format!("shapes {:?} and {:?} don't multiply so", a.shape, b.shape)));
        }
        let through = match dtype {
            DType::I8 | DType::I16 | DType::U8 | DType::U16 | DType::I4 | DType::U4 => DType::I32,
            DType::U32 => DType::I64,
            DType::U64 => DType::I64,
            DType::Bool => DType::I32,
            other => other,
        };
        let (a, b) = (self.e.cast(a, through)?, self.e.cast(b, through)?);
        let a = self.factor(&a, left, true)?;
        let b = self.factor(&b, right, false)?;
        let count = |s: &Shape| modelark_tensor::checked_elements(s);
        let (m, n) = (count(&a.free)?, count(&b.free)?);
        let shape: Shape = batch.iter().chain(&a.free).chain(&b.free).copied().collect();
        let product = if batch.is_empty() {
            let attrs = [("transpose_a", Attr::Bool(a.turned)), ("transpose_b", Attr::Bool(b.turned))];
            self.e.whole_op("MatMul", &[&a.val, &b.val], &attrs, through, &[m, n])?
        } else {
            let attrs = [("adj_x", Attr::Bool(a.turned)), ("adj_y", Attr::Bool(b.turned))];
            self.e.whole_op("BatchMatMulV2", &[&a.val, &b.val], &attrs, through, &[count(&batch)?, m, n])?
        };
        let product = self.e.reshape(&product, &shape)?;
        if dtype == DType::Bool { self.convert(&product, dtype) } else { self.e.cast(&product, dtype) }
    }

    /// An operand as matrices: batches, then rows, then columns, of which what is summed over comes last on the left and
    /// first on the right, unless they are turned.
    fn factor(&mut self, v: &Val, pairs: &Pairs<'_>, left: bool) -> Result<Factor> {
        let free: Vec<usize> =
            (0..v.rank()).filter(|d| !pairs.batch.contains(d) && !pairs.contracted.contains(d)).collect();
        let count = |dims: &[usize]| {
            modelark_tensor::checked_elements(&dims.iter().map(|d| v.shape[*d]).collect::<Shape>())
        };
        let order = |first: &[usize], second: &[usize]| -> Vec<usize> {
            pairs.batch.iter().chain(first).chain(second).copied().collect()
        };
        let (straight, turned) = if left {
            (order(&free, pairs.contracted), order(pairs.contracted, &free))
        } else {
            (order(pairs.contracted, &free), order(&free, pairs.contracted))
        };
        // Complex numbers would be conjugated on the way.
        let turn = turned.is_sorted() && !straight.is_sorted() && !v.dtype.is_complex();
        let val = self.e.transpose(v, if turn { &turned } else { &straight })?;
        let (rows, columns) =
            if left != turn { (&free[..], pairs.contracted) } else { (pairs.contracted, &free[..]) };
        let mut shape = Shape::new();
        if !pairs.batch.is_empty() {
            shape.push(count(pairs.batch)?);
        }
        shape.extend([count(rows)?, count(columns)?]);
        let val = self.e.reshape(&val, &shape)?;
        Ok(Factor { val, turned: turn, free: free.iter().map(|d| v.shape[*d]).collect() })
    }

    fn convolution(&mut self, cx: &Cx<'m>, x: &Val, filter: &Val, padding: &[i64]) -> Result<Val> {
        let spatial = cx.sizes("input_spatial_dimensions")?;
        let n = spatial.len();
        if x.rank() != n + 2 || filter.rank() != n + 2 || padding.len() != 2 * n && !padding.is_empty() {
            return Err(Error::graph(format!(
                "shapes {:?} and {:?} don't convolve so",
                x.shape, filter.shape
            )));
        }
        let dtype = cx.dtype()?;
        let order = |first: &str, spatial: &str, last: &str, filter: bool| -> Result<Vec<usize>> {
            let (a, b) = (cx.size(first)?, cx.size(last)?);
            let spatial = cx.sizes(spatial)?;
            Ok(if filter {
                spatial.into_iter().chain([a, b]).collect()
            } else {
                [a].into_iter().chain(spatial).chain([b]).collect()
            })
        };
        let to =
            order("input_batch_dimension", "input_spatial_dimensions", "input_feature_dimension", false)?;
        let mut x = self.e.transpose(x, &to)?;
        let to = order(
            "kernel_input_feature_dimension",
            "kernel_spatial_dimensions",
            "kernel_output_feature_dimension",
            true,
        )?;
        let mut filter = self.e.transpose(filter, &to)?;
        let zeros = [0, 0].repeat(n);
        let padding = if padding.is_empty() { &zeros[..] } else { padding };
        // Holes between elements, and edges cut off, are made beforehand.
        let holes = cx.sizes_or_ones("lhs_dilation", n)?;
        let cut = padding.iter().any(|p| *p < 0);
        let mut edges: Vec<i64> = padding.to_vec();
        if cut || holes.iter().any(|h| *h != 1) {
            let at =
                |d: usize, i: usize| -> i64 { if d == 0 || d > n { 0 } else { padding[2 * (d - 1) + i] } };
            let low: Vec<i64> = (0..n + 2).map(|d| at(d, 0)).collect();
            let high: Vec<i64> = (0..n + 2).map(|d| at(d, 1)).collect();
            let between: Vec<i64> =
                (0..n + 2).map(|d| if d == 0 || d > n { 0 } else { holes[d - 1] as i64 - 1 }).collect();
            let zero = self.e.number(0.0, x.dtype, &[])?;
            x = self.pad(&x, &zero, &low, &high, &between)?;
            edges = zeros.clone();
        }
        if let Some(reversed) = cx.op.attr("window_reversal") {
            let flags: Vec<bool> = match reversed {
                modelark_stablehlo::Attr::Constant(c) => c
                    .tensor()
                    .ok()
                    .and_then(|t| {
                        t.elements::<modelark_tensor::Bool>()
                            .ok()
                            .map(|b| b.iter().map(|b| b.get()).collect())
                    })
                    .unwrap_or_default(),
                other => other.array().unwrap_or_default().iter().filter_map(|a| a.bool()).collect(),
            };
            let dims: Vec<usize> = (0..n).filter(|d| flags.get(*d) == Some(&true)).collect();
            filter = self.reverse(&filter, &dims)?;
        }
        let window = Window {
            strides: cx.sizes_or_ones("window_strides", n)?,
            dilations: cx.sizes_or_ones("rhs_dilation", n)?,
            edges,
            groups: cx.size("feature_group_count")?.max(1),
        };
        let batches = cx.size("batch_group_count")?.max(1);
        let made = if batches == 1 {
            self.windows(&x, &filter, &window, dtype)?
        } else {
            let (images, features) = (x.shape[0] / batches, filter.shape[n + 1] / batches);
            if images * batches != x.shape[0] || features * batches != filter.shape[n + 1] {
                return Err(Error::graph(format!("{batches} groups don't divide batch or features")));
            }
            let ones = vec![1; n + 2];
            let mut parts = Vec::new();
            for g in 0..batches {
                let part = |v: &Val, d: usize, size: usize| {
                    let (mut begin, mut shape) = (vec![0; n + 2], v.shape.clone());
                    begin[d] = g * size;
                    shape[d] = size;
                    (begin, shape)
                };
                let (begin, shape) = part(&x, 0, images);
                let image = self.e.slice(&x, &begin, &shape, &ones)?;
                let (begin, shape) = part(&filter, n + 1, features);
                let kernel = self.e.slice(&filter, &begin, &shape, &ones)?;
                parts.push(self.windows(&image, &kernel, &window, dtype)?);
            }
            self.e.concat(&parts, n + 1)?
        };
        // From batch, space, features to where the result has them.
        let to =
            order("output_batch_dimension", "output_spatial_dimensions", "output_feature_dimension", false)?;
        let mut back = vec![0; n + 2];
        for (from, &d) in to.iter().enumerate() {
            *back.get_mut(d).ok_or_else(|| Error::graph("there is no such dimension"))? = from;
        }
        self.e.transpose(&made, &back)
    }

    /// A convolution of `[batch, space.., features]` with `[space.., in, out]`.
    fn windows(&mut self, x: &Val, filter: &Val, window: &Window, dtype: DType) -> Result<Val> {
        if dtype.is_complex() {
            return self.complex_windows(x, filter, window, dtype);
        }
        let through = if dtype.is_float() { dtype } else { DType::F64 };
        let (x, filter) = (self.e.cast(x, through)?, self.e.cast(filter, through)?);
        let n = window.strides.len();
        let (features, inner) = (x.shape[n + 1], filter.shape[n]);
        if window.groups.checked_mul(inner) != Some(features) || filter.shape[n + 1] % window.groups != 0 {
            return Err(Error::graph(format!(
                "{} groups of {inner} features aren't the {features} of shape {:?}",
                window.groups, x.shape
            )));
        }
        let mut shape: Shape = [x.shape[0]].into_iter().collect();
        for d in 0..n {
            let wrong = || Error::graph(format!("the window doesn't fit shape {:?}", x.shape));
            let (low, high) = (window.edges[2 * d], window.edges[2 * d + 1]);
            let long = i64::try_from(x.shape[d + 1])
                .ok()
                .and_then(|v| v.checked_add(low)?.checked_add(high))
                .ok_or_else(wrong)?;
            let reach = match filter.shape[d] {
                0 => 0,
                w => (w - 1)
                    .checked_mul(window.dilations[d])
                    .and_then(|v| i64::try_from(v).ok()?.checked_add(1))
                    .ok_or_else(wrong)?,
            };
            let stride = i64::try_from(window.strides[d]).ok().filter(|s| *s > 0).ok_or_else(wrong)?;
            shape.push(if long < reach { 0 } else { ((long - reach) / stride + 1) as usize });
        }
        shape.push(filter.shape[n + 1]);
        if shape.contains(&0) || filter.shape.contains(&0) || features == 0 {
            let zeros = self.e.number(0.0, dtype, &shape)?;
            return Ok(zeros);
        }
        let made = match n {
            0 => {
                if window.groups != 1 {
                    return Err(Error::unsupported("groups of a convolution without space"));
                }
                self.e.whole_op("MatMul", &[&x, &filter], &[], through, &shape)?
            }
            1 => {
                // As TensorFlow has them: images of one row.
                let row = |s: &Shape, at: usize| -> Shape {
                    s[..at].iter().chain(&[1]).chain(&s[at..]).copied().collect()
                };
                let wide = Window {
                    strides: vec![1, window.strides[0]],
                    dilations: vec![1, window.dilations[0]],
                    edges: [0, 0].into_iter().chain(window.edges.iter().copied()).collect(),
                    groups: window.groups,
                };
                let image = self.e.reshape(&x, &row(&x.shape, 1))?;
                let kernel = self.e.reshape(&filter, &row(&filter.shape, 0))?;
                let made = self.images(&image, &kernel, &wide, through, &row(&shape, 1))?;
                self.e.reshape(&made, &shape)?
            }
            2 => self.images(&x, &filter, window, through, &shape)?,
            3 => {
                let zero = self.e.number(0.0, through, &[])?;
                let at = |i: usize| -> Vec<i64> {
                    [0].into_iter().chain((0..3).map(|d| window.edges[2 * d + i])).chain([0]).collect()
                };
                let x = self.pad(&x, &zero, &at(0), &at(1), &[0; 5])?;
                let attrs = [
                    ("strides", per_dim(&window.strides)),
                    ("dilations", per_dim(&window.dilations)),
                    ("padding", "VALID".into()),
                ];
                self.e.whole_op("Conv3D", &[&x, &filter], &attrs, through, &shape)?
            }
            n => {
                return Err(Error::unsupported(format!(
                    "convolutions over {n} dimensions aren't computed here"
                )));
            }
        };
        self.e.cast(&made, dtype)
    }

    fn images(
        &mut self,
        x: &Val,
        filter: &Val,
        window: &Window,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Val> {
        let edges: Vec<i64> = [0, 0].into_iter().chain(window.edges.iter().copied()).chain([0, 0]).collect();
        let mut attrs =
            vec![("strides", per_dim(&window.strides)), ("dilations", per_dim(&window.dilations))];
        if edges.iter().all(|e| *e == 0) {
            attrs.push(("padding", "VALID".into()));
        } else {
            attrs.push(("padding", "EXPLICIT".into()));
            attrs.push(("explicit_paddings", edges.into()));
        }
        if window.groups > 1 && window.groups == x.shape[3] {
            let each = filter.shape[3] / window.groups;
            let filter = self.e.reshape(filter, &[filter.shape[0], filter.shape[1], window.groups, each])?;
            return self.e.whole_op("DepthwiseConv2dNative", &[x, &filter], &attrs, dtype, shape);
        }
        self.e.whole_op("Conv2D", &[x, filter], &attrs, dtype, shape)
    }

    fn complex_windows(&mut self, x: &Val, filter: &Val, window: &Window, dtype: DType) -> Result<Val> {
        let real = part_of(dtype);
        let mut parts = Vec::new();
        for v in [x, filter] {
            for op in ["Real", "Imag"] {
                parts.push(self.e.elementwise(op, &[v], real, &[("Tout", real.into())])?);
            }
        }
        let [xr, xi, fr, fi] = &parts[..] else { return Err(Error::graph("a complex number has two parts")) };
        let both = [(xr, fr), (xi, fi), (xr, fi), (xi, fr)].map(|(a, b)| self.windows(a, b, window, real));
        let [rr, ii, ri, ir] = both;
        let (re, im) = (self.e.map("Sub", &[&rr?, &ii?])?, self.e.map("AddV2", &[&ri?, &ir?])?);
        let shape = re.shape.clone();
        self.e.whole_op("Complex", &[&re, &im], &[("Tout", dtype.into())], dtype, &shape)
    }
}

/// How a filter moves over images.
struct Window {
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// Zeros before and after, dimension by dimension.
    edges: Vec<i64>,
    groups: usize,
}

/// Numbers of the dimensions of space, with ones for batch and features.
fn per_dim(spatial: &[usize]) -> Attr {
    [1].iter().chain(spatial).chain(&[1]).map(|v| *v as i64).collect::<Vec<_>>().into()
}
