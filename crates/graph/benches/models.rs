//! Models, or the blocks that they repeat, as plans, with passes and without; and what a plan costs by the nodes it has.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelark_graph::engine::{Program, Resource, Resources, Value, Values, Variable};
use modelark_graph::tensor::{DType, Tensor};
use modelark_graph::{Builder, Result, Sym};

fn random(shape: &[usize]) -> Result<Tensor> {
    let mut state = 1u64;
    let values = (0..shape.iter().product::<usize>()).map(|_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.1
    });
    Ok(Tensor::from_vec(values.collect(), shape)?)
}

/// Measures a function of one input and variables.
fn model(
    c: &mut Criterion,
    name: &str,
    input: &[usize],
    weights: &[&[usize]],
    trace: impl FnOnce(&mut Builder, Sym, &[Sym]) -> Result<Sym>,
) -> Result<()> {
    let mut b = Builder::new("f");
    let x = b.arg("x", DType::F32)?;
    let mut handles = Vec::new();
    for i in 0..weights.len() {
        handles.push(b.arg(&format!("w{i}"), DType::Resource)?);
    }
    let mut ws = Vec::new();
    for handle in handles {
        ws.push(b.op("ReadVariableOp").input(handle).attr("dtype", DType::F32).one()?);
    }
    let y = trace(&mut b, x, &ws)?;
    let (f, mut library) = b.finish(&[("y", y)])?;
    library.insert(f);
    let mut inputs: Values = [Value::from(random(input)?)].into_iter().collect();
    for shape in weights {
        inputs.push(Resource::Variable(Arc::new(Variable::with_value("w", random(shape)?))).into());
    }
    let mut group = c.benchmark_group(name);
    for (way, passes) in [("passes", true), ("plain", false)] {
        let run = Program::with_passes(library.clone(), passes).function("f")?;
        let resources = Resources::new();
        run.run(&resources, inputs.clone())?;
        group.bench_function(way, |bench| bench.iter(|| run.run(&resources, black_box(inputs.clone()))));
    }
    group.finish();
    Ok(())
}

fn conv(b: &mut Builder, op: &str, x: Sym, w: Sym) -> Result<Sym> {
    b.op(op).input(x).input(w).attr("strides", vec![1i64; 4]).attr("padding", "SAME").one()
}

fn dense(b: &mut Builder, x: Sym, w: Sym, bias: Sym) -> Result<Sym> {
    let y = b.matmul(x, w)?;
    b.bias_add(y, bias)
}

fn all(c: &mut Criterion) -> Result<()> {
    model(c, "mlp", &[1, 784], &[&[784, 128], &[128], &[128, 10], &[10]], |b, x, w| {
        let y = dense(b, x, w[0], w[1])?;
        let y = b.op("Relu").input(y).one()?;
        let y = dense(b, y, w[2], w[3])?;
        b.op("Softmax").input(y).one()
    })?;
    let kernels: &[&[usize]] = &[&[3, 3, 64, 64], &[64], &[3, 3, 64, 64], &[64]];
    model(c, "residual block", &[1, 28, 28, 64], kernels, |b, x, w| {
        let y = conv(b, "Conv2D", x, w[0])?;
        let y = b.bias_add(y, w[1])?;
        let y = b.op("Relu").input(y).one()?;
        let y = conv(b, "Conv2D", y, w[2])?;
        let y = b.bias_add(y, w[3])?;
        let y = b.add(y, x)?;
        b.op("Relu").input(y).one()
    })?;
    let kernels: &[&[usize]] = &[&[1, 1, 32, 192], &[192], &[3, 3, 192, 1], &[192], &[1, 1, 192, 32], &[32]];
    model(c, "inverted residual block", &[1, 28, 28, 32], kernels, |b, x, w| {
        let y = conv(b, "Conv2D", x, w[0])?;
        let y = b.bias_add(y, w[1])?;
        let y = b.op("Relu6").input(y).one()?;
        let y = conv(b, "DepthwiseConv2dNative", y, w[2])?;
        let y = b.bias_add(y, w[3])?;
        let y = b.op("Relu6").input(y).one()?;
        let y = conv(b, "Conv2D", y, w[4])?;
        let y = b.bias_add(y, w[5])?;
        b.add(y, x)
    })?;
    model(c, "feed-forward", &[128, 512], &[&[512, 2048], &[2048], &[2048, 512], &[512]], |b, x, w| {
        let y = dense(b, x, w[0], w[1])?;
        let root = b.scalar(std::f32::consts::SQRT_2)?;
        let inner = b.div(y, root)?;
        let erf = b.op("Erf").input(inner).one()?;
        let one = b.scalar(1.0f32)?;
        let factor = b.add(one, erf)?;
        let half = b.scalar(0.5f32)?;
        let y = b.mul(half, y)?;
        let y = b.mul(y, factor)?;
        let y = dense(b, y, w[2], w[3])?;
        b.add(y, x)
    })?;
    let vectors: &[&[usize]] = &[&[512, 8, 64], &[512, 8, 64], &[512, 8, 64], &[8, 64, 512]];
    model(c, "self-attention", &[1, 128, 512], vectors, |b, x, w| {
        let einsum = |b: &mut Builder, equation: &str, x: Sym, y: Sym| {
            b.op("Einsum").inputs(&[x, y]).attr("equation", equation).one()
        };
        let q = einsum(b, "abc,cde->abde", x, w[0])?;
        let k = einsum(b, "abc,cde->abde", x, w[1])?;
        let v = einsum(b, "abc,cde->abde", x, w[2])?;
        let scores = einsum(b, "BTNH,BSNH->BNTS", q, k)?;
        let scale = b.scalar(0.125f32)?;
        let scores = b.mul(scores, scale)?;
        let shares = b.op("Softmax").input(scores).one()?;
        let y = einsum(b, "BNTS,BSNH->BTNH", shares, v)?;
        einsum(b, "abcd,cde->abe", y, w[3])
    })?;
    model(c, "lstm", &[32, 200, 128], &[&[32, 128], &[128, 512], &[128, 512], &[512]], |b, x, w| {
        let call = b.op("ModelarkLSTM").inputs(&[x, w[0], w[0], w[1], w[2], w[3]]);
        let call = call.attr("use_bias", 1i64).attr("masked", 0i64);
        call.all()?.get(1).copied().ok_or_else(|| modelark_graph::Error::graph("an LSTM gives its output"))
    })?;
    let kernels: &[&[usize]] = &[&[2, 2, 32, 64], &[32], &[3, 3, 64, 32], &[32]];
    model(c, "upward block", &[1, 64, 64, 64], kernels, |b, x, w| {
        let shape = b.ints(&[1, 128, 128, 32])?;
        let up = b.op("Conv2DBackpropInput").inputs(&[shape, w[0], x]).attr("padding", "SAME");
        let up = up.attr("strides", vec![1i64, 2, 2, 1]).one()?;
        let up = b.bias_add(up, w[1])?;
        let both = b.concat(&[up, up], 3)?;
        let y = conv(b, "Conv2D", both, w[2])?;
        let y = b.bias_add(y, w[3])?;
        b.op("Relu").input(y).one()
    })?;
    model(c, "dense 4096", &[1, 4096], &[&[4096, 4096], &[4096]], |b, x, w| {
        let y = dense(b, x, w[0], w[1])?;
        b.op("Relu").input(y).one()
    })
}

/// A graph of many nodes, from its nodes to a first run: the time a node takes must not grow with their number.
fn many_nodes(c: &mut Criterion, nodes: usize) -> Result<()> {
    let mut b = Builder::new("f");
    let x = b.arg("x", DType::F32)?;
    let mut y = x;
    for _ in 0..nodes / 2 {
        y = b.op("Neg").input(y).one()?;
        y = b.add(y, x)?;
    }
    let (f, mut library) = b.finish(&[("y", y)])?;
    library.insert(f);
    let given: Values = [Value::from(Tensor::scalar(1.0f32))].into_iter().collect();
    let mut group = c.benchmark_group("many nodes");
    group.throughput(Throughput::Elements(nodes as u64)).sample_size(10);
    group.bench_function(nodes.to_string(), |bench| {
        bench.iter(|| Program::new(library.clone()).function("f")?.run(&Resources::new(), given.clone()));
    });
    group.finish();
    Ok(())
}

fn models(c: &mut Criterion) {
    let made = all(c).and_then(|()| [1_000, 10_000, 100_000].iter().try_for_each(|n| many_nodes(c, *n)));
    if let Err(e) = made {
        unreachable!("the models are well formed: {e}");
    }
}

criterion_group!(benches, models);
criterion_main!(benches);
