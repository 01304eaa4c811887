//! The kernels that models spend their time in. Throughput of products and convolutions is in floating-point
//! operations (criterion prints it as elements), of the others in elements.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelark_tensor::Tensor;
use modelark_tensor::kernels::conv::{conv, depthwise_conv};
use modelark_tensor::kernels::matmul::{Form, matmul};
use modelark_tensor::kernels::packed::{Packed, conv_after, depthwise_after, product_after};
use modelark_tensor::kernels::rnn::{Lstm, Recurrence, lstm};
use modelark_tensor::kernels::window::{Padding, Slide};
use modelark_tensor::kernels::{array, elementwise, norm, reduce};

fn random(shape: &[usize]) -> Tensor {
    let mut state = 1u64;
    let values = (0..shape.iter().product::<usize>()).map(|_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    });
    match Tensor::from_vec(values.collect(), shape) {
        Ok(t) => t,
        Err(e) => unreachable!("as many values as the shape asks: {e}"),
    }
}

fn pack(weights: &Tensor, contracted: usize) -> Packed {
    let packed = Packed::new(weights, contracted, false);
    match packed.and_then(|packed| packed.map(Packed::laid_out).transpose()) {
        Ok(Some(packed)) => packed,
        other => unreachable!("float32 weights can be packed: {other:?}"),
    }
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul");
    for (m, k, n) in
        [(1, 1024, 1024), (1, 4096, 4096), (8, 512, 512), (64, 784, 128), (256, 256, 256), (1024, 1024, 1024)]
    {
        let (a, b) = (random(&[m, k]), random(&[k, n]));
        group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
        group.bench_function(format!("{m}x{k}x{n}"), |bench| {
            bench.iter(|| matmul(black_box(&a), Form::Plain, &b, Form::Plain));
        });
        let packed = pack(&b, 1);
        group.bench_function(format!("packed {m}x{k}x{n}"), |bench| {
            bench.iter(|| product_after(black_box(&a), &packed, 1, &[]));
        });
    }
    let (a, b) = (random(&[8, 12, 128, 64]), random(&[8, 12, 128, 64]));
    group.throughput(Throughput::Elements(2 * (8 * 12 * 128 * 128 * 64) as u64));
    group.bench_function("attention 8x12x128x64", |bench| {
        bench.iter(|| matmul(black_box(&a), Form::Plain, &b, Form::Transposed));
    });
}

fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv");
    for (size, inputs, outputs, kernel) in [
        (56, 64, 64, 3),
        (28, 128, 128, 3),
        (7, 512, 512, 3),
        (56, 64, 256, 1),
        (112, 16, 96, 1),
        (7, 960, 160, 1),
        (224, 3, 64, 7),
    ] {
        let (x, filter) = (random(&[1, size, size, inputs]), random(&[kernel, kernel, inputs, outputs]));
        let slide = Slide::new([1, 1], Padding::Same);
        group.throughput(Throughput::Elements(2 * (size * size * inputs * outputs * kernel * kernel) as u64));
        group.bench_function(format!("{size}x{size}x{inputs} to {outputs} by {kernel}x{kernel}"), |bench| {
            bench.iter(|| conv(black_box(&x), &filter, &slide, None));
        });
        let packed = pack(&filter, 3);
        group.bench_function(
            format!("packed {size}x{size}x{inputs} to {outputs} by {kernel}x{kernel}"),
            |bench| {
                bench.iter(|| conv_after(black_box(&x), &packed, &slide, &[]));
            },
        );
    }
    for (size, channels) in [(112, 32), (56, 144), (14, 576)] {
        let (x, filter) = (random(&[1, size, size, channels]), random(&[3, 3, channels, 1]));
        let slide = Slide::new([1, 1], Padding::Same);
        group.throughput(Throughput::Elements(2 * (size * size * channels * 9) as u64));
        group.bench_function(format!("depthwise {size}x{size}x{channels}"), |bench| {
            bench.iter(|| depthwise_conv(black_box(&x), &filter, &slide));
        });
        group.bench_function(format!("depthwise in lines {size}x{size}x{channels}"), |bench| {
            bench.iter(|| depthwise_after(black_box(&x), &filter, &slide, &[]));
        });
    }
}

/// Weights laid out before, for each use, and piece by piece in cache.
fn once(c: &mut Criterion) {
    let mut group = c.benchmark_group("once");
    for (size, inputs, outputs, kernel) in
        [(56, 64, 64, 3), (14, 256, 256, 3), (7, 512, 512, 3), (14, 1024, 256, 1), (7, 512, 2048, 1)]
    {
        let (x, filter) = (random(&[1, size, size, inputs]), random(&[kernel, kernel, inputs, outputs]));
        let slide = Slide::new([1, 1], Padding::Same);
        let given = || match Packed::filter(&filter, true) {
            Ok(Some(packed)) => packed,
            other => unreachable!("float32 weights can be packed: {other:?}"),
        };
        group.throughput(Throughput::Elements(2 * (size * size * inputs * outputs * kernel * kernel) as u64));
        let name = |how: &str| format!("{how} {size}x{size}x{inputs} to {outputs} by {kernel}x{kernel}");
        let kept = given().laid_out();
        group.bench_function(name("kept"), |bench| {
            bench.iter(|| kept.as_ref().map(|w| conv_after(black_box(&x), w, &slide, &[])));
        });
        group.bench_function(name("laid out"), |bench| {
            bench.iter(|| given().laid_out().map(|w| conv_after(black_box(&x), &w, &slide, &[])));
        });
        group.bench_function(name("given"), |bench| {
            bench.iter(|| conv_after(black_box(&x), &given(), &slide, &[]));
        });
    }
}

fn elements(c: &mut Criterion) {
    let mut group = c.benchmark_group("elementwise");
    for n in [1 << 10, 1 << 20] {
        let (a, b) = (random(&[n / 64, 64]), random(&[n / 64, 64]));
        let bias = random(&[64]);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(format!("add {n}"), |bench| {
            bench.iter(|| elementwise::add(black_box(&a).clone(), b.clone()));
        });
        group.bench_function(format!("add bias {n}"), |bench| {
            bench.iter(|| elementwise::add(black_box(&a).clone(), bias.clone()));
        });
        for (name, f) in [
            ("exp", elementwise::exp as fn(Tensor) -> modelark_tensor::Result<Tensor>),
            ("log", elementwise::log),
            ("tanh", elementwise::tanh),
            ("sigmoid", elementwise::sigmoid),
            ("erf", elementwise::erf),
            ("softmax", norm::softmax),
        ] {
            group.bench_function(format!("{name} {n}"), |bench| bench.iter(|| f(black_box(&a).clone())));
        }
        group.bench_function(format!("sum of columns {n}"), |bench| {
            bench.iter(|| reduce::sum(black_box(&a), &[0], false));
        });
        group.bench_function(format!("sum of all {n}"), |bench| {
            bench.iter(|| reduce::sum(black_box(&a), &[0, 1], false));
        });
        group.bench_function(format!("transpose {n}"), |bench| {
            bench.iter(|| array::transpose(black_box(&a), &[1, 0]));
        });
    }
}

fn sequences(c: &mut Criterion) {
    let mut group = c.benchmark_group("lstm");
    for (batch, steps, features, units) in [(1, 100, 64, 128), (32, 100, 64, 128)] {
        let (x, kernel) = (random(&[batch, steps, features]), random(&[features, 4 * units]));
        let (recurrent, bias) = (random(&[units, 4 * units]), random(&[4 * units]));
        group.throughput(Throughput::Elements((2 * batch * steps * 4 * units * (features + units)) as u64));
        group.bench_function(format!("{batch}x{steps}x{features} to {units}"), |bench| {
            bench.iter(|| {
                let r = Recurrence {
                    inputs: black_box(&x),
                    kernel: &kernel,
                    recurrent_kernel: &recurrent,
                    packed: None,
                    bias: Some(&bias),
                    initial: &[],
                    mask: None,
                    zero_output_for_mask: false,
                    time_major: false,
                    go_backwards: false,
                    return_sequence: true,
                };
                lstm(r, Lstm::default())
            });
        });
    }
}

criterion_group!(benches, products, convolutions, once, elements, sequences);
criterion_main!(benches);
