"""The cases of the op suite, a function a family."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .op_suite import Case, Draw, kept, raw

f32, f64, f16, i32, i64 = np.float32, np.float64, np.float16, np.int32, np.int64


def ints(*values: int, dtype: type = i32) -> np.ndarray:
    return np.array(values, dtype)


def unary(d: Draw) -> Iterator[Case]:
    import tensorflow as tf

    plain = "Abs Exp Expm1 Sin Cos Tan Atan Sinh Cosh Tanh Asinh Erf Erfc Sigmoid Softplus Softsign Relu Relu6 Elu Selu Square Sign Neg Floor Ceil Round Rint LeakyRelu IsNan IsInf IsFinite Inv Reciprocal ZerosLike OnesLike"
    for op in plain.split():
        yield raw(op, d.f(3, 4))
        yield raw(op, d.f(2, 3, dtype=f64))
    for op in "Log Log1p Sqrt Rsqrt Lgamma Digamma".split():
        yield raw(op, d.pos(3, 4), rtol=1e-3)
        yield raw(op, d.pos(5, dtype=f64))
    for op in "Acos Asin Atanh Erfinv".split():
        yield raw(op, d.unit(3, 4))
    yield raw("Acosh", d.pos(4) + f32(1))
    yield raw("Ndtri", d.rng.rand(5).astype(f32) * f32(0.9) + f32(0.05))
    for op in ["Abs", "Neg", "Square", "Sign", "Relu"]:
        yield raw(op, d.i(4))
        yield raw(op, d.i(4, dtype=i64))
    for op in ["Invert", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "LeftShift", "RightShift"]:
        args = [d.i(3, 4, low=0, dtype=np.int16)] + ([] if op == "Invert" else [d.i(3, 4, low=0, high=5, dtype=np.int16)])
        yield raw(op, *args)
    for op in ["Real", "Imag", "ComplexAbs", "Angle", "Conj"]:
        yield raw(op, d.c(3, 2))
    for op in ["Exp", "Sin", "Tanh", "Square", "Reciprocal"]:
        yield raw(op, d.c(4))
    yield raw("LogicalNot", d.b(3, 2))
    for op in "BesselI0 BesselI1 BesselI0e BesselI1e BesselJ0 BesselJ1 Dawsn Expint Spence FresnelSin FresnelCos".split():
        yield raw(op, d.pos(6), rtol=1e-3)
    for op in "BesselK0 BesselK1 BesselK0e BesselK1e BesselY0 BesselY1".split():
        yield raw(op, d.pos(6), rtol=1e-3)
    for source, to in [(f32, tf.int32), (i32, tf.float32), (f32, tf.bool), (np.bool_, tf.float32), (f64, tf.float32), (f32, tf.float16), (i64, tf.uint8), (f32, tf.complex64)]:
        yield raw("Cast", (d.f(3, 3, scale=4)).astype(source), DstT=to)


def binary(d: Draw) -> Iterator[Case]:
    shapes = [((2, 3), (2, 3)), ((2, 3), (3,)), ((4, 1), (1, 5)), ((), (3,)), ((0, 3), (3,))]
    for op in "Add AddV2 Sub Mul RealDiv Maximum Minimum SquaredDifference Less LessEqual Greater GreaterEqual Equal NotEqual".split():
        for a, b in shapes[:3] if op in ("Add", "RealDiv") else shapes:
            yield raw(op, d.f(*a), d.f(*b))
    for op in "Add Sub Mul Maximum Minimum FloorDiv FloorMod TruncateDiv TruncateMod Mod Div".split():
        yield raw(op, d.i(3, 4), d.i(3, 4, low=1))
        yield raw(op, d.i(6, dtype=i64), d.i(6, low=1, dtype=i64))
    for op in "FloorDiv FloorMod DivNoNan MulNoNan Atan2 NextAfter Xdivy Div".split():
        yield raw(op, d.f(3, 4), d.f(3, 4))
    for op in ["Pow", "Xlogy", "Xlog1py", "Igamma", "Igammac", "Zeta"]:
        yield raw(op, d.pos(3, 2) + f32(1 if op == "Zeta" else 0), d.pos(3, 2), rtol=1e-3)
    yield raw("Polygamma", ints(1, 2, 3).astype(f32), d.pos(3), rtol=1e-3)
    yield raw("Betainc", d.pos(4), d.pos(4), d.rng.rand(4).astype(f32), rtol=1e-3)
    for op in ["LogicalAnd", "LogicalOr"]:
        yield raw(op, d.b(2, 3), d.b(3))
    for op in ["AddV2", "Mul", "Sub", "RealDiv"]:
        yield raw(op, d.c(2, 2), d.c(2))
        yield raw(op, d.f(4, dtype=f16), d.f(4, dtype=f16))
    yield raw("Complex", d.f(3), d.f(3))
    yield raw("ApproximateEqual", d.i(9).astype(f32), d.i(9).astype(f32), tolerance=1.5)
    yield raw("AddN", [d.f(2, 2), d.f(2, 2), d.f(2, 2)])
    yield raw("AccumulateNV2", [d.f(2, 2), d.f(2, 2)], shape=[2, 2])
    yield raw("BiasAdd", d.f(2, 3, 4), d.f(4))
    yield raw("BiasAdd", d.f(2, 4, 3, 2), d.f(4), data_format="NCHW")
    yield raw("ClipByValue", d.f(3, 4), f32(-0.5), f32(1))
    yield raw("Cross", d.f(4, 3), d.f(4, 3))
    yield raw("SelectV2", d.b(3, 1), d.f(3, 2), d.f(2))
    yield raw("Select", d.b(3), d.f(3, 2), d.f(3, 2))


def products(d: Draw) -> Iterator[Case]:
    for ta in [False, True]:
        for tb in [False, True]:
            a, b = d.f(*((4, 3) if ta else (3, 4))), d.f(*((5, 4) if tb else (4, 5)))
            yield raw("MatMul", a, b, transpose_a=ta, transpose_b=tb)
            yield raw("BatchMatMulV2", np.stack([a, a]), b[None], adj_x=ta, adj_y=tb)
            yield raw("SparseMatMul", a, b, transpose_a=ta, transpose_b=tb)
    yield raw("MatMul", d.i(2, 3), d.i(3, 2))
    yield raw("BatchMatMul", d.f(2, 3, 4), d.f(2, 4, 2))
    yield raw("BatchMatMulV3", d.f(2, 3), d.f(3, 2), Tout=np.float32)
    for equation, *shapes in [("ij,jk->ik", (2, 3), (3, 4)), ("bij->bji", (2, 3, 4)), ("...ij,...jk->...ik", (2, 1, 2, 3), (4, 3, 2)), ("ii->i", (3, 3)), ("abc,cd->abd", (2, 3, 4), (4, 2)), ("ij->", (2, 3)), ("i,j->ij", (3,), (4,))]:
        yield raw("Einsum", [d.f(*s) for s in shapes], equation=equation)
    spd = lambda m: m @ m.T + 3 * np.eye(len(m), dtype=m.dtype)
    for dtype in [f32, f64]:
        m = spd(d.f(4, 4, dtype=dtype))
        rhs = d.f(4, 2, dtype=dtype)
        for op in ["Cholesky", "MatrixInverse", "MatrixDeterminant", "LogMatrixDeterminant", "MatrixSquareRoot"]:
            yield raw(op, m, rtol=1e-3)
        yield raw("MatrixSolve", m, rhs, rtol=1e-3)
        yield raw("MatrixSolve", m, rhs, adjoint=True, rtol=1e-3)
        yield raw("MatrixTriangularSolve", np.tril(m), rhs, rtol=1e-3)
        yield raw("MatrixTriangularSolve", np.triu(m), rhs, lower=False, adjoint=True, rtol=1e-3)
        yield raw("MatrixSolveLs", d.f(5, 3, dtype=dtype), d.f(5, 2, dtype=dtype), 0.1, fast=True, rtol=1e-3)
        yield raw("TridiagonalSolve", np.stack([d.f(4, dtype=dtype), d.pos(4, dtype=dtype) + dtype(4), d.f(4, dtype=dtype)]), rhs, rtol=1e-3)
        for case in [raw("Svd", d.f(4, 3, dtype=dtype), compute_uv=False, rtol=1e-3), raw("SelfAdjointEigV2", m, compute_v=False, rtol=1e-3)]:
            yield Case(case.name, lambda *x, run=case.function: run(*x)[0], case.inputs, case.rtol)
        yield raw("Lu", m, rtol=1e-3)
    yield raw("MatrixBandPart", d.f(2, 4, 4), i64(1), i64(-1))
    for k in [ints(0), ints(-1), ints(-1, 1)]:
        yield raw("MatrixDiagPartV3", d.f(3, 4), k, f32(9))
    yield raw("MatrixDiagV3", d.f(2, 3), ints(1), i32(-1), i32(-1), f32(0))
    yield raw("MatrixDiagV2", d.f(3), i32(0), i32(-1), i32(-1), f32(7))
    yield raw("MatrixSetDiagV3", d.f(3, 3), d.f(3), ints(0))
    for op in ["MatrixDiag", "Diag", "MatrixDiagPart", "DiagPart"]:
        yield raw(op, d.f(3) if op in ("MatrixDiag", "Diag") else d.f(3, 3))
    yield raw("MatrixSetDiag", d.f(2, 3, 3), d.f(2, 3))


def reductions(d: Draw) -> Iterator[Case]:
    for op in "Sum Mean Max Min Prod EuclideanNorm".split():
        for axes, keep in [(ints(0), False), (ints(1, -1), True), (ints(), False), (i32(-1), False)]:
            yield raw(op, d.f(2, 3, 4), axes, keep_dims=keep)
        yield raw(op, d.i(3, 4), ints(1))
        yield raw(op, d.f(0, 3), ints(0))
    for op in ["All", "Any"]:
        for axes in [ints(0), ints(0, 1)]:
            yield raw(op, d.b(3, 4), axes)
    for op in ["ArgMax", "ArgMin"]:
        for axis in [0, -1]:
            yield raw(op, d.f(3, 4), i32(axis))
        yield raw(op, d.i(5), i32(0), output_type=np.int32)
    for op in ["Cumsum", "Cumprod", "CumulativeLogsumexp"]:
        for exclusive, reverse in [(False, False), (True, True)]:
            yield raw(op, d.f(2, 4), i32(1), exclusive=exclusive, reverse=reverse)
    yield raw("L2Loss", d.f(3, 4))
    yield raw("Softmax", d.f(3, 5))
    yield raw("LogSoftmax", d.f(3, 5))
    yield raw("SoftmaxCrossEntropyWithLogits", d.f(3, 5), d.pos(3, 5))
    yield raw("SparseSoftmaxCrossEntropyWithLogits", d.f(3, 5), ints(0, 4, 2))
    for op in ["SegmentSum", "SegmentMean", "SegmentProd", "SegmentMax", "SegmentMin"]:
        yield raw(op, d.f(5, 2), ints(0, 0, 1, 3, 3))
    for op in ["UnsortedSegmentSum", "UnsortedSegmentProd", "UnsortedSegmentMax", "UnsortedSegmentMin"]:
        yield raw(op, d.f(5, 2), ints(2, 0, 1, 0, -1), i32(4))
    for op in ["SparseSegmentSum", "SparseSegmentMean", "SparseSegmentSqrtN"]:
        yield raw(op, d.f(5, 2), ints(0, 4, 2, 2), ints(0, 0, 1, 2))
        yield raw(op + "WithNumSegments", d.f(5, 2), ints(0, 4, 2), ints(0, 0, 2), i32(4))
    yield raw("Bincount", d.i(9, low=0, high=5), i32(6), d.f(9))
    yield raw("DenseBincount", d.i(2, 5, low=0, high=5), i32(5), np.zeros(0, f32), binary_output=True)
    yield raw("HistogramFixedWidth", d.f(20), np.array([-2, 2], f32), i32(5))
    yield raw("Bucketize", d.f(9), boundaries=[-1.0, 0.0, 1.5])
    yield raw("TopKV2", d.f(3, 6), i32(2))
    yield raw("NthElement", d.f(3, 6), i32(2), reverse=True)
    yield raw("InTopKV2", d.f(3, 6), ints(1, 5, 0), i32(2))
    yield raw("Unique", d.i(9))
    yield raw("UniqueWithCounts", d.i(9), out_idx=np.int64)
    yield raw("UniqueV2", d.i(6, 2, low=0, high=2), ints(0, dtype=i64))
    yield raw("ListDiff", d.i(9), d.i(4))
    yield raw("LowerBound", np.sort(d.f(2, 5)), d.f(2, 3))
    yield raw("UpperBound", np.sort(d.f(2, 5)), d.f(2, 3))


def moves(d: Draw) -> Iterator[Case]:
    x = d.f(2, 3, 4)
    for op, attrs in [("Shape", {}), ("Size", {}), ("Rank", {}), ("Shape", {"out_type": np.int64})]:
        yield raw(op, x, **attrs)
    yield raw("ShapeN", [x, d.f(2)])
    yield raw("Reshape", x, ints(4, -1))
    for axis in [0, -1, 2]:
        yield raw("ExpandDims", x, i32(axis))
    yield raw("Squeeze", d.f(1, 3, 1), axis=[0])
    yield raw("Squeeze", d.f(1, 3, 1))
    yield raw("Transpose", x, ints(2, 0, 1))
    yield raw("ConjugateTranspose", d.c(2, 3), ints(1, 0))
    yield raw("InvertPermutation", ints(2, 0, 1))
    for axis in [0, 2]:
        yield raw("ConcatV2", [d.f(2, 3, 4), d.f(2, 3, 4)], i32(axis))
        yield raw("Pack", [x, x], axis=axis)
        yield raw("Unpack", x, num=[2, 3, 4][axis], axis=axis)
    yield raw("Concat", 1, [d.f(2, 1), d.f(2, 3)])
    yield raw("Split", 1, d.f(2, 6), num_split=3)
    yield raw("SplitV", d.f(2, 6), ints(1, -1, 2), 1, num_split=3)
    yield raw("Slice", x, ints(0, 1, 2), ints(-1, 2, 1))
    for masks in [{}, {"begin_mask": 1, "end_mask": 2}, {"shrink_axis_mask": 2}, {"new_axis_mask": 1}, {"ellipsis_mask": 1}]:
        yield raw("StridedSlice", x, ints(0, 1), ints(2, 2), ints(1, 1), **masks)
    yield raw("StridedSlice", x, ints(-1), ints(-3), ints(-1))
    yield raw("Tile", d.f(2, 3), ints(2, 1))
    yield raw("BroadcastTo", d.f(3, 1), ints(2, 3, 4))
    yield raw("BroadcastArgs", ints(2, 1), ints(3))
    yield raw("Fill", ints(2, 3), f32(1.5))
    yield raw("Range", i32(1), i32(9), i32(3))
    yield raw("Range", f32(0), f32(1), f32(0.3))
    yield raw("LinSpace", f32(0), f32(1), i32(5))
    for axis in [-1, 0]:
        yield raw("OneHot", d.i(3, low=0, high=4), 4, f32(2), f32(-1), axis=axis)
    pads = np.array([[1, 0], [2, 1]], i32)
    yield raw("Pad", d.f(2, 3), pads)
    yield raw("PadV2", d.f(2, 3), pads, f32(7))
    for mode in ["REFLECT", "SYMMETRIC"]:
        yield raw("MirrorPad", d.f(3, 3), pads, mode=mode)
    yield raw("ReverseV2", x, ints(0, -1))
    yield raw("Reverse", x, np.array([True, False, True]))
    for batch, seq in [(0, 1), (1, 0)]:
        yield raw("ReverseSequence", d.f(3, 3, 2), ints(1, 3, 2), seq_dim=seq, batch_dim=batch)
    yield raw("Roll", d.f(3, 4), ints(1, -2), ints(0, 1))
    yield raw("Where", d.b(3, 4))
    yield raw("Where", d.i(5, low=0, high=2))
    yield raw("Gather", d.f(4, 2), ints(3, 0))
    for axis, batch in [(0, 0), (1, 0), (1, 1), (-1, 0)]:
        yield raw("GatherV2", d.f(2, 3, 4), d.i(2, 2, low=0, high=2), i32(axis), batch_dims=batch)
    yield raw("GatherNd", d.f(3, 4), np.array([[0, 1], [2, 3]], i32))
    yield raw("GatherNd", d.f(3, 4), np.array([[0], [2]], i64))
    yield raw("ScatterNd", np.array([[0], [2], [0]], i32), d.f(3, 2), ints(4, 2))
    for op in ["TensorScatterUpdate", "TensorScatterAdd", "TensorScatterSub", "TensorScatterMax", "TensorScatterMin"]:
        yield raw(op, d.f(4, 2), np.array([[1], [3]], i32), d.f(2, 2))
    yield raw("DynamicPartition", d.f(5, 2), ints(0, 1, 1, 0, 2), num_partitions=3)
    for op in ["DynamicStitch", "ParallelDynamicStitch"]:
        yield raw(op, [ints(0, 2), ints(1, 3)], [d.f(2, 2), d.f(2, 2)])
    yield raw("SpaceToBatchND", d.f(1, 4, 6, 2), ints(2, 3), np.array([[0, 0], [0, 0]], i32))
    yield raw("BatchToSpaceND", d.f(6, 2, 2, 1), ints(2, 3), np.array([[0, 1], [1, 0]], i32))
    yield raw("SpaceToBatch", d.f(1, 4, 4, 2), np.array([[0, 0], [0, 0]], i32), block_size=2)
    yield raw("BatchToSpace", d.f(4, 2, 2, 1), np.array([[0, 0], [1, 0]], i32), block_size=2)
    yield raw("SpaceToDepth", d.f(1, 4, 6, 2), block_size=2)
    yield raw("DepthToSpace", d.f(1, 2, 3, 8), block_size=2)
    yield raw("UnravelIndex", ints(5, 11), ints(3, 4))
    yield raw("Bitcast", d.f(3), type=np.int32)
    yield raw("Identity", x)
    yield raw("IdentityN", [x, d.i(2)])
    yield raw("Snapshot", x)
    yield raw("StopGradient", x)
    yield raw("PreventGradient", x)
    yield raw("EnsureShape", x, shape=[None, 3, 4])
    yield raw("CheckNumerics", x, message="no")
    yield raw("ToBool", f32(2))
    yield raw("PopulationCount", d.i(4))
    yield raw("Empty", ints(2, 2), dtype=np.float32, init=True)


def windows(d: Draw) -> Iterator[Case]:
    for padding in ["SAME", "VALID"]:
        for stride in [1, 2]:
            s = [1, stride, stride, 1]
            yield raw("Conv2D", d.f(2, 7, 6, 3), d.f(3, 2, 3, 4), strides=s, padding=padding)
            yield raw("DepthwiseConv2dNative", d.f(2, 7, 6, 3), d.f(3, 2, 3, 2), strides=s, padding=padding)
            for op in ["MaxPool", "AvgPool"]:
                yield raw(op, d.f(2, 7, 6, 3), ksize=[1, 3, 2, 1], strides=s, padding=padding)
                yield raw(op + "3D", d.f(1, 5, 6, 4, 2), ksize=[1, 2, 3, 2, 1], strides=[1, stride, 1, stride, 1], padding=padding)
            yield raw("Conv3D", d.f(1, 5, 6, 4, 2), d.f(2, 3, 2, 2, 3), strides=[1, stride, stride, stride, 1], padding=padding)
            yield raw("MaxPoolWithArgmax", d.f(2, 7, 6, 3), ksize=[1, 2, 2, 1], strides=s, padding=padding)
            yield raw("ExtractImagePatches", d.f(1, 6, 6, 2), ksizes=[1, 2, 3, 1], strides=s, rates=[1, 1, 2, 1], padding=padding)
            h = -(-7 // stride) if padding == "SAME" else (7 - 3) // stride + 1
            w = -(-6 // stride) if padding == "SAME" else (6 - 2) // stride + 1
            yield raw("Conv2DBackpropInput", ints(2, 7, 6, 3), d.f(3, 2, 3, 4), d.f(2, h, w, 4), strides=s, padding=padding)
            yield raw("Dilation2D", d.f(1, 6, 6, 2), d.f(2, 2, 2), strides=s, rates=[1, 1, 1, 1], padding=padding)
    yield raw("Conv2D", d.f(1, 9, 9, 2), d.f(3, 3, 2, 2), strides=[1, 1, 1, 1], padding="SAME", dilations=[1, 2, 2, 1])
    yield raw("Conv2D", d.f(1, 5, 5, 2), d.f(3, 3, 2, 2), strides=[1, 1, 1, 1], padding="EXPLICIT", explicit_paddings=[0, 0, 1, 2, 0, 1, 0, 0])
    c = [d.f(3), d.f(3), d.f(3), d.pos(3)]
    for op in ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"]:
        case = raw(op, d.f(2, 4, 5, 3), *c, is_training=False)
        yield Case(case.name, lambda *x, run=case.function: run(*x)[0], case.inputs, case.rtol)
    yield raw("LRN", d.f(1, 3, 3, 8), depth_radius=2, bias=1.0, alpha=0.5, beta=0.75)
    for op in ["ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"]:
        for corners, half in [(False, False), (True, False), (False, True)]:
            yield raw(op, d.f(1, 4, 5, 2), ints(7, 3), align_corners=corners, half_pixel_centers=half)
    yield raw("ResizeArea", d.f(1, 4, 6, 2), ints(2, 3))
    for method in ["bilinear", "nearest"]:
        yield raw("CropAndResize", d.f(2, 5, 6, 3), np.array([[0, 0, 1, 1], [0.2, 0.9, 0.8, 0.1]], f32), ints(0, 1), ints(3, 4), method=method)
    for op in ["RGBToHSV", "HSVToRGB"]:
        yield raw(op, d.rng.rand(2, 3, 3).astype(f32))
    image = d.rng.rand(1, 4, 4, 3).astype(f32)
    for op in ["AdjustHue", "AdjustSaturation", "AdjustContrastv2"]:
        yield raw(op, image, f32(0.3))
        yield raw(op, image, f32(0.9))
    turn = np.array([[0.8, 0.6, -1, -0.6, 0.8, 2, 0.01, 0]], f32)
    for how in ["NEAREST", "BILINEAR"]:
        for fill in ["CONSTANT", "REFLECT", "WRAP", "NEAREST"]:
            yield raw("ImageProjectiveTransformV3", image, turn, ints(5, 4), f32(0.5), interpolation=how, fill_mode=fill)
    for name in ["lanczos3", "triangle", "gaussian"]:
        yield raw("ScaleAndTranslate", image, ints(3, 6), np.array([0.7, 1.4], f32), np.array([0, 0.5], f32), kernel_type=name)
    yield raw("FusedPadConv2D", d.f(1, 5, 4, 2), np.array([[0, 0], [1, 1], [1, 1], [0, 0]], i32), d.f(3, 2, 2, 3), mode="REFLECT", strides=[1, 1, 1, 1], padding="VALID")
    corner = d.rng.rand(8, 2)
    boxes = np.concatenate([corner, corner + d.rng.rand(8, 2)], -1).astype(f32)
    scores = d.rng.rand(8).astype(f32)
    yield raw("NonMaxSuppression", boxes, scores, i32(4), iou_threshold=0.3)
    yield raw("NonMaxSuppressionV2", boxes, scores, i32(4), f32(0.3))
    yield raw("NonMaxSuppressionV3", boxes, scores, i32(4), f32(0.3), f32(0.2))
    yield raw("NonMaxSuppressionV4", boxes, scores, i32(4), f32(0.3), f32(0.2), pad_to_max_output_size=True)
    yield raw("NonMaxSuppressionV5", boxes, scores, i32(4), f32(0.3), f32(0.2), f32(0.5))
    yield raw("CombinedNonMaxSuppression", boxes[None, :, None], d.rng.rand(1, 8, 3).astype(f32), i32(2), i32(5), f32(0.3), f32(0.2))
    for op in ["FFT", "FFT2D", "FFT3D", "IFFT", "IFFT2D", "IFFT3D"]:
        yield raw(op, d.c(3, 4, 6))
    for op in ["RFFT", "RFFT2D", "RFFT3D"]:
        rank = int(op[4]) if op[4:] else 1
        yield raw(op, d.f(4, 4, 6), ints(*[4, 4, 6][3 - rank :]))
        yield raw("I" + op, d.c(4, 4, 4), ints(*[4, 4, 6][3 - rank :]), rtol=1e-3)
    a = dict(min=-3.0, max=4.0, num_bits=8, narrow_range=False)
    yield raw("FakeQuantWithMinMaxArgs", d.f(4, 4), **a)
    yield raw("FakeQuantWithMinMaxVars", d.f(4, 4), f32(-2), f32(3), num_bits=8)
    yield raw("FakeQuantWithMinMaxVarsPerChannel", d.f(4, 2), np.array([-1, -2], f32), np.array([1, 3], f32), narrow_range=True)
    yield raw("QuantizeAndDequantizeV3", d.f(4, 4), f32(-2), f32(3), i32(8))


def text(d: Draw) -> Iterator[Case]:
    words = ["Hello World", "", " padded ", "a,b;c"]
    for op in ["StringLower", "StringUpper"]:
        yield raw(op, words)
        yield raw(op, ["ÄÖ ß"], encoding="utf-8")
    yield raw("StringStrip", words)
    for unit in ["BYTE", "UTF8_CHAR"]:
        yield raw("StringLength", ["añb", ""], unit=unit)
    yield Case("StringJoin", joined)
    yield raw("StringSplitV2", words, ",")
    yield raw("StringSplit", words, " ,")
    yield raw("Substr", ["hello", "world"], ints(1, -2), ints(3, 2))
    yield raw("StaticRegexReplace", words, pattern="[a-e]+", rewrite="<\\0>")
    yield raw("RegexReplace", words, "l+", "L", replace_global=False)
    yield raw("RegexFullMatch", words, ".*o.*")
    yield raw("StaticRegexFullMatch", words, pattern="[A-Z].*")
    for op, attrs in [("StringToHashBucketFast", {}), ("StringToHashBucket", {}), ("StringToHashBucketStrong", {"key": [3, 4]})]:
        yield raw(op, words, num_buckets=1000, **attrs)
    for t in [np.float32, np.int32]:
        yield raw("StringToNumber", ["12", "-3"], out_type=t)
    yield raw("AsString", d.f(4), precision=3)
    yield raw("AsString", d.i(4), width=5, fill="0")
    yield raw("AsString", d.b(3))
    yield raw("ReduceJoin", [["a", "b"], ["c", "d"]], ints(1), separator="+")
    yield raw("UnicodeDecode", ["añb", "😀"], input_encoding="UTF-8")
    yield raw("UnicodeDecodeWithOffsets", ["añb", "😀"], input_encoding="UTF-8")
    yield raw("UnicodeEncode", ints(97, 241, 128512), ints(0, 2, 3, dtype=i64), output_encoding="UTF-8")
    yield raw("UnicodeTranscode", [b"a\xffb"], input_encoding="UTF-8", output_encoding="UTF-16-BE")
    yield raw("UnicodeScript", ints(97, 0x3B1, 0x4E00))
    yield raw("StringNGrams", ["a", "b", "c"], ints(0, 2, 3), separator=" ", ngram_widths=[2], left_pad="", right_pad="", pad_width=0, preserve_short_sequences=True)
    yield raw("EncodeBase64", ["hello"], pad=True)
    yield raw("DecodeBase64", ["aGVsbG8"])
    yield raw("DecodeRaw", [b"abcdefgh"], out_type=np.int16)
    yield raw("DecodePaddedRaw", [b"abc"], 4, out_type=np.uint8)
    yield raw("Fingerprint", d.f(3, 2), "farmhash64")
    yield Case("StringFormat", formatted, (d.f(3),))
    yield Case("decode_csv", csv)
    yield Case("ragged strings", ragged_strings)
    yield Case("tf.strings.bytes_split", split_bytes)


def joined():
    import tensorflow as tf

    return tf.strings.join([["a", "b"], ["c", "d"]], separator="-")


def formatted(x):
    import tensorflow as tf

    return tf.strings.format("x is {}", x > 0)


def csv():
    import tensorflow as tf

    return tf.io.decode_csv(["1,2.5,x", "3,,y"], [[0], [9.0], [""]])


def ragged_strings():
    import tensorflow as tf

    return tf.strings.split(["a b", "c", ""]).to_tensor("-")


def split_bytes():
    import tensorflow as tf

    return tf.strings.unicode_split(["añb", "x"], "UTF-8").to_tensor("")


def sparse(d: Draw) -> Iterator[Case]:
    at = np.array([[0, 1], [1, 0], [2, 3]], i64)
    shape = np.array([3, 4], i64)
    v = d.f(3)
    for ta in [False, True]:
        yield raw("SparseTensorDenseMatMul", at, v, shape, d.f(3, 2) if ta else d.f(4, 2), adjoint_a=ta)
    yield raw("SparseTensorDenseAdd", at, v, shape, d.f(3, 4))
    yield raw("SparseToDense", at, shape, v, f32(7))
    yield raw("SparseReorder", at[::-1].copy(), v, shape)
    yield raw("SparseReshape", at, shape, ints(2, -1, dtype=i64))
    yield raw("SparseSlice", at, v, shape, ints(0, 0, dtype=i64), ints(2, 2, dtype=i64))
    yield raw("SparseAdd", at, v, shape, at, d.f(3), shape, f32(0))
    yield raw("SparseFillEmptyRows", at[:2], v[:2], shape, f32(5))
    for op in ["SparseReduceSum", "SparseReduceMax"]:
        yield raw(op, at, v, shape, ints(1))
    yield raw("SparseSoftmax", at, v, shape)
    for op in ["SparseDenseCwiseMul", "SparseDenseCwiseDiv", "SparseDenseCwiseAdd"]:
        yield raw(op, at, v, shape, d.pos(3, 4))
    for op in ["SparseSparseMaximum", "SparseSparseMinimum"]:
        yield raw(op, at, v, shape, at, d.f(3), shape)
    yield raw("SparseConcat", [at, at], [v, v], [shape, shape], concat_dim=1)
    yield raw("SparseSplit", 1, at, v, shape, num_split=2)
    for op in ["a-b", "intersection", "union"]:
        yield raw("DenseToDenseSetOperation", np.array([[1, 2, 3]], i32), np.array([[2, 3, 4]], i32), set_operation=op)
    yield raw("RaggedRange", ints(0, 2), ints(3, 5), ints(1, 1))
    yield raw("RaggedTensorToSparse", [ints(0, 2, 3, dtype=i64)], d.f(3))
    yield raw("RaggedTensorToTensor", ints(-1, -1), d.f(3), f32(0), [ints(0, 2, 3, dtype=i64)], row_partition_types=["ROW_SPLITS"])
    yield raw("RaggedGather", [ints(0, 2, 3, dtype=i64)], d.f(3), ints(1, 0), OUTPUT_RAGGED_RANK=1)
    yield Case("ragged reduce_sum", ragged_sum, (d.f(5),))
    yield Case("embedding_lookup_sparse", lookup_sparse, (d.f(6, 3),))


def ragged_sum(x):
    import tensorflow as tf

    return tf.reduce_sum(tf.RaggedTensor.from_row_splits(x, [0, 2, 2, 5]), axis=1)


def lookup_sparse(table):
    import tensorflow as tf

    ids = tf.sparse.from_dense([[1, 2, 0], [3, 0, 0]])
    return [tf.nn.embedding_lookup_sparse(table, ids, None, combiner=c) for c in ("mean", "sum", "sqrtn")]


def control(d: Draw) -> Iterator[Case]:
    for x in [f32(1), f32(-1)]:
        yield Case("cond", condition, (x,))
    yield Case("while_loop", loop, (i32(5), d.f(3)))
    yield Case("while over TensorArray", array_loop, (d.f(4, 2),))
    yield Case("TensorArray gather, scatter, concat, split", arrays, (d.f(4, 2),))
    for n in [0, 1, 7]:
        yield Case("switch_case", switch, (i32(n), d.f(2)))
    yield Case("map_fn", mapped, (d.f(3, 2),))
    yield Case("scan", scanned, (d.f(4),))
    yield Case("foldl", folded, (d.f(4),))
    yield Case("recursion of functions", nested, (d.f(3),))
    yield Case("StaticHashTable", table, (d.i(4, low=0, high=4, dtype=i64),))
    yield Case("StaticVocabularyTable", vocabulary)
    yield Case("DenseHashTable lookups", mutable_table, (d.i(3, low=0, high=9, dtype=i64),))
    yield Case("variables", variables, (d.f(3),))
    yield Case("random from a seed", seeded)
    yield Case("vectorized_map", vectorized, (d.f(3, 2),))
    yield Case("gradient of a small network", gradient, (d.f(2, 3), d.f(3, 2)))
    yield Case("numpy_function-free py logic", clipped, (d.f(3, 4),))
    yield Case("optional", optional, (d.f(2),))
    yield Case("ctc greedy decoder", greedy, (d.f(5, 2, 4),))
    yield Case("ctc loss", ctc, (d.f(5, 2, 4),))
    yield Case("LSTM cell", lstm, (d.f(2, 4, 3), d.f(3, 8), d.f(2, 8)))
    yield Case("stft", stft, (d.f(64),), 1e-3)
    yield Case("mfcc", mfcc, (d.f(128),), 1e-3)
    yield Case("attention", attention, (d.f(2, 3, 4), d.f(2, 5, 4)))
    yield Case("parse_example", examples)


def condition(x):
    import tensorflow as tf

    return tf.cond(x > 0, lambda: x * 2, lambda: x - 1)


def loop(n, x):
    import tensorflow as tf

    return tf.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y * 0.5 + tf.cast(i, tf.float32)), (0, x))[1]


def array_loop(x):
    import tensorflow as tf

    out = tf.TensorArray(tf.float32, size=4)
    _, out = tf.while_loop(lambda i, _: i < 4, lambda i, a: (i + 1, a.write(i, x[i] * tf.cast(i, tf.float32))), (0, out))
    return out.stack()


def arrays(x):
    import tensorflow as tf

    a = tf.TensorArray(tf.float32, size=4).unstack(x)
    b = tf.TensorArray(tf.float32, size=2, infer_shape=False).split(x, [1, 3])
    return a.gather([2, 0]), a.concat(), b.read(1), a.size()


def switch(n, x):
    import tensorflow as tf

    return tf.switch_case(n, [lambda: x, lambda: -x, lambda: x * 3])


def mapped(x):
    import tensorflow as tf

    return tf.map_fn(lambda row: tf.reduce_sum(row) + row, x)


def scanned(x):
    import tensorflow as tf

    return tf.scan(lambda a, v: a * 0.5 + v, x)


def folded(x):
    import tensorflow as tf

    return tf.foldl(lambda a, v: a * 0.5 + v, x), tf.foldr(lambda a, v: a * 0.5 + v, x)


def nested(x):
    import tensorflow as tf

    inner = tf.function(lambda v: v + 1)
    return tf.function(lambda v: inner(v) * inner(-v))(x)


def table(keys):
    import tensorflow as tf

    pairs = [1, 2], ["a", "b"]
    made = kept("table", lambda: tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(*pairs, tf.int64), "?"))
    return made.lookup(keys), made.size()


def vocabulary():
    import tensorflow as tf

    def make():
        words = tf.lookup.KeyValueTensorInitializer(["a", "b"], [0, 1], value_dtype=tf.int64)
        return tf.lookup.StaticVocabularyTable(words, 3)

    return kept("vocabulary", make).lookup(tf.constant(["b", "x", "a", "zz"]))


def mutable_table(keys):
    import tensorflow as tf

    made = kept("mutable", lambda: tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, -1.0))
    made.insert(tf.constant([1, 2, 3], tf.int64), [0.5, 1.5, 2.5])
    made.remove(tf.constant([2], tf.int64))
    return made.lookup(keys), made.size()


def variables(x):
    import tensorflow as tf

    v = kept("variable", lambda: tf.Variable([1.0, 2.0, 3.0]))
    v.assign(x)
    v.assign_add(x)
    v.scatter_update(tf.IndexedSlices(tf.constant([9.0]), tf.constant([1])))
    return v.read_value()


def seeded():
    import tensorflow as tf

    seed = [1, 2]
    r = tf.random
    return r.stateless_uniform([5], seed), r.stateless_normal([5], seed), r.stateless_truncated_normal([3], seed), r.stateless_uniform([4], seed, 0, 100, tf.int32)


def vectorized(x):
    import tensorflow as tf

    return tf.vectorized_map(lambda row: tf.reduce_max(row) * row, x)


def gradient(x, w):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(w)
        loss = tf.reduce_sum(tf.nn.relu(x @ w) ** 2)
    return tape.gradient(loss, w)


def clipped(x):
    import tensorflow as tf

    tf.debugging.assert_all_finite(x, "finite")
    return tf.clip_by_norm(x, 1.0), tf.linalg.normalize(x)[0], tf.math.top_k(x, 2)[1]


def optional(x):
    import tensorflow as tf

    made = tf.experimental.Optional.from_value(x)
    return made.has_value(), made.get_value()


def greedy(logits):
    import tensorflow as tf

    decoded, score = tf.nn.ctc_greedy_decoder(logits, [5, 4])
    return decoded[0].values, score


def ctc(logits):
    import tensorflow as tf

    return tf.compat.v1.nn.ctc_loss(tf.sparse.from_dense([[1, 2], [1, 0]]), logits, [5, 5])


def lstm(x, kernel, recurrent):
    import tensorflow as tf

    h = c = tf.zeros([2, 2])
    for t in range(4):
        i, f, g, o = tf.split(x[:, t] @ kernel + h @ recurrent, 4, axis=-1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
    return h, c


def stft(x):
    import tensorflow as tf

    made = tf.signal.stft(x, 16, 8)
    return tf.abs(made), tf.signal.inverse_stft(made, 16, 8)


def mfcc(x):
    import tensorflow as tf

    spectrum = tf.abs(tf.signal.stft(x, 32, 16, 32))
    mel = tf.tensordot(spectrum, tf.signal.linear_to_mel_weight_matrix(8, 17, 8000, 80.0, 3600.0), 1)
    return tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(mel + 1e-3))


def attention(q, k):
    import tensorflow as tf

    return tf.nn.softmax(tf.einsum("bqd,bkd->bqk", q, k) / 2.0) @ k


def examples():
    import tensorflow as tf

    feature = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2.5])),
        "s": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a"])),
        "r": tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2, 3])),
    }
    one = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    wanted = {
        "x": tf.io.FixedLenFeature([2], tf.float32),
        "s": tf.io.VarLenFeature(tf.string),
        "r": tf.io.RaggedFeature(tf.int64),
        "n": tf.io.FixedLenFeature([], tf.int64, 7),
    }
    parsed = tf.io.parse_example([one, one], wanted)
    return parsed["x"], parsed["s"].values, parsed["r"], parsed["n"]


def quantized(d: Draw) -> Iterator[Case]:
    """Quantized integers, which leave as floats or plain integers."""
    import tensorflow as tf

    raw_ops, low, high = tf.raw_ops, f32(-3.0), f32(3.5)

    def packed(x, mode="MIN_FIRST"):
        return raw_ops.QuantizeV2(input=x, min_range=low, max_range=high, T=tf.quint8, mode=mode)

    def plain(q, low, high):
        q = tf.bitcast(q, {tf.quint8: tf.uint8, tf.qint8: tf.int8, tf.qint32: tf.int32}[q.dtype])
        return q, low, high

    for mode in ["MIN_COMBINED", "MIN_FIRST", "SCALED"]:
        def there_and_back(x, mode=mode):
            q, least, most = packed(x, mode)
            return raw_ops.Dequantize(input=q, min_range=least, max_range=most, mode=mode)

        yield Case(f"Dequantize({mode})", there_and_back, (d.f(3, 4),))

    def product(x, y):
        (a, *of_a), (b, *of_b) = packed(x), packed(y)
        out = raw_ops.QuantizedMatMul(a=a, b=b, min_a=of_a[0], max_a=of_a[1], min_b=of_b[0], max_b=of_b[1])
        return plain(*raw_ops.QuantizeDownAndShrinkRange(input=out[0], input_min=out[1], input_max=out[2], out_type=tf.quint8))

    def convolution(x, y):
        (a, *of_a), (b, *of_b) = packed(x), packed(y)
        return plain(*raw_ops.QuantizedConv2D(
            input=a, filter=b, min_input=of_a[0], max_input=of_a[1], min_filter=of_b[0], max_filter=of_b[1],
            strides=[1, 1, 1, 1], padding="SAME",
        ))

    def chain(x):
        q, least, most = packed(x)
        q, least, most = raw_ops.QuantizedMaxPool(
            input=q, min_input=least, max_input=most, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID"
        )
        return plain(*raw_ops.QuantizedRelu(features=q, min_features=least, max_features=most))

    yield Case("QuantizedMatMul", product, (d.f(3, 4), d.f(4, 5)))
    yield Case("QuantizedConv2D", convolution, (d.f(1, 5, 5, 2), d.f(3, 3, 2, 4)))
    yield Case("QuantizedMaxPool", chain, (d.f(1, 4, 4, 3),))


def kept_values(d: Draw) -> Iterator[Case]:
    """Queues, staging areas, accumulators, maps: what ops put somewhere and take out again."""
    import tensorflow as tf

    raw_ops = tf.raw_ops

    def queue(x):
        kinds = [tf.float32, tf.int32]
        q = raw_ops.FIFOQueueV2(component_types=kinds, shapes=[[2], []], capacity=9, shared_name="suite_fifo")
        raw_ops.QueueEnqueueManyV2(handle=q, components=[x, tf.range(3)])
        raw_ops.QueueEnqueueV2(handle=q, components=[x[0] * 2.0, tf.constant(7)])
        one = raw_ops.QueueDequeueV2(handle=q, component_types=kinds)
        many = raw_ops.QueueDequeueManyV2(handle=q, n=3, component_types=kinds)
        return *one, *many, raw_ops.QueueSizeV2(handle=q)

    def padded(x):
        q = raw_ops.PaddingFIFOQueueV2(component_types=[tf.float32], shapes=[[None]], shared_name="suite_padding")
        raw_ops.QueueEnqueueV2(handle=q, components=[x])
        raw_ops.QueueEnqueueV2(handle=q, components=[x[:1]])
        return raw_ops.QueueDequeueManyV2(handle=q, n=2, component_types=[tf.float32])

    def first_of_all(x):
        q = raw_ops.PriorityQueueV2(component_types=[tf.float32], shapes=[[]], shared_name="suite_priority")
        for rank, place in [(3, 0), (1, 1), (2, 2)]:
            raw_ops.QueueEnqueueV2(handle=q, components=[tf.constant(rank, tf.int64), x[place]])
        return raw_ops.QueueDequeueManyV2(handle=q, n=3, component_types=[tf.int64, tf.float32])

    def staged(x):
        raw_ops.Stage(values=[x, x + 1.0], shared_name="suite_stage")
        return raw_ops.Unstage(dtypes=[tf.float32, tf.float32], shared_name="suite_stage")

    def gathered(x):
        handle = raw_ops.ResourceConditionalAccumulator(dtype=tf.float32, shape=[3], shared_name="suite_sum")
        for step in range(2):
            raw_ops.ResourceAccumulatorApplyGradient(handle=handle, local_step=tf.constant(step, tf.int64), gradient=x * (step + 1.0))
        return raw_ops.ResourceAccumulatorTakeGradient(handle=handle, num_required=2, dtype=tf.float32)

    def mapped(x):
        m = raw_ops.EmptyTensorMap()
        for k in [1, 2, 1]:
            m = raw_ops.TensorMapInsert(input_handle=m, key=tf.constant(k), value=x * float(k))
        found = raw_ops.TensorMapLookup(input_handle=m, key=tf.constant(2), value_dtype=tf.float32)
        return found, raw_ops.TensorMapSize(input_handle=m), raw_ops.TensorMapHasKey(input_handle=m, key=tf.constant(3))

    yield Case("FIFOQueueV2", queue, (d.f(3, 2),))
    yield Case("PaddingFIFOQueueV2", padded, (d.f(3),))
    yield Case("PriorityQueueV2", first_of_all, (d.f(3),))
    yield Case("Stage", staged, (d.f(3),))
    yield Case("ResourceConditionalAccumulator", gathered, (d.f(3),))
    yield Case("TensorMapInsert", mapped, (d.f(3),))


def drawn(d: Draw) -> Iterator[Case]:
    """What chance decides from a seed, windows that are looked at, messages."""
    import tensorflow as tf

    boxes = np.array([[[0.1, 0.2, 0.7, 0.9], [0.5, 0.0, 1.0, 0.4]]], f32)
    yield raw("StatelessSampleDistortedBoundingBox", ints(90, 120, 3), boxes, f32(0.3), ints(5, 7))
    yield raw("SampleDistortedBoundingBoxV2", ints(90, 120, 3), boxes, f32(0.3), seed=5, seed2=9)
    for op in ["FractionalMaxPool", "FractionalAvgPool"]:
        yield raw(op, d.f(1, 9, 8, 2), pooling_ratio=[1.0, 1.4, 1.7, 1.0], deterministic=True, seed=3, seed2=4)
    for op in ["ExtractGlimpse", "ExtractGlimpseV2"]:
        yield raw(op, d.f(2, 6, 7, 2), ints(3, 4), d.unit(2, 2), uniform_noise=False, noise="zero")
    yield Case("ParseSequenceExampleV2", steps)

    def there_and_back(x):
        sparse = tf.sparse.from_dense(x)
        return tf.io.deserialize_many_sparse(tf.io.serialize_many_sparse(sparse), tf.float32).values

    yield Case("SerializeManySparse", there_and_back, (d.f(3, 4),))
    for pattern in [r"a{", r"[[a]", r"\Qa.b\E", r"x{e}"]:
        yield Case(f"RegexReplace({pattern})", lambda p=pattern: tf.strings.regex_replace("xa{e} [a a.b x{e}", p, r"<\0>"))


def steps():
    import tensorflow as tf

    floats = [tf.train.Feature(float_list=tf.train.FloatList(value=[i, i + 0.5])) for i in range(3)]
    lists = tf.train.FeatureLists(feature_list={"f": tf.train.FeatureList(feature=floats)})
    context = tf.train.Features(feature={"n": tf.train.Feature(int64_list=tf.train.Int64List(value=[4]))})
    one = tf.train.SequenceExample(context=context, feature_lists=lists).SerializeToString()
    wanted = {"n": tf.io.FixedLenFeature([], tf.int64)}
    of_steps = {"f": tf.io.FixedLenSequenceFeature([2], tf.float32)}
    context, found, lengths = tf.io.parse_sequence_example([one, one], wanted, of_steps)
    return context["n"], found["f"], lengths["f"]


FAMILIES = (unary, binary, products, reductions, moves, windows, text, sparse, control, quantized, kept_values, drawn)
