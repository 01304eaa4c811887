//! Windows that slide over tensors: `reduce_window` and `select_and_scatter`.

use modelark_stablehlo::Block;
use modelark_tensor::{DType, Shape, Tensor};

use super::emit::Val;
use super::reduce::is_neutral;
use super::region::{alike, combiner};
use super::{Cx, Lower, Scope};
use crate::{Attr, Error, Result};

/// A window, dimension by dimension.
pub(super) struct Window {
    pub(super) size: Vec<usize>,
    pub(super) strides: Vec<usize>,
    /// How far apart the elements of the operand are put.
    pub(super) holes: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// Before and after, dimension by dimension.
    pub(super) padding: Vec<i64>,
}

/// Windows of more elements along a dimension are made of smaller ones, however far they move.
const MOST_SLICES: usize = 64;

/// Windows whose places are gone through one by one have no more.
const MOST_PLACES: usize = 1 << 12;

impl Window {
    fn low(&self) -> Vec<i64> {
        self.padding.iter().step_by(2).copied().collect()
    }

    fn high(&self) -> Vec<i64> {
        self.padding.iter().skip(1).step_by(2).copied().collect()
    }

    fn check(&self, rank: usize) -> Result<()> {
        let lists = [&self.size, &self.strides, &self.holes, &self.dilations];
        if lists.iter().any(|l| l.len() != rank || l.contains(&0)) || self.padding.len() != 2 * rank {
            return Err(Error::graph(format!("the window doesn't have {rank} dimensions of one or more")));
        }
        Ok(())
    }
}

impl<'m> Lower<'m> {
    pub(super) fn reduce_window(
        &mut self,
        scope: &Scope<'m>,
        cx: &Cx<'m>,
        body: &'m Block,
        inputs: &[Val],
    ) -> Result<Vec<Val>> {
        let (values, init) = alike(inputs)?;
        let size = cx.sizes("window_dimensions")?;
        let rank = size.len();
        let padding = if cx.op.attr("padding").is_some() { cx.ints("padding")? } else { Vec::new() };
        let window = Window {
            strides: cx.sizes_or_ones("window_strides", rank)?,
            holes: cx.sizes_or_ones("base_dilations", rank)?,
            dilations: cx.sizes_or_ones("window_dilations", rank)?,
            padding: if padding.is_empty() { vec![0; 2 * rank] } else { padding },
            size,
        };
        self.slide(scope, body, values, init, &window)
    }

    pub(super) fn slide(
        &mut self,
        scope: &Scope<'m>,
        body: &'m Block,
        values: &[Val],
        init: &[Val],
        window: &Window,
    ) -> Result<Vec<Val>> {
        let rank = values.first().map_or(0, Val::rank);
        window.check(rank)?;
        if let ([x], [start]) = (values, init)
            && let Some(made) = self.max_pool(x, start, combiner(body), window)?
        {
            return Ok(vec![made]);
        }
        let holes: Vec<i64> = window.holes.iter().map(|h| *h as i64 - 1).collect();
        let mut values = values
            .iter()
            .zip(init)
            .map(|(v, start)| self.pad(v, start, &window.low(), &window.high(), &holes))
            .collect::<Result<Vec<_>>>()?;
        for d in 0..rank {
            values = self.slide_along(scope, body, values, d, window)?;
        }
        let neutral = match (combiner(body), init) {
            (Some("add"), [start]) => is_neutral("Sum", start),
            (Some("multiply"), [start]) => is_neutral("Prod", start),
            (Some("maximum"), [start]) => is_neutral("Max", start),
            (Some("minimum"), [start]) => is_neutral("Min", start),
            _ => false,
        };
        if neutral {
            return Ok(values);
        }
        let shape = values.first().map(|v| v.shape.clone()).unwrap_or_default();
        let start = init.iter().map(|v| v.broadcast(&mut self.e, &shape, &[])).collect::<Result<Vec<_>>>()?;
        self.each(scope, body, start.into_iter().chain(values).collect())
    }

    /// What TensorFlow's pooling computes.
    fn max_pool(
        &mut self,
        x: &Val,
        start: &Val,
        combiner: Option<&str>,
        window: &Window,
    ) -> Result<Option<Val>> {
        let plain = |list: &[usize]| list.iter().all(|n| *n == 1);
        let flat = |list: &[usize]| list.len() == 4 && list[0] == 1 && list[3] == 1;
        let fits = combiner == Some("maximum")
            && x.dtype == DType::F32
            && is_neutral("Max", start)
            && flat(&window.size)
            && flat(&window.strides)
            && plain(&window.holes)
            && plain(&window.dilations)
            && window
                .padding
                .iter()
                .zip(window.size.iter().flat_map(|s| [s, s]))
                .all(|(p, s)| *p >= 0 && (*p as usize) < *s);
        if !fits || x.shape.contains(&0) {
            return Ok(None);
        }
        let mut shape = Shape::new();
        for d in 0..4 {
            let padded = window.padding[2 * d].saturating_add(window.padding[2 * d + 1]) as usize;
            let Some(room) = x.shape[d].checked_add(padded).and_then(|n| n.checked_sub(window.size[d]))
            else {
                return Ok(None);
            };
            shape.push(room / window.strides[d] + 1);
        }
        let list = |v: &[usize]| Attr::List(v.iter().map(|v| Attr::Int(*v as i64)).collect());
        let mut attrs = vec![("ksize", list(&window.size)), ("strides", list(&window.strides))];
        if window.padding.iter().all(|p| *p == 0) {
            attrs.push(("padding", "VALID".into()));
        } else {
            attrs.push(("padding", "EXPLICIT".into()));
            attrs.push(("explicit_paddings", window.padding.clone().into()));
        }
        self.e.whole_op("MaxPool", &[x], &attrs, x.dtype, &shape).map(Some)
    }

    /// Windows along one dimension.
    fn slide_along(
        &mut self,
        scope: &Scope<'m>,
        body: &'m Block,
        values: Vec<Val>,
        d: usize,
        window: &Window,
    ) -> Result<Vec<Val>> {
        let (size, stride, dilation) = (window.size[d], window.strides[d], window.dilations[d]);
        let Some(long) = values.first().map(|v| v.shape[d]) else { return Ok(values) };
        let reach = (size - 1).checked_mul(dilation).and_then(|r| r.checked_add(1));
        let room = reach.and_then(|r| long.checked_sub(r));
        let count = room.map_or(0, |r| r / stride + 1);
        if count == 0 {
            let empty = |v: &Val| {
                let mut shape = v.shape.clone();
                shape[d] = 0;
                self.e.number(0.0, v.dtype, &shape)
            };
            return values.iter().map(empty).collect();
        }
        let part = |this: &mut Self, values: &[Val], from: usize, count: usize, stride: usize| {
            let cut = |v: &Val| {
                let (mut begin, mut shape, mut strides) =
                    (vec![0; v.rank()], v.shape.clone(), vec![1; v.rank()]);
                (begin[d], shape[d], strides[d]) = (from, count, stride);
                this.e.slice(v, &begin, &shape, &strides)
            };
            values.iter().map(cut).collect::<Result<Vec<_>>>()
        };
        let doublings = size.ilog2() as usize;
        if size <= MOST_SLICES && size <= (2 * doublings + 1).saturating_mul(stride) {
            let mut made = part(self, &values, 0, count, stride)?;
            for i in 1..size {
                let next = part(self, &values, i * dilation, count, stride)?;
                made = self.each(scope, body, made.into_iter().chain(next).collect())?;
            }
            return Ok(made);
        }
        // Windows of twice the size of two of the size before, side by side.
        let all = (count - 1) * stride + 1;
        let (mut made, mut covered) = (None::<Vec<Val>>, 0);
        let (mut twice, mut width, mut left) = (values, 1, long);
        loop {
            if size & width != 0 {
                let next = part(self, &twice, covered * dilation, all, 1)?;
                made = Some(match made {
                    None => next,
                    Some(before) => self.each(scope, body, before.into_iter().chain(next).collect())?,
                });
                covered += width;
            }
            if covered == size {
                break;
            }
            left -= width * dilation;
            let (first, second) =
                (part(self, &twice, 0, left, 1)?, part(self, &twice, width * dilation, left, 1)?);
            twice = self.each(scope, body, first.into_iter().chain(second).collect())?;
            width *= 2;
        }
        part(self, &made.unwrap_or_default(), 0, count, stride)
    }

    /// Each source goes to the element of its window that was selected, where they are added up.
    pub(super) fn select_and_scatter(
        &mut self,
        scope: &Scope<'m>,
        cx: &Cx<'m>,
        inputs: &[Val],
    ) -> Result<Val> {
        let [x, source, init] = inputs else {
            return Err(Error::graph("it takes an operand, a source and an initial value"));
        };
        let [select, scatter] = &cx.op.regions[..] else { return Err(Error::graph("it has two bodies")) };
        if combiner(scatter) != Some("add") {
            return Err(Error::unsupported("it scatters by another operation than `add`"));
        }
        let rank = x.rank();
        let padding = if cx.op.attr("padding").is_some() { cx.ints("padding")? } else { Vec::new() };
        let window = Window {
            size: cx.sizes_or_ones("window_dimensions", rank)?,
            strides: cx.sizes_or_ones("window_strides", rank)?,
            holes: vec![1; rank],
            dilations: vec![1; rank],
            padding: if padding.is_empty() { vec![0; 2 * rank] } else { padding },
        };
        window.check(rank)?;
        let (low, high, none) = (window.low(), window.high(), vec![0; rank]);
        if low.iter().chain(&high).any(|p| *p < 0) {
            return Err(Error::unsupported("its padding is negative"));
        }
        let places: usize =
            window.size.iter().try_fold(1usize, |n, s| n.checked_mul(*s)).unwrap_or(usize::MAX);
        if places > MOST_PLACES || source.rank() != rank {
            return Err(Error::unsupported(format!(
                "a window of {:?} over shape {:?}",
                window.size, x.shape
            )));
        }
        let zero = self.e.number(0.0, x.dtype, &[])?;
        let padded = self.pad(x, &zero, &low, &high, &none)?;
        let inside = self.e.number(1.0, DType::Bool, &x.shape)?;
        let outside = self.e.number(0.0, DType::Bool, &[])?;
        let inside = self.pad(&inside, &outside, &low, &high, &none)?;
        let offsets: Vec<Vec<usize>> = (0..places)
            .map(|p| {
                let mut rest = p;
                let mut at = vec![0; rank];
                for d in (0..rank).rev() {
                    at[d] = rest % window.size[d];
                    rest /= window.size[d];
                }
                at
            })
            .collect();
        let number = |n: usize| Val::known(Tensor::scalar(n as i32));
        let (mut best, mut found, mut which) = (None::<Val>, None::<Val>, None::<Val>);
        for (p, at) in offsets.iter().enumerate() {
            let here = self.e.slice(&padded, at, &source.shape, &window.strides)?;
            let real = self.e.slice(&inside, at, &source.shape, &window.strides)?;
            let this = number(p).broadcast(&mut self.e, &source.shape, &[])?;
            let (Some(b), Some(f), Some(w)) = (&best, &found, &which) else {
                (best, found, which) = (Some(here), Some(real), Some(this));
                continue;
            };
            let kept = self.each(scope, select, vec![b.clone(), here.clone()])?;
            let kept = kept.first().ok_or_else(|| Error::graph("its body gives nothing"))?;
            // The one before stays if it was selected, or there is none here; where there was none, this one is taken.
            let gone = self.e.map("LogicalNot", &[&real])?;
            let stays = self.e.map("LogicalOr", &[kept, &gone])?;
            let stays = self.e.map("LogicalAnd", &[&stays, f])?;
            best = Some(self.e.elementwise("SelectV2", &[&stays, b, &here], x.dtype, &[])?);
            which = Some(self.e.elementwise("SelectV2", &[&stays, w, &this], DType::I32, &[])?);
            found = Some(self.e.map("LogicalOr", &[f, &real])?);
        }
        let which = which.ok_or_else(|| Error::graph("its window is empty"))?;
        let none = self.e.number(0.0, source.dtype, &source.shape)?;
        let zero = self.e.number(0.0, source.dtype, &[])?;
        let mut sum: Option<Val> = None;
        for (p, at) in offsets.iter().enumerate() {
            let this = number(p).broadcast(&mut self.e, &source.shape, &[])?;
            let here = self.e.elementwise("Equal", &[&which, &this], DType::Bool, &[])?;
            let given = self.e.elementwise("SelectV2", &[&here, source, &none], source.dtype, &[])?;
            // Back to where the window's elements are, the border being cut off.
            let (mut before, mut after, mut between) = (Vec::new(), Vec::new(), Vec::new());
            for d in 0..rank {
                let spread =
                    ((source.shape[d].max(1) - 1) * window.strides[d] + source.shape[d].min(1)) as i64;
                before.push(at[d] as i64 - low[d]);
                after.push(x.shape[d] as i64 - spread - (at[d] as i64 - low[d]));
                between.push(window.strides[d] as i64 - 1);
            }
            let put = self.pad(&given, &zero, &before, &after, &between)?;
            sum = Some(match sum {
                Some(before) => self.e.map("AddV2", &[&before, &put])?,
                None => put,
            });
        }
        let sum = sum.ok_or_else(|| Error::graph("its window is empty"))?;
        if is_neutral("Sum", init) {
            return Ok(sum);
        }
        let start = init.broadcast(&mut self.e, &sum.shape, &[])?;
        self.e.map("AddV2", &[&sum, &start])
    }
}
