"""What options of layers are varied over, and what each class is given beside them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from world import major

Pools = dict[str, list[Any]]

# Options that say nothing of a config, or that other checks vary: names; what quantizing sets; where vocabularies come from.
LEFT = {
    "adjustment", "autocast", "dynamic", "gptq_unpacked_column_size", "input_tensor", "name", "quantization_config", "type_spec",
}
# Classes that are no layers to call by themselves, or hold code of another framework.
NOT_CALLED = {
    "AbstractRNNCell", "DenseFeatures", "FlaxLayer", "InputLayer", "JaxLayer", "Lambda", "Layer", "Pipeline", "TFSMLayer",
    "TorchModuleWrapper", "Wrapper",
}  # fmt: skip
WORDS = ["earth", "wind", "and", "fire", "sea"]


@dataclass(frozen=True)
class Given:
    """A class's inputs, the options that it can't do without, and values of options as it takes them."""

    inputs: list[np.ndarray]
    base: dict[str, Any] = field(default_factory=dict)
    pools: Pools = field(default_factory=dict)
    # Given as arguments of their own, not as one list.
    several: bool = False


def instances(keras: Any) -> Pools:
    """Initializers, regularizers, constraints and activations, over the options of each."""
    i, r, c = keras.initializers, keras.regularizers, keras.constraints
    plain = [
        "zeros", i.Ones(), i.Constant(0.5), i.RandomNormal(0.1, 0.2, seed=3), i.RandomUniform(-0.3, 0.4, seed=4), "random_normal",
        i.TruncatedNormal(0.2, 0.1, seed=5), i.VarianceScaling(2.0, "fan_out", "uniform", seed=6), i.GlorotNormal(seed=7),
    ]  # fmt: skip
    kernel = [
        "he_normal", *plain, i.GlorotUniform(seed=8), i.HeNormal(seed=9), i.HeUniform(seed=10), i.LecunNormal(seed=11), i.LecunUniform(),
        i.VarianceScaling(0.5, "fan_avg", "truncated_normal"), i.VarianceScaling(1.5, "fan_in", "untruncated_normal", seed=2),
        i.Orthogonal(1.5, seed=12), i.Identity(0.7),
    ]  # fmt: skip
    regularizers = ["l2", r.L1(0.02), r.L2(0.03), r.L1L2(0.01, 0.02), r.OrthogonalRegularizer(0.05, mode="columns"), "l1_l2"]
    constraints = ["non_neg", c.MaxNorm(1.5, axis=0), c.MinMaxNorm(0.1, 2.0, 0.8, axis=0), c.NonNeg(), c.UnitNorm(axis=0), "max_norm"]
    functions = [n for n in dir(keras.activations) if not n.startswith("_") and n not in ("deserialize", "get", "glu", "serialize")]
    leaky = keras.layers.LeakyReLU(**{"alpha" if major(keras) == 2 else "negative_slope": 0.1})
    return {
        "kernel_initializer": kernel, "initializer": plain, "regularizer": regularizers, "constraint": constraints,
        "activation": [*functions, keras.layers.ReLU(max_value=1.5), leaky],
    }  # fmt: skip


def some(name: str, option: str, values: list[Any]) -> list[Any]:
    """All for the classes that are there for them, and for each of the others some, which differ."""
    if name in ("Activation", "Dense"):
        return values
    start = zlib.crc32(f"{name} {option}".encode()) % len(values)
    return (values[start:] + values[:start])[:4]


def pools(keras: Any, name: str, rank: int) -> Pools:
    """Values by an option's name, for a class of this rank."""
    made = {option: some(name, option, values) for option, values in instances(keras).items()}
    each = lambda *values: tuple(values[:rank])  # noqa: E731
    found: Pools = {
        "activation": made["activation"],
        "recurrent_activation": ["sigmoid", "hard_sigmoid", "relu"],
        "activity_regularizer": ["l2", keras.regularizers.L1(0.01)],
        "alpha": [0.3, 1.2],
        "axis": [-1, 1, [1, 2]],
        "center": [False, True],
        "crop_to_aspect_ratio": [True, False],
        "data_format": ["channels_first", "channels_last"],
        "depth_multiplier": [2, 3],
        "dilation_rate": [2, each(1, 2, 1)],
        "dropout": [0.3, 0.0],
        "dtype": ["float64", "float16", "mixed_float16", "float32"],
        "epsilon": [1e-5, 0.1],
        "fill_mode": ["constant", "nearest", "wrap"],
        "fill_value": [0.5, 1.0],
        "filters": [4, 6],
        "go_backwards": [True, False],
        "groups": [2, 3],
        "implementation": [2, 3],
        "interpolation": ["nearest", "bilinear"],
        "keepdims": [True, False],
        "kernel_size": [2, each(3, 2, 1)],
        "lora_alpha": [3, 0.5],
        "lora_rank": [1, 2],
        "mask_value": [0.0, 1.0],
        "mask_zero": [True, False],
        "max_value": [1.0, None],
        "momentum": [0.9, 0.5],
        "negative_slope": [0.2, 0.0],
        "noise_shape": [(2, 1, 6), (None, 1, 6)],
        "output_padding": [1, each(0, 1, 0)],
        "padding": ["same", "valid"],
        "pool_size": [3, each(2, 1, 3)],
        "rate": [0.2, 0.5],
        "recurrent_dropout": [0.2, 0.0],
        "renorm": [True, False],
        "renorm_clipping": [{"rmax": 3.0, "rmin": 0.3, "dmax": 5.0}],
        "renorm_momentum": [0.9, 0.8],
        "reset_after": [False, True],
        "return_sequences": [True, False],
        "return_state": [True, False],
        "scale": [False, True],
        "score_mode": ["concat", "dot"],
        "seed": [5, None],
        "shared_axes": [[1], [1, 2]],
        "sparse": [False, True],
        "stateful": [True, False],
        "strides": [2, each(1, 2, 1)],
        "synchronized": [True, False],
        "theta": [0.5, 0.1],
        "threshold": [0.2, 0.0],
        "time_major": [True, False],
        "trainable": [False, True],
        "unit_forget_bias": [False, True],
        "units": [3, 5],
        "unroll": [True, False],
        "use_bias": [False, True],
        "use_cudnn": [False, True],
        "use_gate": [True, False],
        "use_scale": [True, False],
        "value_range": [(0, 255), (0.0, 1.0)],
        "zero_output_for_mask": [True, False],
    }  # fmt: skip
    for part in ("kernel", "recurrent", "bias", "beta", "gamma", "moving_mean", "moving_variance", "depthwise", "pointwise", "embeddings"):
        found[f"{part}_initializer"] = made["initializer" if part in ("bias", "beta", "gamma") else "kernel_initializer"]
        found[f"{part}_regularizer"], found[f"{part}_constraint"] = made["regularizer"], made["constraint"]
    for part in ("moving_mean", "moving_variance", "alpha"):
        found[f"{part}_initializer"] = made["initializer"]
    found["alpha_regularizer"], found["alpha_constraint"] = made["regularizer"], made["constraint"]
    return found


def apart(name: str) -> set[str]:
    """Options that aren't used together: Keras 3 gives other numbers on CPUs for channels first than for channels last."""
    return {"data_format", "dilation_rate"} if name.startswith(("Depthwise", "Separable")) else {"none"}


def rank_of(name: str) -> int:
    return next((int(n) for n in "123" if f"{n}D" in name), 2)


def given(keras: Any, name: str, rng: np.random.Generator) -> Given:
    """What a class is called with."""
    la, two = keras.layers, major(keras) == 2
    floats = lambda *shape: rng.standard_normal(shape).astype("float32")  # noqa: E731
    rank = rank_of(name)
    line, image = floats(2, 5, 6), floats(2, *[6] * (rank + 1))
    picture = rng.uniform(0, 255, (2, 8, 10, 3)).astype("float32")
    numbers, strings = rng.integers(0, 4, (3, 4)), rng.choice([*WORDS, "ice"], (3, 2))
    modes = {"output_mode": ["one_hot", "multi_hot", "count", "tf_idf", "int"], "sparse": [False, True]}
    inner = [la.LSTM(3), la.GRU(3, return_sequences=True), la.SimpleRNN(3, return_state=True, activation="relu")]
    cells = lambda: [la.LSTMCell(3), la.GRUCell(4), la.SimpleRNNCell(3, activation="relu")]  # noqa: E731
    lookup = {"num_oov_indices": [2, 0], "invert": [True, False], "max_tokens": [9, 7], "pad_to_max_tokens": [True, False], **modes}
    lookup |= {"oov_method": ["farmhash", "floormod"], "salt": [[3, 4], [7, 9]], "idf_weights": [[0.3, 0.5, 0.7, 0.1, 0.2]]}
    special: dict[str, Callable[[], Given]] = {
        "Activation": lambda: Given([line], {"activation": "relu"}),
        "ActivityRegularization": lambda: Given([line], {}, {"l1": [0.1, 0.0], "l2": [0.2, 0.0]}),
        "CategoryEncoding": lambda: Given([numbers], {"num_tokens": 4}, {"num_tokens": [5, 6], **modes}),
        "CenterCrop": lambda: Given([picture], {"height": 4, "width": 5}, {"height": [3, 6], "width": [2, 7]}),
        "Concatenate": lambda: Given([line, line[::-1]]),
        "Discretization": lambda: Given(
            [line], {"bin_boundaries": [-1.0, 0.0, 0.5]}, {"bin_boundaries": [[0.1], [-0.5, 0.5]], "num_bins": [None], **modes}
        ),
        "Dot": lambda: Given([line, line * 2], {"axes": 2}, {"axes": [1, -1, (2, 2)], "normalize": [True, False]}),
        "EinsumDense": lambda: Given(
            [line], {"equation": "abc,cd->abd", "output_shape": (None, 4)}, {"equation": ["abc,cd->abd"], "output_shape": [(5, 3)], "bias_axes": ["d", "bd"]}
        ),
        "Embedding": lambda: Given(
            [numbers], {"input_dim": 7, "output_dim": 3}, {"input_dim": [5, 9], "output_dim": [2, 4], "input_length": [4], "weights": [None]}
        ),
        "GroupNormalization": lambda: Given([image], {"groups": 3}, {"groups": [2, 6, -1], "axis": [-1, 1]}),
        "GroupQueryAttention": lambda: Given(
            [line, line * 0.5], {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
            {"head_dim": [2, 5], "num_query_heads": [6, 2], "num_key_value_heads": [1, 2], "flash_attention": [False, None], "sliding_window": [2, 3]}, True,
        ),
        "HashedCrossing": lambda: Given([strings[:, :1], numbers[:, :1]], {"num_bins": 5}, {"num_bins": [7, 9], **modes, "dtype": ["int64", "int32"]}),
        "Hashing": lambda: Given([strings], {"num_bins": 4}, {"num_bins": [5, 8], "mask_value": ["and", ""], "salt": [3, [5, 6]], **modes}),
        "IntegerLookup": lambda: Given(
            [numbers], {"vocabulary": [3, 1, 7, 0, 2]}, {**lookup, "vocabulary": [[1, 2, 3, 4, 5]], "mask_token": [0, 9], "oov_token": [-2, 8], "vocabulary_dtype": ["int32", "int64"]}
        ),
        "Masking": lambda: Given([line]),
        "MelSpectrogram": lambda: Given(
            [floats(2, 300)], {"fft_length": 64, "sequence_stride": 32, "num_mel_bins": 8},
            {
                "fft_length": [32, 128], "sequence_stride": [16, 50], "sequence_length": [40, 64], "window": ["hamming", None], "sampling_rate": [8000, 22050], "num_mel_bins": [5, 12],
                "min_freq": [0.0, 50.0], "max_freq": [3000.0, None], "power_to_db": [False, True], "top_db": [40.0, 20.0], "mag_exp": [1.0, 3.0], "min_power": [1e-6, 1e-3], "ref_power": [0.5, 2.0],
            },
        ),
        "MultiHeadAttention": lambda: Given(
            [floats(2, 3, 4, 6), floats(2, 3, 4, 6)], {"num_heads": 2, "key_dim": 3},
            {
                "num_heads": [1, 3], "key_dim": [2, 5], "value_dim": [2, 4], "output_shape": [5, (2, 3)], "attention_axes": [(1, 2), (2,), None],
                "flash_attention": [False, None], "sliding_window": [2, 3],
            }, True,
        ),
        "Normalization": lambda: Given(
            [line], {"mean": 0.3, "variance": 2.0}, {"mean": [0.1, -0.4], "variance": [1.5, 0.5], "axis": [None], "invert": [True, False]}
        ),
        "Permute": lambda: Given([image], {"dims": (1, 2, 3)}, {"dims": [(3, 1, 2), (2, 1, 3)]}),
        "RandomFourierFeatures": lambda: Given(
            [floats(3, 6)], {"output_dim": 4}, {"output_dim": [5, 3], "kernel_initializer": ["laplacian", "gaussian"], "scale": [2.0, 0.5], "trainable": [True, False]}
        ),
        "RepeatVector": lambda: Given([floats(3, 4)], {"n": 2}, {"n": [3, 1]}),
        "Rescaling": lambda: Given([line], {"scale": 0.5}, {"scale": [2.0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], "offset": [0.5, -1]}),
        "Reshape": lambda: Given([line], {"target_shape": (30,)}, {"target_shape": [(6, 5), (-1, 3), (2, 3, 5)]}),
        "Resizing": lambda: Given(
            [picture], {"height": 5, "width": 7},
            {
                "height": [12, 4], "width": [6, 15], "antialias": [True, False], "pad_to_aspect_ratio": [True, False], "fill_mode": ["constant"],
                "interpolation": ["nearest", "bicubic", "lanczos3", "lanczos5", "area", "gaussian", "mitchellcubic"] if two else ["nearest", "bicubic", "lanczos3", "lanczos5"],
            },
        ),
        "ReversibleEmbedding": lambda: Given(
            [numbers], {"input_dim": 7, "output_dim": 3},
            {"input_dim": [5, 9], "output_dim": [2, 4], "tie_weights": [False, True], "reverse_dtype": ["float16"], "logit_soft_cap": [2.0], "weights": [None]},
        ),
        "RMSNormalization": lambda: Given([line], {}, {"axis": [-1, 1]}),
        "SpectralNormalization": lambda: Given(
            [image], {"layer": la.Conv2D(3, 2)}, {"layer": [la.Dense(4), la.Conv2D(2, 3, padding="same")], "power_iterations": [2, 3]}
        ),
        "STFTSpectrogram": lambda: Given(
            [floats(2, 100, 2)], {"frame_length": 16},
            {
                "mode": ["log", "magnitude", "psd", "real", "imag", "angle", "stft"], "frame_length": [20, 32], "frame_step": [5, 8], "fft_length": [32, 64],
                "window": ["hamming", None], "periodic": [True, False], "scaling": ["spectrum", None, "density"], "expand_dims": [True, False],
            },
        ),
        "StringLookup": lambda: Given(
            [strings], {"vocabulary": WORDS}, {**lookup, "vocabulary": [["a", "and", "b", "c", "fire"]], "mask_token": ["", "sea"], "oov_token": ["?", "and"], "encoding": ["utf-8"]}
        ),
        "TextVectorization": lambda: Given(
            [np.array([["Earth, WIND and"], ["fire and-fire"], [""]])], {"vocabulary": WORDS},
            {
                **modes, "max_tokens": [9, 7], "standardize": ["lower", "strip_punctuation", None], "split": ["character", None, "whitespace"], "ngrams": [2, (1, 3)],
                "output_sequence_length": [4, 2], "pad_to_max_tokens": [True, False], "vocabulary": [["and", "fire", "a", "b", "c"]], "idf_weights": [[0.3, 0.5, 0.7, 0.1, 0.2]],
                "ragged": [False], "encoding": ["utf-8"], "dtype": ["string"],
            },
        ),
        "Bidirectional": lambda: Given(
            [line], {"layer": la.LSTM(2)},
            {"layer": inner, "merge_mode": ["sum", "mul", "ave", None, "concat"], "backward_layer": [la.LSTM(2, go_backwards=True, use_bias=False)], "weights": [None]},
        ),
        "TimeDistributed": lambda: Given([image], {"layer": la.Dense(4)}, {"layer": [la.Conv1D(3, 2), la.LSTM(3), la.BatchNormalization()]}),
        "RNN": lambda: Given([line], {"cell": la.LSTMCell(3)}, {"cell": [*cells(), cells()]}),
        "StackedRNNCells": lambda: Given([line], {"cells": cells()}, {"cells": [cells()[:2], cells()[1:]]}),
        "SpatialDropout1D": lambda: Given([line], {"rate": 0.3}, {"noise_shape": [None]}),
        "PReLU": lambda: Given([image], {}, {}),
        "UnitNormalization": lambda: Given([line]),
        "Softmax": lambda: Given([line]),
        "MaxNumBoundingBoxes": lambda: Given([picture], {"max_number": 3}, {"max_number": [4, 5]}),
    }  # fmt: skip
    if name in special:
        return special[name]()
    if name in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"):
        return Given([line, line[::-1]])
    if name.endswith("Attention"):
        return Given([line, line * 0.5, line + 1])
    if name.startswith(("Random", "Auto", "Aug", "CutMix", "MixUp", "Rand", "Solar", "Equal", "Contrast")):
        return augmentation(name, picture)
    if name in ("LSTM", "GRU", "SimpleRNN") or name.endswith("Cell") or "CuDNN" in name:
        return Given([line], {"units": 4})
    if name.startswith("ConvLSTM"):
        return Given([floats(2, 3, *[6] * (rank + 1))], {"filters": 2, "kernel_size": 2}, {"filters": [3, 1]})
    if "Depthwise" in name:
        return Given([image], {"kernel_size": 2})
    if "Conv" in name or "LocallyConnected" in name:
        # What XLA makes of channels first in space on CPUs isn't what Keras makes of channels last.
        orders = ["channels_last"] if name == "Conv3D" else ["channels_last", "channels_first"]
        padding = ["same", "valid", "causal"] if name in ("Conv1D", "SeparableConv1D") else ["same", "valid"]
        return Given([image], {"filters": 6, "kernel_size": 2}, {"padding": padding, "implementation": [1, 2, 3], "data_format": orders})
    if name.startswith("Adaptive"):
        return Given([image], {"output_size": 2}, {"output_size": [3, (2, 3, 4)[:rank], 4]})
    if name.startswith("Cropping"):
        own = {1: [2, (1, 2)], 2: [1, (1, 2), ((1, 0), (2, 1))], 3: [1, (1, 2, 0), ((1, 0), (2, 1), (0, 1))]}
        return Given([image], {}, {"cropping": own[rank]})
    if name.startswith("ZeroPadding"):
        own = {1: [2, (1, 2)], 2: [1, (1, 2), ((1, 0), (2, 1))], 3: [1, (1, 2, 0), ((1, 0), (2, 1), (0, 1))]}
        return Given([image], {}, {"padding": own[rank]})
    if name.startswith("UpSampling"):
        more = ["area", "bicubic", "gaussian", "lanczos3", "lanczos5", "mitchellcubic"] if two else ["bicubic", "lanczos3"]
        return Given([image], {}, {"size": [3, 1] if rank == 1 else [3, (1, 2, 3)[:rank]], "interpolation": ["bilinear", "nearest", *more]})
    if "Pooling" in name:
        return Given([image], {} if "Global" in name else {"pool_size": 2})
    if name in ("Dense", "EinsumDense"):
        return Given([line], {"units": 4})
    if "Dropout" in name:
        return Given([image if "Spatial" in name else line], {"rate": 0.3})
    if name == "GaussianNoise":
        return Given([line], {"stddev": 0.3}, {"stddev": [0.1, 0.5]})
    return Given([image])


def augmentation(name: str, picture: np.ndarray) -> Given:
    """Layers that leave pictures alone but while training."""
    pair = [(0.1, 0.3), 0.2]
    base: dict[str, Any] = {}
    if name == "RandomCrop":
        return Given([picture], {"height": 4, "width": 5}, {"height": [6, 3], "width": [7, 4], "factor": [None]})
    if name in ("RandomTranslation", "RandomZoom"):
        base = {"height_factor": 0.2, "width_factor": 0.1}
    elif name.startswith("Random") and name not in ("RandomFlip", "RandomShear", "RandomInvert", "RandomErasing", "RandomColorJitter"):
        base = {"factor": 0.2}
    own = {
        "factor": [None] if name in ("RandomFlip", "RandomShear", "RandomColorJitter", "AutoContrast") else pair,
        "mode": ["horizontal", "vertical"],
        "interpolation": ["nearest", "bilinear"],
        "fill_mode": ["constant", "wrap", "nearest"],
        "kernel_size": [3, 5],
        "bounding_box_format": ["xyxy", "rel_xyxy"],
        "scale": [(0.1, 0.3)] if name == "RandomErasing" else [0.5, 0.7],
    }  # fmt: skip
    for key in ("height_factor", "width_factor", "x_factor", "y_factor", "brightness_factor", "contrast_factor", "saturation_factor", "hue_factor"):
        own[key] = pair
    own |= {"sigma": [1.5, 0.5], "num_ops": [1, 3], "num_chains": [2, 4], "chain_depth": [1, 2], "all_ops": [False, True], "alpha": [0.5, 0.7]}
    own |= {"bins": [128, 64], "clip_limit": [2.0, 3.0], "tile_grid_size": [(4, 4)], "addition_factor": pair, "threshold_factor": pair}
    return Given([picture], base, own)
