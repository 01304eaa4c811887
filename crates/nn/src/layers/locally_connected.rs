//! Convolutions with weights of their own at each place: LocallyConnected1D and 2D.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::Tensor;
use modelark_artifact::{Dialect, Error, Result};

use super::Entry;
use super::convolution::{FORMER_1D, FORMER_2D};
use super::sliding::{Sliding, sliding_methods};
use crate::config::{DataFormat, Fields, Initializer, Padding};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<LocallyConnected<1>>(&["LocallyConnected1D"]).formerly(FORMER_1D),
    Entry::of::<LocallyConnected<2>>(&["LocallyConnected2D"]).formerly(FORMER_2D),
];

/// As `Conv1D`, with weights of their own at each place (Keras 2: `LocallyConnected1D`).
pub type LocallyConnected1D = LocallyConnected<1>;

/// As `Conv2D`, with weights of their own at each place (Keras 2: `LocallyConnected2D`).
pub type LocallyConnected2D = LocallyConnected<2>;

/// A convolution over `N` spatial dimensions with weights of their own at each place. Keras 3 has no such class.
#[derive(Debug, Clone, PartialEq)]
pub struct LocallyConnected<const N: usize> {
    filters: usize,
    kernel: WeightOptions,
    /// How the kernel lies: 1 by place, 2 as a whole matrix, 3 as the matrix's elements that count.
    implementation: usize,
    sliding: Sliding<N>,
}

impl<const N: usize> Default for LocallyConnected<N> {
    fn default() -> Self {
        LocallyConnected {
            filters: 1,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            implementation: 1,
            sliding: Sliding::default(),
        }
    }
}

sliding_methods!(LocallyConnected);

/// What the layer connects: extents of the input and of the output, and the input's channels.
struct Places<const N: usize> {
    input: [usize; N],
    output: [usize; N],
    channels: usize,
}

/// The most connections that are listed.
const LIMIT: usize = 1 << 26;

fn product(all: impl IntoIterator<Item = usize>) -> Result<usize> {
    let product = all.into_iter().try_fold(1usize, usize::checked_mul).filter(|&p| p <= LIMIT);
    product.ok_or_else(|| Error::limit("the layer connects more than it can list"))
}

impl<const N: usize> LocallyConnected<N> {
    /// This many filters at each place, over a window of this size.
    pub fn new(filters: usize, kernel_size: [usize; N]) -> Self {
        LocallyConnected { filters, sliding: Sliding::of(kernel_size), ..LocallyConnected::default() }
    }

    fn channels_first(&self) -> bool {
        self.sliding.data_format == DataFormat::ChannelsFirst
    }

    fn places(&self, input: &Spec) -> Result<Places<N>> {
        let output = self.sliding.window().output(input, Some(self.filters))?;
        let first = if self.channels_first() { 2 } else { 1 };
        let mut places =
            Places { input: [0; N], output: [0; N], channels: input.known(self.sliding.channel_axis())? };
        for axis in 0..N {
            places.input[axis] = input.known((first + axis) as i64)?;
            places.output[axis] = output.known((first + axis) as i64)?;
        }
        product(places.input.into_iter().chain(places.output).chain([places.channels, self.filters]))?;
        Ok(places)
    }

    /// For each place of the output, in order, the places of the input that it sees.
    fn seen(&self, places: &Places<N>) -> Vec<Vec<usize>> {
        let mut seen = Vec::new();
        for index in 0..places.output.iter().product() {
            let at = unravel(index, places.output);
            let mut found = vec![0usize];
            for (axis, &at) in at.iter().enumerate() {
                let (size, extent) = (self.sliding.kernel_size[axis], places.input[axis]);
                // Keras centres a window so, whatever the padding, and moves it in where there is none.
                let before = size / 2;
                let centre = at * self.sliding.strides[axis]
                    + if self.sliding.padding == Padding::Valid { before } else { 0 };
                let range = centre.saturating_sub(before)..(centre + size - before).min(extent);
                found = found.iter().flat_map(|&f| range.clone().map(move |i| f * extent + i)).collect();
            }
            seen.push(found);
        }
        seen
    }

    /// Where input `i` of channel `c` lies among all inputs in a row; so do the outputs.
    fn flat(&self, place: usize, channel: usize, places: usize, channels: usize) -> usize {
        if self.channels_first() { channel * places + place } else { place * channels + channel }
    }

    /// The connections as pairs of an output's place among all in a row and an input's, in Keras's order.
    fn connections(&self, places: &Places<N>) -> Result<Vec<[i64; 2]>> {
        let (inputs, outputs) = (places.input.iter().product(), places.output.iter().product());
        product([outputs, self.filters, places.channels, self.sliding.kernel_size.iter().product()])?;
        let mut all = Vec::new();
        for (place, seen) in self.seen(places).into_iter().enumerate() {
            for filter in 0..self.filters {
                let row = self.flat(place, filter, outputs, self.filters);
                for &i in &seen {
                    for channel in 0..places.channels {
                        let column = self.flat(i, channel, inputs, places.channels);
                        all.push([row as i64, column as i64]);
                    }
                }
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    fn kernel_shape(&self, places: &Places<N>) -> Result<Vec<usize>> {
        Ok(match self.implementation {
            1 => {
                let seen = product(self.sliding.kernel_size.into_iter().chain([places.channels]))?;
                vec![places.output.iter().product(), seen, self.filters]
            }
            2 if self.channels_first() => std::iter::once(places.channels)
                .chain(places.input)
                .chain([self.filters])
                .chain(places.output)
                .collect(),
            2 => {
                places.input.into_iter().chain([places.channels]).chain(places.output).chain([self.filters]).collect()
            }
            3 => vec![self.connections(places)?.len()],
            other => return Err(Error::unsupported(format!("there is no implementation {other}"))),
        })
    }

    /// The kernel as a matrix of all inputs and all outputs in a row each.
    fn matrix(&self, call: &mut Call<'_>, kernel: Sym, places: &Places<N>) -> Result<Sym> {
        let rows = product(places.input.into_iter().chain([places.channels]))?;
        let columns = product(places.output.into_iter().chain([self.filters]))?;
        product([rows, columns])?;
        let connections = self.connections(places)?;
        if self.implementation == 3 {
            let count = connections.len();
            let indices = connections.into_iter().flatten().collect();
            let indices = call.constant(Tensor::from_vec::<i64>(indices, [count, 2])?)?;
            let shape = call.constant(Tensor::from_vec(vec![columns as i64, rows as i64], [2])?)?;
            let matrix = call.apply("ScatterNd", &[indices, kernel, shape])?;
            return call.transpose(matrix, &[1, 0]);
        }
        let mut counts = vec![0f32; rows * columns];
        for [row, column] in connections {
            if let Some(count) = counts.get_mut(column as usize * columns + row as usize) {
                *count = 1.0;
            }
        }
        let counts = call.constant(Tensor::from_vec(counts, [rows, columns])?)?;
        let counts = call.cast(counts, call.dtype(kernel))?;
        let kernel = call.reshape(kernel, &[rows as i64, columns as i64])?;
        call.apply("Mul", &[kernel, counts])
    }

    /// What each place sees times its own kernel: `[batch, places, filters]`.
    fn by_place(&self, call: &mut Call<'_>, x: Sym, kernel: Sym, places: &Places<N>) -> Result<Sym> {
        let seen = self.seen(places);
        let (outputs, window) = (seen.len(), seen.first().map_or(0, Vec::len));
        let indices = seen.into_iter().flatten().map(|i| i as i64).collect::<Vec<_>>();
        let indices = call.ints(&indices)?;
        let channels = places.channels as i64;
        let (inputs, places, window) =
            (places.input.iter().product::<usize>() as i64, outputs as i64, window as i64);
        let patches = if self.channels_first() {
            let x = call.reshape(x, &[-1, channels, inputs])?;
            let axis = call.int(2)?;
            let patches = call.apply("GatherV2", &[x, indices, axis])?;
            let patches = call.reshape(patches, &[-1, channels, places, window])?;
            call.transpose(patches, &[2, 0, 1, 3])?
        } else {
            let x = call.reshape(x, &[-1, inputs, channels])?;
            let axis = call.int(1)?;
            let patches = call.apply("GatherV2", &[x, indices, axis])?;
            let patches = call.reshape(patches, &[-1, places, window * channels])?;
            call.transpose(patches, &[1, 0, 2])?
        };
        let patches = call.reshape(patches, &[places, -1, window * channels])?;
        let y = call.apply("BatchMatMulV2", &[patches, kernel])?;
        call.transpose(y, &[1, 0, 2])
    }
}

/// The place of this index among places of these extents.
fn unravel<const N: usize>(mut index: usize, extents: [usize; N]) -> [usize; N] {
    let mut at = [0; N];
    for (at, extent) in at.iter_mut().zip(extents).rev() {
        (*at, index) = (index % extent.max(1), index / extent.max(1));
    }
    at
}

impl<const N: usize> Layer for LocallyConnected<N> {
    fn class_name(&self) -> &str {
        if N == 1 { "LocallyConnected1D" } else { "LocallyConnected2D" }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.aliased("filters", &["nb_filter"], &mut self.filters);
        self.kernel.visit("kernel", f);
        self.sliding.visit_undilated(f);
        f.field("implementation", &mut self.implementation);
        if f.dialect() == Dialect::Keras3 {
            f.note(format!("Keras 3 has no class {:?}", self.class_name()));
        }
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let places = self.places(inputs.first()?)?;
        let kernel = self.kernel.weight("kernel", self.kernel_shape(&places)?);
        let bias = places.output.into_iter().chain([self.filters]).collect();
        Ok(self.sliding.with_bias(vec![kernel], bias))
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.sliding.window().output(inputs.first()?, Some(self.filters)).map(|s| vec![s])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let output = self.output(call.inputs())?;
        let places = self.places(call.inputs().first()?)?;
        let (kernel, bias) = (call.weight("kernel")?, self.sliding.bias(call)?);
        let (count, filters) = (places.output.iter().product::<usize>() as i64, self.filters as i64);
        // Always with the channels last, until the end.
        let mut y = if self.implementation == 1 {
            self.by_place(call, x, kernel, &places)?
        } else {
            let matrix = self.matrix(call, kernel, &places)?;
            let inputs = product(places.input.into_iter().chain([places.channels]))? as i64;
            let x = call.reshape(x, &[-1, inputs])?;
            let y = call.apply("MatMul", &[x, matrix])?;
            if self.channels_first() {
                let y = call.reshape(y, &[-1, filters, count])?;
                call.transpose(y, &[0, 2, 1])?
            } else {
                call.reshape(y, &[-1, count, filters])?
            }
        };
        if self.channels_first() {
            y = call.transpose(y, &[0, 2, 1])?;
        }
        if let Some(bias) = bias {
            // Keras reads the bias, which lies with the filters last, as if they came first.
            let shape = if self.channels_first() { [filters, count] } else { [count, filters] };
            let bias = call.reshape(bias, &shape)?;
            y = call.apply("AddV2", &[y, bias])?;
        }
        let shape = output.first().and_then(|o| o.dims().ok()).unwrap_or_default();
        let shape: Vec<i64> = shape.iter().map(|d| d.map_or(-1, |d| d as i64)).collect();
        // The batch is what is left, also where it is known.
        let rest = shape.get(1..).unwrap_or_default();
        let shape: Vec<i64> = std::iter::once(-1).chain(rest.iter().copied()).collect();
        let y = call.reshape(y, &shape)?;
        self.sliding.activate(call, y, output)
    }
}
