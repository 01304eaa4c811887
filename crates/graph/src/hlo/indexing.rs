//! Slices picked by index, and put back: `gather`, `scatter` and their kin.
//!
//! A tensor is looked at as rows, each a stretch of elements that every slice takes whole. Where slices lie is computed in
//! rows, by ops on integers, and TensorFlow's ops for rows do the rest.

use modelark_stablehlo::Block;
use modelark_tensor::{DType, Shape, Tensor};

use super::emit::Val;
use super::moves::extents;
use super::region::{combiner, is_assignment, ordered_combiner};
use super::{Cx, Lower, Scope};
use crate::{Attr, Error, FuncRef, Result};

/// How an operation's indices, slices and operand go together, under `gather`'s names.
struct Layout {
    /// The dimensions of the result (of the updates) that lie within a slice.
    window: Vec<usize>,
    /// The operand's dimensions of which a slice has one that isn't kept.
    collapsed: Vec<usize>,
    /// The operand's dimensions that go along with those of the indices.
    operand_batch: Vec<usize>,
    index_batch: Vec<usize>,
    /// Which dimension of the operand each component of an index is of.
    to_operand: Vec<usize>,
    /// The dimension of the indices that holds an index's components.
    vector: usize,
}

/// Where slices lie.
struct Places {
    /// How many elements a row has.
    row: usize,
    /// For each slice the number of its first row, the shape being that of the indices without their vectors.
    first: Val,
    /// Whether each slice lies inside.
    inside: Option<Val>,
    /// How much further than the first each of a slice's rows lies.
    further: Tensor,
}

impl<'m> Lower<'m> {
    /// `None` when the operation is none of these.
    pub(super) fn indexing(
        &mut self,
        scope: &Scope<'m>,
        cx: &Cx<'m>,
        inputs: &[Val],
    ) -> Result<Option<Vec<Val>>> {
        Ok(Some(match (cx.name(), inputs) {
            ("gather", [x, indices]) => {
                let sizes = cx.sizes("slice_sizes")?;
                vec![self.gather(x, indices, &Layout::of_gather(cx)?, &sizes)?]
            }
            ("dynamic_gather", [x, indices, sizes]) => {
                let sizes = extents(sizes)?;
                vec![self.gather(x, indices, &Layout::of_gather(cx)?, &sizes)?]
            }
            ("torch_index_select", [x, indices]) => {
                let (dim, batch) = (cx.int("dim")?, cx.int("batch_dims")?);
                let shape = cx.declared()?;
                let along = Val::known(Tensor::scalar(dim));
                vec![self.e.whole_op(
                    "GatherV2",
                    &[x, indices, &along],
                    &[("batch_dims", batch.into())],
                    x.dtype,
                    &shape,
                )?]
            }
            ("scatter", all) if all.len() % 2 == 1 => {
                let count = all.len() / 2;
                let (targets, rest) = all.split_at(count);
                let [indices, updates @ ..] = rest else { return Err(Error::graph("it has no indices")) };
                self.scatter(scope, cx, targets, indices, updates)?
            }
            _ => return Ok(None),
        }))
    }

    fn gather(&mut self, x: &Val, indices: &Val, layout: &Layout, sizes: &[usize]) -> Result<Val> {
        layout.check(x, indices, sizes)?;
        let (batch, order) = layout.batch(indices);
        let kept: Vec<usize> = layout.kept(x.rank());
        let window: Shape = kept.iter().map(|d| sizes[*d]).collect();
        let rank = batch.len() + window.len();
        if layout.window.len() != window.len() || layout.window.iter().any(|d| *d >= rank) {
            return Err(Error::graph(format!("the offset dimensions don't fit slices of {sizes:?}")));
        }
        let flat: Shape = batch.iter().chain(&window).copied().collect();
        let picked = if flat.contains(&0) {
            self.e.number(0.0, x.dtype, &flat)?
        } else {
            let places = self.places(x, indices, layout, &order, sizes, true)?;
            let count = x.len()? / places.row;
            let rows = self.e.reshape(x, &[count, places.row])?;
            let at = self.rows(&places)?;
            let shape: Shape = at.shape.iter().chain(&[places.row]).copied().collect();
            let axis = Val::known(Tensor::scalar(0i32));
            let picked = self.e.whole_op("GatherV2", &[&rows, &at, &axis], &[], x.dtype, &shape)?;
            self.e.reshape(&picked, &flat)?
        };
        // The dimensions of slices go where the operation says, the others around them.
        let mut back = vec![usize::MAX; rank];
        for (i, &d) in layout.window.iter().enumerate() {
            back[d] = batch.len() + i;
        }
        let mut next = 0..batch.len();
        for place in back.iter_mut().filter(|p| **p == usize::MAX) {
            *place = next.next().ok_or_else(|| Error::graph("an offset dimension comes twice"))?;
        }
        self.e.transpose(&picked, &back)
    }

    fn scatter(
        &mut self,
        scope: &Scope<'m>,
        cx: &Cx<'m>,
        targets: &[Val],
        indices: &Val,
        updates: &[Val],
    ) -> Result<Vec<Val>> {
        let layout = Layout::of_scatter(cx)?;
        let body = cx.op.regions.first().ok_or_else(|| Error::graph("it has no body"))?;
        let (Some(target), Some(update)) = (targets.first(), updates.first()) else {
            return Err(Error::graph("it has no operands"));
        };
        if targets.iter().any(|t| t.shape != target.shape) || updates.iter().any(|u| u.shape != update.shape)
        {
            return Err(Error::graph("its operands' shapes differ"));
        }
        // What a slice is, told by the updates.
        let kept = layout.kept(target.rank());
        if layout.window.len() != kept.len() || layout.window.iter().any(|d| *d >= update.rank()) {
            return Err(Error::graph("the window dimensions don't fit the operand"));
        }
        let mut sizes = vec![1; target.rank()];
        for (d, w) in kept.iter().zip(&layout.window) {
            sizes[*d] = update.shape[*w];
        }
        if sizes.contains(&0) || update.len()? == 0 || target.len()? == 0 {
            return Ok(targets.to_vec());
        }
        layout.check(target, indices, &sizes)?;
        let (batch, order) = layout.batch(indices);
        let outer: Vec<usize> = (0..update.rank()).filter(|d| !layout.window.contains(d)).collect();
        if outer.iter().map(|d| update.shape[*d]).ne(batch.iter().copied()) {
            return Err(Error::graph(format!(
                "updates of shape {:?} don't fit indices of {:?}",
                update.shape, indices.shape
            )));
        }
        let places = self.places(target, indices, &layout, &order, &sizes, false)?;
        let at = self.rows(&places)?;
        let at = self.e.reshape(&at, &[at.len()?, 1])?;
        let flat: Vec<usize> = outer.iter().chain(&layout.window).copied().collect();
        let count = target.len()? / places.row;
        // Slices that don't lie inside go to a row behind the others.
        let mut rows = Vec::new();
        let mut news = Vec::new();
        for (t, u) in targets.iter().zip(updates) {
            let t = self.e.reshape(t, &[count, places.row])?;
            let spare = self.e.number(0.0, t.dtype, &[1, places.row])?;
            rows.push(self.e.concat(&[t, spare], 0)?);
            let u = self.e.transpose(u, &flat)?;
            news.push(self.e.reshape(&u, &[at.shape[0], places.row])?);
        }
        let unique = cx.op.attr("unique_indices").and_then(|a| a.bool()) == Some(true);
        let made = self.put(scope, body, rows, &at, news, unique)?;
        made.into_iter()
            .map(|v| {
                let rows = self.e.slice(&v, &[0, 0], &[count, places.row], &[1, 1])?;
                self.e.reshape(&rows, &target.shape)
            })
            .collect()
    }

    /// Rows combined with updates.
    fn put(
        &mut self,
        scope: &Scope<'m>,
        body: &'m Block,
        rows: Vec<Val>,
        at: &Val,
        updates: Vec<Val>,
        unique: bool,
    ) -> Result<Vec<Val>> {
        if let ([x], [u]) = (&rows[..], &updates[..]) {
            let bools = x.dtype == DType::Bool;
            let known = match combiner(body) {
                _ if is_assignment(body) => Some("TensorScatterUpdate"),
                _ if ordered_combiner(body) == Some("subtract") => Some("TensorScatterSub"),
                Some("add") if !bools => Some("TensorScatterAdd"),
                Some("maximum") if !bools && !x.dtype.is_complex() => Some("TensorScatterMax"),
                Some("minimum") if !bools && !x.dtype.is_complex() => Some("TensorScatterMin"),
                Some("multiply") if !bools => Some("ModelarkHloScatterMul"),
                _ => None,
            };
            if let Some(op) = known {
                return Ok(vec![self.e.whole_op(op, &[x, at, u], &[], x.dtype, &x.shape)?]);
            }
        }
        if unique {
            let mut old = Vec::new();
            for (x, u) in rows.iter().zip(&updates) {
                old.push(self.e.whole_op("GatherNd", &[x, at], &[], x.dtype, &u.shape)?);
            }
            let made = self.each(scope, body, old.into_iter().chain(updates).collect())?;
            return rows
                .iter()
                .zip(made)
                .map(|(x, new)| {
                    self.e.whole_op("TensorScatterUpdate", &[x, at, &new], &[], x.dtype, &x.shape)
                })
                .collect();
        }
        // One update of a row after the other, for one may change what the next finds.
        let shape = updates.first().map(|u| u.shape.clone()).unwrap_or_default();
        let both: Vec<&Val> = rows.iter().chain(&updates).collect();
        let (name, captured) = self.each_function(scope, body, &both, &shape)?;
        let inputs: Vec<&Val> = [at].into_iter().chain(both).chain(&captured).collect();
        let attrs = [
            ("combiner", Attr::Func(FuncRef::new(name))),
            ("count", Attr::Int(rows.len() as i64)),
            ("Tout", rows.iter().map(|v| v.dtype).collect::<Vec<_>>().into()),
        ];
        let made = self.calling("ModelarkHloScatterBy", &inputs, &attrs)?;
        Ok(made.into_iter().zip(&rows).map(|(raw, v)| Val::new(raw, v.dtype, &v.shape)).collect())
    }

    /// Every slice's rows, as numbers.
    fn rows(&mut self, places: &Places) -> Result<Val> {
        let first = &places.first;
        let count = places.further.len();
        let shape: Shape = first.shape.iter().chain(&[count]).copied().collect();
        let dims: Vec<usize> = (0..first.rank()).collect();
        let at = first.broadcast(&mut self.e, &shape, &dims)?;
        if count == 1 {
            return self.e.full(&at);
        }
        let further = Val::known(places.further.clone()).broadcast(&mut self.e, &shape, &[first.rank()])?;
        let all = self.e.map("AddV2", &[&at, &further])?;
        let Some(inside) = &places.inside else { return self.e.full(&all) };
        // Where a slice doesn't lie inside, none of its rows does.
        let inside = inside.broadcast(&mut self.e, &shape, &dims)?;
        let all = self.e.elementwise("SelectV2", &[&inside, &all, &at], DType::I64, &[])?;
        self.e.full(&all)
    }

    fn places(
        &mut self,
        x: &Val,
        indices: &Val,
        layout: &Layout,
        order: &[usize],
        sizes: &[usize],
        clamped: bool,
    ) -> Result<Places> {
        // Dimensions at the end that slices have whole make up a row, and one before them that they have a single element of
        // or a stretch can't.
        let rank = x.rank();
        let moves = |d: usize| layout.to_operand.contains(&d) || layout.operand_batch.contains(&d);
        let mut split = rank;
        while split > 0
            && sizes[split - 1] == x.shape[split - 1]
            && !(moves(split - 1) && x.shape[split - 1] != 1)
        {
            split -= 1;
        }
        let row: usize = x.shape[split..].iter().product();
        let strides = modelark_tensor::contiguous_strides(&x.shape);
        let step = |d: usize| (strides[d] / row.max(1)) as i64;
        let wide = self.e.cast(indices, DType::I64)?;
        let (batch, _) = layout.batch(indices);
        let mut first = self.e.number(0.0, DType::I64, &batch)?;
        let mut inside: Option<Val> = None;
        for (component, &d) in layout.to_operand.iter().enumerate() {
            let part = if layout.vector < indices.rank() {
                let mut begin = vec![0; indices.rank()];
                begin[layout.vector] = component;
                let mut size = indices.shape.clone();
                size[layout.vector] = 1;
                let part = self.e.slice(&wide, &begin, &size, &vec![1; indices.rank()])?;
                let moved = self.e.transpose(&part, order)?;
                self.e.reshape(&moved, &batch)?
            } else {
                wide.clone()
            };
            let most = self.e.number((x.shape[d] - sizes[d]) as f64, DType::I64, &batch)?;
            let zero = self.e.number(0.0, DType::I64, &batch)?;
            let part = if clamped {
                let above = self.e.map("Maximum", &[&part, &zero])?;
                self.e.map("Minimum", &[&above, &most])?
            } else {
                let low = self.e.elementwise("GreaterEqual", &[&part, &zero], DType::Bool, &[])?;
                let high = self.e.elementwise("LessEqual", &[&part, &most], DType::Bool, &[])?;
                let fits = self.e.map("LogicalAnd", &[&low, &high])?;
                inside = Some(match inside {
                    Some(before) => self.e.map("LogicalAnd", &[&before, &fits])?,
                    None => fits,
                });
                part
            };
            first = self.stepped(first, part, step(d), &batch)?;
        }
        for (&d, &of) in layout.operand_batch.iter().zip(&layout.index_batch) {
            // The place among the batch's dimensions.
            let at = of - usize::from(of > layout.vector);
            let count = self.iota(&batch, at, DType::I64)?;
            first = self.stepped(first, count, step(d), &batch)?;
        }
        if let Some(inside) = &inside {
            let behind = self.e.number((x.len()? / row.max(1)) as f64, DType::I64, &batch)?;
            first = self.e.elementwise("SelectV2", &[inside, &first, &behind], DType::I64, &[])?;
        }
        let mut further = vec![0i64];
        for (d, size) in sizes.iter().enumerate().take(split) {
            modelark_tensor::memory::check(further.len().saturating_mul(*size).saturating_mul(8))?;
            let by = step(d);
            further = further.iter().flat_map(|f| (0..*size as i64).map(move |i| f + i * by)).collect();
        }
        let count = further.len();
        Ok(Places { row, first, inside, further: Tensor::from_vec(further, [count])? })
    }

    fn stepped(&mut self, first: Val, part: Val, step: i64, batch: &[usize]) -> Result<Val> {
        let by = self.e.number(step as f64, DType::I64, batch)?;
        let part = if step == 1 { part } else { self.e.map("Mul", &[&part, &by])? };
        if first.is_all(0.0) { Ok(part) } else { self.e.map("AddV2", &[&first, &part]) }
    }
}

impl Layout {
    fn of_gather(cx: &Cx<'_>) -> Result<Layout> {
        Ok(Layout {
            window: cx.sizes("offset_dims")?,
            collapsed: cx.sizes("collapsed_slice_dims")?,
            operand_batch: optional(cx, "operand_batching_dims")?,
            index_batch: optional(cx, "start_indices_batching_dims")?,
            to_operand: cx.sizes("start_index_map")?,
            vector: cx.size("index_vector_dim")?,
        })
    }

    fn of_scatter(cx: &Cx<'_>) -> Result<Layout> {
        Ok(Layout {
            window: cx.sizes("update_window_dims")?,
            collapsed: cx.sizes("inserted_window_dims")?,
            operand_batch: optional(cx, "input_batching_dims")?,
            index_batch: optional(cx, "scatter_indices_batching_dims")?,
            to_operand: cx.sizes("scatter_dims_to_operand_dims")?,
            vector: cx.size("index_vector_dim")?,
        })
    }

    fn check(&self, x: &Val, indices: &Val, sizes: &[usize]) -> Result<()> {
        let rank = x.rank();
        let within = |dims: &[usize], rank: usize| dims.iter().all(|d| *d < rank);
        let components = indices.shape.get(self.vector).copied().unwrap_or(1);
        let fits = sizes.len() == rank
            && sizes.iter().zip(&x.shape).all(|(s, n)| s <= n)
            && within(&self.collapsed, rank)
            && within(&self.operand_batch, rank)
            && within(&self.index_batch, indices.rank())
            && within(&self.to_operand, rank)
            && self.vector <= indices.rank()
            && !self.index_batch.contains(&self.vector)
            && self.operand_batch.len() == self.index_batch.len()
            && self
                .operand_batch
                .iter()
                .zip(&self.index_batch)
                .all(|(o, i)| x.shape[*o] == indices.shape[*i])
            && self.collapsed.iter().chain(&self.operand_batch).all(|d| sizes[*d] <= 1)
            && components == self.to_operand.len();
        if fits {
            Ok(())
        } else {
            Err(Error::graph(format!(
                "slices of {sizes:?} don't fit shapes {:?} and {:?}",
                x.shape, indices.shape
            )))
        }
    }

    /// The operand's dimensions that a slice has among the result's.
    fn kept(&self, rank: usize) -> Vec<usize> {
        (0..rank).filter(|d| !self.collapsed.contains(d) && !self.operand_batch.contains(d)).collect()
    }

    /// The indices' shape without their vectors, and their dimensions in order with that of the vectors last.
    fn batch(&self, indices: &Val) -> (Shape, Vec<usize>) {
        let dims: Vec<usize> = (0..indices.rank()).filter(|d| *d != self.vector).collect();
        let shape = dims.iter().map(|d| indices.shape[*d]).collect();
        let order = dims.into_iter().chain((self.vector < indices.rank()).then_some(self.vector)).collect();
        (shape, order)
    }
}

/// Dimensions that older versions don't have.
fn optional(cx: &Cx<'_>, name: &str) -> Result<Vec<usize>> {
    if cx.op.attr(name).is_some() { cx.sizes(name) } else { Ok(Vec::new()) }
}
